"""Removing a person from everything that is kept."""
