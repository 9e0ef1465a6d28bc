"""The catalog: every table that there is, by name.

What belongs here: the one list of the rooms. What does not: any table (``tables`` of each room).
"""

from atc_pipeline.activation import tables as activation
from atc_pipeline.customers import tables as customers
from atc_pipeline.decision import tables as decision
from atc_pipeline.events import tables as events
from atc_pipeline.identity import tables as identity
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.learning import tables as learning
from atc_pipeline.outcomes import tables as outcomes
from atc_pipeline.tables.table import Table

ROOMS = (events, identity, customers, decision, outcomes, learning, activation)


def tables(portfolio: Portfolio) -> dict[str, Table]:
    """Return every table of the lake as it is for this portfolio, by name."""
    entries = [entry for room in ROOMS for entry in room.TABLES]
    every = [entry if isinstance(entry, Table) else entry(portfolio) for entry in entries]
    names = {table.name: table for table in every}
    assert len(names) == len(every), "two tables have one name, and would be written to one folder of the lake"
    return names
