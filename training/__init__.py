"""Pairs from the archive, fitting, backtests and the verification record."""
