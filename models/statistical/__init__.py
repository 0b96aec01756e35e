"""Statistical forecasters, one a file."""
