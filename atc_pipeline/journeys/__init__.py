"""``journeys.yaml``: what marketers write (``document``), its expressions (``dialect``), what the engine runs (``portfolio``)."""
