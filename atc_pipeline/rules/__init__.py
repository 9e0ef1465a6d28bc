"""Rules that several rooms share, each one expression."""
