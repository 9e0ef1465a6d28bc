"""The decision engine: functions from Polars frames to Polars frames, and the one composition root.

What belongs here: everything that decides. What does not: orchestrators, databases, networks, clocks.
"""
