"""The decision of the day, from queues to one answer per customer (SPEC 7, 8)."""
