"""Tables of who is who, and the words in them.

What belongs here: what the tables are. What does not: how rows come about (``map``).
"""

import polars as pl

from atc_pipeline.tables.table import DATE, MOMENT, Column, Entry, Table

ANONYMOUS, USER = "anonymous", "user"
"""The two types of id, in the order of the map."""

MERGED, CLAIMED = "merged", "claimed"
"""Changes that absorb somebody known before today: a user by an alias, a visitor by the user it turned out to be."""

IGNORED = ("second_alias", "alias_cycle", "alias_of_nobody", "second_claim")
"""Why an alias changes nothing: its ``previousId`` has one already, or is who ``userId`` is; one of the two names nobody that can be
merged; or the visitor it names has a user already."""

IDENTITY_MAP = Table(
    "identity_map",
    "One row per id known by the day, user or anonymous: the customer it is, and since when.",
    key=("id_type", "id"),
    columns=(
        DATE,
        Column("id_type", pl.String(), "Whether it is a user's id or a visitor's.", one_of=(ANONYMOUS, USER)),
        Column("id", pl.String(), "userId or anonymousId, as it arrived."),
        Column(
            "customer_id",
            pl.String(),
            "Who it is: the end of a user's aliases; of a visitor, the user first seen with, else `anon:<anonymousId>`.",
        ),
        Column("valid_from", pl.Date(), "The arrival day since which it has been this customer."),
        Column("arm_id", pl.String(), "The name under which that customer was first known: holdouts and exploration are drawn by it."),
        Column("is_seen", pl.Boolean(), "False of a user whom only an alias has named so far, as its previousId."),
        Column(
            "seen_at",
            MOMENT,
            "The first time of a visitor on the day first seen, which tells whom of several a new user was known as; null of users.",
            is_nullable=True,
        ),
    ),
)

IDENTITY_CHANGES = Table(
    "identity_changes",
    "One row per customer absorbed on the day, and per alias that was ignored: what merged when, and why not.",
    key=("message_id", "id_type", "id"),
    columns=(
        DATE,
        Column("message_id", pl.String(), "The event that says so."),
        Column(
            "id_type",
            pl.String(),
            "user for an alias of a user, anonymous for a visitor who turned out to be one, or is said to.",
            one_of=(ANONYMOUS, USER),
        ),
        Column("id", pl.String(), "Whose customer changed, or who an ignored alias was about.", is_nullable=True),
        Column("customer_id", pl.String(), "Who it is now; null where nobody was named.", is_nullable=True),
        Column(
            "change",
            pl.String(),
            "merged or claimed: a customer of the day before is absorbed. The others: why an alias is ignored, second_claim of a visitor.",
            one_of=(MERGED, CLAIMED, *IGNORED),
        ),
    ),
)

TABLES: tuple[Entry, ...] = (IDENTITY_MAP, IDENTITY_CHANGES)
