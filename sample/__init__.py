"""Sample event sources for the demo: each writes a landing zone, and nothing else in the project imports them."""
