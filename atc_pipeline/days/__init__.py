"""A day of each step, without an orchestrator: read from a store, call the room, write."""
