"""Ways out for messages, one module each."""
