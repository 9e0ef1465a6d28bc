"""What ``python -m atc_pipeline`` does: a module for each kind of command, each with its arguments and what it answers.

What belongs here: joining what is kept (``resources``) with what the engine makes of it. What does not: parsing as a whole, printing
(``atc_pipeline.__main__``), any rule.
"""
