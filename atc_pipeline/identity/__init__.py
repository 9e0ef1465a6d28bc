"""Who is who: the map from every id to a customer, and which ids and rows are a person's (SPEC 2)."""
