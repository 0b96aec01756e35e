"""Everything that turns data into a forecast: pure functions and classes, no input or output of their own."""
