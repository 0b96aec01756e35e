"""Neural forecasters, one a file, and what they share."""
