"""What every table is, as data, and how a day reads and writes them."""
