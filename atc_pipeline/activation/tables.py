"""Tables of what leaves, and the words in them: why a message is withheld, and what became of it.

What belongs here: what the tables are. What does not: how rows come about (``messages``), or how messages are sent
(``resources.delivery``).
"""

import polars as pl

from atc_pipeline.tables.table import CUSTOMER_ID, DATE, JOURNEY_ID, MOMENT, Column, Entry, Table

ALREADY_SENT, KEY_COLLISION = "already_sent", "key_collision"
WITHHELD = ("no_consent", "suppressed", "blackout", ALREADY_SENT, KEY_COLLISION)
"""Why a message is not sent, in the order tested."""

WITHDRAWN, STALE, NOT_ON_THE_LIST = "withdrawn", "stale", "not_on_the_list"
"""Why a message that was planned is withheld after all: its customer has said no, left the journey or is gone; it is too late for it; or
only others may be written to here."""

WOULD_SEND, PENDING, NOT_TRIED, WAITING, HELD = "would_send", "pending", "not_tried", "waiting", "held"
STATUSES = (WOULD_SEND, "delivered", "failed", "unknown", PENDING, NOT_TRIED, WAITING, HELD, "withheld")
"""What a message may come to."""
TO_COME = (WAITING, HELD)
"""What a message has come to that goes out later, by itself or when somebody says so."""
MAY_HAVE_ARRIVED = ("delivered", "unknown", PENDING)
"""What a message has come to that stands, with the decision it was sent for, whatever is decided later."""
TROUBLES = ("failed", "unknown", PENDING, NOT_TRIED)
"""What a message that was to be sent may end as, other than delivered."""

KEY = ("idempotency_key", "customer_id")
"""A key alone, unless somebody finds two texts with one SHA-256 (``KEY_COLLISION``)."""

CHANNEL = Column("channel", pl.String(), "The channel of journeys.yaml.")

OUTBOUND_MESSAGES = Table(
    "outbound_messages",
    "One row per journey step due for a treated customer on the day, withheld ones with the reason.",
    key=KEY,
    columns=(
        DATE,
        Column("idempotency_key", pl.String(), "The same message has the same key forever: 32 hexadecimal digits."),
        CUSTOMER_ID,
        JOURNEY_ID,
        Column("step_day", pl.Int64(), "Day of the journey the step is for, from 1.", at_least=1),
        CHANNEL,
        Column("content", pl.String(), "What is sent, as the step names it."),
        Column("variant", pl.String(), "The content variant, if the step names one.", is_nullable=True),
        Column("send_at", MOMENT, "The customer's first best hour after the day, in UTC."),
        Column("withheld", pl.String(), "Why it is not sent; null = it is.", is_nullable=True, one_of=WITHHELD),
    ),
)

ACTIVATION = Table(
    "activation",
    "One row per message of the day and what became of it: would_send in a dry run, delivered, failed, unknown, withheld ...",
    key=KEY,
    columns=(
        DATE,
        Column("idempotency_key", pl.String(), "The message."),
        CUSTOMER_ID,
        JOURNEY_ID,
        CHANNEL,
        Column(
            "status",
            pl.String(),
            "What became of it. would_send: a dry run; failed: it has certainly not arrived; unknown: perhaps; pending: another process "
            "sends it; not_tried: its channel was given up before its turn; waiting: for its hour, or a stopped channel; held: "
            "its channel has many more than on other days, and nobody has accepted that.",
            one_of=STATUSES,
        ),
        Column("reason", pl.String(), "Why it was not delivered, or is withheld; a receiver's words are cut.", is_nullable=True),
        Column("sent_at", MOMENT, "When it was last handed over; null = never.", is_nullable=True),
        Column("attempts", pl.Int64(), "How often it was handed over.", at_least=0),
        Column("provider_id", pl.String(), "What the receiver calls it, where it said so.", is_nullable=True),
    ),
)

TABLES: tuple[Entry, ...] = (OUTBOUND_MESSAGES, ACTIVATION)
