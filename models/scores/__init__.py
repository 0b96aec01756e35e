"""Scores of probabilistic forecasts, the statistics behind them, and their significance."""
