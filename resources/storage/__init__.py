"""Where data lies: the lake, the landing zone, the SQL door, and how files are written whole."""
