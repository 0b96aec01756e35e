"""What data is called, where it comes from and where it is kept."""
