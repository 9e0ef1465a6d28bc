"""What happened: from lines of the landing zone to accepted events (SPEC 1)."""
