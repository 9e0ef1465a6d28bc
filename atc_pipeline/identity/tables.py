"""Tables of who is who: their columns and types, and the words in them.

What belongs here: what the columns are. What does not: how rows come about (``map``).
"""

import polars as pl

from atc_pipeline.tables.table import AT

IDENTITY_MAP = {
    "date": pl.Date(),
    "id_type": pl.String(),
    "id": pl.String(),
    "customer_id": pl.String(),
    "valid_from": pl.Date(),
    "arm_id": pl.String(),
    "is_seen": pl.Boolean(),
    "seen_at": AT,
}
"""``arm_id``: the name under which the customer was first known. ``is_seen``: false of a user whom only an alias has named so far.
``seen_at``: of visitors, the first time on the day they were first seen, which tells whom of several a new user was known as."""

IDENTITY_CHANGES = {
    "date": pl.Date(),
    "message_id": pl.String(),
    "id_type": pl.String(),
    "id": pl.String(),
    "customer_id": pl.String(),
    "change": pl.String(),
}

ANONYMOUS, USER = "anonymous", "user"
"""The two types of id, in the order of the map."""

MERGED, CLAIMED = "merged", "claimed"
"""Changes that absorb somebody known before today: a user by an alias, a visitor by the user it turned out to be."""

IGNORED = ("second_alias", "alias_cycle", "alias_of_nobody", "second_claim")
"""Why an alias changes nothing: its ``previousId`` has one already, or is who ``userId`` is; one of the two names nobody that can be
merged; or the visitor it names has a user already."""
