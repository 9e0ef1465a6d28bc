"""Handing messages over, and remembering it."""
