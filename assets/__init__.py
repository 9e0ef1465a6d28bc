"""What we keep: every asset and every check, thin."""
