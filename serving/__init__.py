"""Reads published stores for people and services; runs no forecaster."""
