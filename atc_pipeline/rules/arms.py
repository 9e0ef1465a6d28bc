"""Arms: who is sent messages, and who is held out to see what these do (SPEC 8, step 6).

What belongs here: the words. What does not: the draw (``decision``), and what is made of it (``outcomes``).
"""

TREATED, CONTROL = "treated", "control"
ARMS = (TREATED, CONTROL)
"""Whether messages are sent: control takes the place and is sent nothing."""

POLICY, JOURNEY = "policy", "journey"
HELD_OUT_BY = (POLICY, JOURNEY)
"""Who held a control customer out: ``policy.holdout``, or else the journey's own."""
