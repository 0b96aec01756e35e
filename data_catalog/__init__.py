"""What data is called, where it comes from and where it is kept."""

import sqlite3  # noqa: F401  # before eccodes, whose wheel brings an SQLite of 2018: the first one in a process serves it all
