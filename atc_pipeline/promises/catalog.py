"""The catalog of promises: every one that there is, in the order of the lineage.

What belongs here: the one list of the modules. What does not: any promise (the module about its table).
"""

from atc_pipeline.promises import activation, audiences, content, customers, decision, entries, identity, learning, maturing, paths, uplift

MODULES = (identity, customers, decision, entries, maturing, learning, uplift, paths, content, activation, audiences)

PROMISES = tuple(promise for module in MODULES for promise in module.PROMISES)
