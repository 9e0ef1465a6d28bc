"""What would work for whom: learned from what came of entries, in both arms, and never from the future.

What belongs here: the model of goals, how good its probabilities were, how variants adapt, and what another policy would have earned. What
does not: what came of an entry (``outcomes``), any decision (``decision``), and which days are read (``days``).
"""
