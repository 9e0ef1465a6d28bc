"""Tables of what leaves, and the words in them: why a message is withheld, and what became of it.

What belongs here: what the tables are. What does not: how rows come about (``messages``), or how messages are sent
(``resources.delivery``).
"""

import polars as pl

from atc_pipeline.tables.table import CUSTOMER_ID, DATE, JOURNEY_ID, MOMENT, Column, Entry, Table

ALREADY_SENT, KEY_COLLISION = "already_sent", "key_collision"
WITHHELD = ("no_consent", "suppressed", "blackout", ALREADY_SENT, KEY_COLLISION)
"""Why a message is not sent, in the order tested."""

WOULD_SEND, PENDING, NOT_TRIED = "would_send", "pending", "not_tried"
STATUSES = (WOULD_SEND, "delivered", "failed", "unknown", PENDING, NOT_TRIED, "withheld")
"""What a message may come to."""
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
            "sends it; not_tried: its channel was given up before its turn.",
            one_of=STATUSES,
        ),
        Column("reason", pl.String(), "Why it was not delivered, or is withheld; a receiver's words are cut.", is_nullable=True),
    ),
)

AUDIENCE_ID = Column("audience_id", pl.String(), "An audience of journeys.yaml; of one that is no more in it, until its members are out.")
DESTINATION = Column("destination", pl.String(), "Where it is kept in step, as journeys.yaml names it.")

AUDIENCE_MEMBERS = Table(
    "audience_members",
    "One row per audience and customer who is to be in it at the end of the day: treated, with consent and something to be known by.",
    key=("audience_id", "customer_id"),
    columns=(
        DATE,
        Column("audience_id", pl.String(), "An audience of journeys.yaml."),
        CUSTOMER_ID,
        Column("identifiers", pl.String(), "What a destination knows the customer by, as JSON text: SHA-256 of what was normalised."),
        Column("fields", pl.String(), "What else the audience's destinations are told, as JSON text.", is_nullable=True),
        Column("checksum", pl.String(), "16 hexadecimal digits of identifiers and fields."),
    ),
)

ADD, UPDATE, REMOVE = "add", "update", "remove"
OPERATIONS = (ADD, UPDATE, REMOVE)
MEMBER, LEFT, CONSENT, ERASED, CHANGED = "member", "left", "consent", "erased", "changed"
CAUSES = (MEMBER, LEFT, CONSENT, ERASED, CHANGED)
ACKNOWLEDGED, FAILED, UNKNOWN, HELD = "acknowledged", "failed", "unknown", "held"
SYNC_STATUSES = (WOULD_SEND, ACKNOWLEDGED, FAILED, UNKNOWN, HELD)
"""What may become of a difference; whatever is not acknowledged is a difference again the next time."""

AUDIENCE_SYNCS = Table(
    "audience_syncs",
    "One row per audience, destination and customer who is not there as they should be, and what became of it.",
    key=("audience_id", "destination", "customer_id"),
    columns=(
        DATE,
        AUDIENCE_ID,
        DESTINATION,
        CUSTOMER_ID,
        Column("operation", pl.String(), "update: out as they were sent, and in again as they are.", one_of=OPERATIONS),
        Column(
            "cause",
            pl.String(),
            "member: is to be there. left: is no member any more. consent: withdrew it. erased. changed: has other identifiers or fields; "
            "or, with remove, is known by another name.",
            one_of=CAUSES,
        ),
        Column(
            "status",
            pl.String(),
            "would_send: a dry run, or not the latest day. failed: certainly not done; unknown: perhaps. held: too many would leave.",
            one_of=SYNC_STATUSES,
        ),
        Column("reason", pl.String(), "Why it was not acknowledged; a destination's words are cut.", is_nullable=True),
    ),
)

ANSWERS = Table(
    "answers",
    "One row per destination and customer whose one answer is not the one that was acknowledged there, and what became of it.",
    key=("destination", "customer_id"),
    columns=(
        DATE,
        DESTINATION,
        CUSTOMER_ID,
        Column("journey_id", pl.String(), "The journey the customer is in; null for none.", is_nullable=True),
        Column("entered_on", pl.Date(), "Day of the entry.", is_nullable=True),
        Column("ends_on", pl.Date(), "Last day of the journey if nothing ends it before.", is_nullable=True),
        Column("operation", pl.String(), "remove: is in none any more.", one_of=OPERATIONS),
        Column("status", pl.String(), "As in `audience_syncs`.", one_of=SYNC_STATUSES),
    ),
)

AUDIENCE_CHANGES = Table(
    "audience_changes",
    "One row per journey and customer who entered or left it on the day: for destinations that run the journey themselves.",
    key=("journey_id", "customer_id", "change"),
    columns=(DATE, JOURNEY_ID, CUSTOMER_ID, Column("change", pl.String(), "What happened.", one_of=("entered", "left"))),
)

SENT = ("Journey Started", "Journey Ended", "Message Sent", "Message Failed", "Audience Entered", "Audience Exited")
"""What comes back as events of ours."""

SENT_EVENTS = Table(
    "sent_events",
    "One row per event of ours that was written into the landing zone about the day; none in a dry run.",
    key=("message_id",),
    columns=(
        DATE,
        Column("message_id", pl.String(), "The event's messageId: 16 hexadecimal digits, the same whenever it is written."),
        Column("event", pl.String(), "What happened.", one_of=SENT),
        CUSTOMER_ID,
        Column("idempotency_key", pl.String(), "The message it is about.", is_nullable=True),
        Column("timestamp", MOMENT, "When it happened: a decision when its day was over, a message when it was handed over."),
    ),
)

TABLES: tuple[Entry, ...] = (
    OUTBOUND_MESSAGES, ACTIVATION,
    AUDIENCE_MEMBERS, AUDIENCE_SYNCS, ANSWERS, AUDIENCE_CHANGES,
    SENT_EVENTS,
)  # fmt: skip
