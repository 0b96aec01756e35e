"""Interfaces over published stores."""
