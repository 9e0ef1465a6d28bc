"""What leaves: which message each customer is due, when, and why not (SPEC 9)."""
