"""Tables of what leaves, and the words in them: why a message is withheld, and what became of it.

What belongs here: what the tables are. What does not: how rows come about (``messages``), or how messages are sent
(``resources.delivery``).
"""

import polars as pl

from atc_pipeline.content.guardrails import RULES
from atc_pipeline.tables.table import CUSTOMER_ID, DATE, JOURNEY_ID, MOMENT, Column, Entry, Table

SUPPRESSED, NO_CONSENT, NOT_READY, BLACKOUT, EXPIRED = "suppressed", "no_consent", "not_ready", "blackout", "expired"
NO_CONTENT, ALREADY_SENT, CHANNEL_CAP, NO_PLACES = "no_content", "already_sent", "channel_cap", "no_places"
NO_CHANNEL, KEY_COLLISION = "no_channel", "key_collision"
WITHHELD = (
    SUPPRESSED, NO_CONSENT, "no_address", "bounced", NOT_READY, BLACKOUT, EXPIRED, NO_CONTENT, ALREADY_SENT, CHANNEL_CAP, NO_PLACES,
    NO_CHANNEL, KEY_COLLISION,
)  # fmt: skip
"""Why a message is not sent, in the order tested; ``no_channel``: of several channels none was left. After ``no_content`` come the
guardrails that a text did not pass, ``guardrail:<rule>``."""
GUARDRAIL = "guardrail:"
"""What the reason begins with where a text did not pass a guardrail."""

STEP, BEST, DEFAULT = "step", "best", "default"
CUSTOMER, CALENDAR = "customer", "calendar"

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
        Column("channels", pl.String(), "The channels of the step as they are listed, joined by `|`: as the key has them."),
        Column("channel", pl.String(), "The channel of journeys.yaml it takes; where none of several is left, all of them."),
        Column("medium", pl.String(), "What is rendered for the channel; null = data, or none is left.", is_nullable=True),
        Column("address", pl.String(), "Where it goes, on a channel with addresses, if it is sent.", is_nullable=True),
        Column("content", pl.String(), "What is sent, as the step names it."),
        Column("variant", pl.String(), "The content variant: as it was rendered, or as the step names it.", is_nullable=True),
        Column("send_at", MOMENT, "When it arrives, in UTC: the customer's first such hour after the day, within the channel's hours."),
        Column("planned_at", MOMENT, "The same without the channel's hours."),
        Column("hour_from", pl.String(), "Where the hour comes from: the step, the best hour, the default.", one_of=(STEP, BEST, DEFAULT)),
        Column("zone", pl.String(), "The time zone of that hour."),
        Column(
            "zone_from", pl.String(), "Whose zone it is: the customer's, or for lack of it the calendar's.", one_of=(CUSTOMER, CALENDAR)
        ),
        Column("expires_at", MOMENT, "When it is too late for it, in UTC."),
        Column(
            "rank",
            pl.Int64(),
            "Its place in its channel, from 1, in the order handed over: `send_at`, mandatory, score, key; what is withheld comes last.",
            at_least=1,
        ),
        Column("tried", pl.List(pl.String()), "Channels passed over, in order, each with the reason: `channel:reason`."),
        Column(
            "withheld",
            pl.String(),
            "Why it is not sent; null = it is. `guardrail:<rule>`: the text broke that rule.",
            is_nullable=True,
            one_of=(*WITHHELD, *(f"{GUARDRAIL}{rule}" for rule in RULES)),
        ),
    ),
)

RENDERED_MESSAGES = Table(
    "rendered_messages",
    "One row per message that is to be sent on a channel with a medium: what it says, word for word; what is sent is this.",
    key=("idempotency_key",),
    columns=(
        DATE,
        Column("idempotency_key", pl.String(), "The message."),
        CUSTOMER_ID,
        CHANNEL,
        Column("content", pl.String(), "The content of journeys.yaml."),
        Column(
            "variant",
            pl.String(),
            "`block:variant` of each block that has variants, in the order of use, joined by `+`; null where none has.",
            is_nullable=True,
        ),
        Column("subject", pl.String(), "The subject of an e-mail.", is_nullable=True),
        Column("preheader", pl.String(), "What an inbox shows after the subject.", is_nullable=True),
        Column("title", pl.String(), "The title, of media that have one.", is_nullable=True),
        Column("text", pl.String(), "What it says, as plain text; system slots are put in when it is handed over."),
        Column("html", pl.String(), "The same as HTML, where the medium has it.", is_nullable=True),
        Column("link", pl.String(), "Where it leads, of media that have one link.", is_nullable=True),
        Column("fields", pl.String(), "JSON: the fields of a slot.", is_nullable=True),
        Column("bytes", pl.Int64(), "Bytes of all its parts in UTF-8.", at_least=1),
        Column("content_hash", pl.String(), "16 hexadecimal digits of text and html: the same words, the same digits."),
        Column("guardrails", pl.List(pl.String()), "The rules it breaks: none, or it would not be sent."),
    ),
)

CONTENT_LIBRARY = Table(
    "content_library",
    "One row per content, medium, block and variant that journeys.yaml has: what it says, and who would get it today.",
    key=("content", "medium", "block", "variant"),
    columns=(
        DATE,
        Column("content", pl.String(), "The content of journeys.yaml."),
        Column("medium", pl.String(), "The medium it is written for."),
        Column("block", pl.String(), "The block; null: what is the content's own, such as its subject.", is_nullable=True),
        Column("variant", pl.String(), "The variant; empty for a block without variants."),
        Column("when", pl.String(), "For whom it is, as journeys.yaml says it; null: for whom no other one is.", is_nullable=True),
        Column("share", pl.Float64(), "The share of customers it is for, of an experiment.", is_nullable=True, at_least=0, at_most=1),
        Column("words", pl.Int64(), "Words of its text, as shown to the people of `brand.examples`.", at_least=0),
        Column("lix", pl.Float64(), "How hard it is to read (LIX); null without a word.", is_nullable=True, at_least=0),
        Column("columns", pl.List(pl.String()), "The columns it reads, its condition's too."),
        Column("customers", pl.Int64(), "Who gets it today: messages to send that have it in them.", at_least=0),
        Column("guardrails", pl.List(pl.String()), "The rules that it breaks as shown to the people of `brand.examples`."),
        Column("version", pl.String(), "16 hexadecimal digits of what journeys.yaml and its files say: edited is another version."),
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
    OUTBOUND_MESSAGES, RENDERED_MESSAGES, CONTENT_LIBRARY, ACTIVATION,
    AUDIENCE_MEMBERS, AUDIENCE_SYNCS, ANSWERS, AUDIENCE_CHANGES,
    SENT_EVENTS,
)  # fmt: skip
