"""What came of it: which journeys serve which micro-segments."""
