"""What another portfolio would have decided, and whether this one would decide the same again.

What belongs here: replaying days in memory, comparing two courses of them, and telling the difference. What does not: how a day is
decided (``days``).
"""
