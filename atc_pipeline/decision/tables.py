"""Tables of the decision, and the words in them.

What belongs here: what the tables are. What does not: how rows come about (``queues``, ``decide``, ``memory``).
"""

import polars as pl

from atc_pipeline.decision.gates import GATES, LOSSES, MEANINGS, RULINGS
from atc_pipeline.rules.arms import ARMS, HELD_OUT_BY
from atc_pipeline.tables.table import CUSTOMER_ID, DATE, JOURNEY_ID, Column, Entry, Table

DECISIONS = ("none", "continue", "switch", "start")
ENDINGS = ("withdrawn", "converted", "exited", "completed", "interrupted", "merged")

JOURNEY_QUEUES = Table(
    "journey_queues",
    "One row per journey and customer who qualifies for it on the day, and since when.",
    key=("journey_id", "customer_id"),
    columns=(
        DATE,
        JOURNEY_ID,
        CUSTOMER_ID,
        Column("queued_on", pl.Date(), "First day of the unbroken spell."),
        Column("waiting_days", pl.Int64(), "Days since queued_on.", at_least=0),
    ),
)


SCORED_CANDIDATES = Table(
    "scored_candidates",
    'One row per customer and option, "none" included: every factor, the score, and why it won or lost.',
    key=("customer_id", "journey_id"),
    columns=(
        DATE,
        CUSTOMER_ID,
        Column("journey_id", pl.String(), "A journey of journeys.yaml, or `none`: the option of no journey."),
        Column("is_queued", pl.Boolean(), "The customer qualifies today."),
        Column("is_incumbent", pl.Boolean(), "The customer is in it."),
        Column("mandatory", pl.Boolean(), "In the band above all others."),
        Column("priority", pl.Float64(), "As journeys.yaml says."),
        Column("propensity", pl.Float64(), "Probability of the goal, as the score takes it.", is_nullable=True),
        Column("baseline", pl.Float64(), "The same if sent nothing; null where that is not learned, or decides nothing.", is_nullable=True),
        Column("learned_propensity", pl.Float64(), "What was learned of it, where that does not decide (shadow).", is_nullable=True),
        Column("learned_baseline", pl.Float64(), "The same if sent nothing.", is_nullable=True),
        Column("value", pl.Float64(), "What the goal is worth.", is_nullable=True),
        Column("interest_match", pl.Float64(), "Sum of the customer's interest in the journey's topics.", is_nullable=True),
        Column("intent_match", pl.Float64(), "The strongest of the journey's intents.", is_nullable=True),
        Column("waiting_days", pl.Int64(), "Days in the queue; 0 where not queued.", is_nullable=True),
        Column("linked_boost", pl.Float64(), "Above 1 where the last finished journey leads to this one.", is_nullable=True),
        Column("score", pl.Float64(), "policy.score; null where it is no number.", is_nullable=True),
        Column("ruling", pl.String(), "chosen, or the first gate failed, or to what else it lost.", one_of=RULINGS),
        Column("failed_gates", pl.List(pl.String()), "All gates failed, in the order tested."),
        Column("rank", pl.Int64(), "Place in the total order among the customer's options, from 1.", at_least=1),
        Column("margin", pl.Float64(), "Score of the chosen option - own score.", is_nullable=True),
    ),
)

_HELD_OUT_BY = Column(
    "held_out_by",
    pl.String(),
    "Of control, who held it out: policy.holdout, or else the journey's own; null of others, and of who entered before it was kept "
    "and is held out by neither any more.",
    is_nullable=True,
    one_of=HELD_OUT_BY,
)
_VARIANT = Column(
    "variant",
    pl.String(),
    "The variant of the journey, drawn when it was entered; of control, what it would have been. Null where it had none then.",
    is_nullable=True,
)

JOURNEY_STATE = Table(
    "journey_state",
    "One row per customer and journey ever entered: the memory that tomorrow's decision stands on.",
    key=("customer_id", "journey_id"),
    columns=(
        DATE,
        CUSTOMER_ID,
        JOURNEY_ID,
        Column("entered_on", pl.Date(), "Day of the last entry."),
        Column("ended_on", pl.Date(), "Day of the last ending; null while in flight.", is_nullable=True),
        Column("ended_reason", pl.String(), "Why it ended; null while in flight.", is_nullable=True, one_of=ENDINGS),
        Column("times_entered", pl.Int64(), "Entries so far.", at_least=1),
        Column("times_completed", pl.Int64(), "Spells completed or converted.", at_least=0),
        Column("entry_score", pl.Float64(), "Score on the day of the last entry."),
        Column("arm", pl.String(), "Whether messages are sent: control takes the place and is sent nothing.", one_of=ARMS),
        _HELD_OUT_BY,
        _VARIANT,
        Column("recent_starts", pl.List(pl.Date()), "Entries within the frequency cap's window, in order."),
        Column("left_on", pl.Date(), "Last day the journey ended, kept when it is entered again.", is_nullable=True),
        Column(
            "finished_on",
            pl.Date(),
            "Last day the journey was completed or converted, kept when it is entered again.",
            is_nullable=True,
        ),
    ),
)

JOURNEY_ASSIGNMENTS = Table(
    "journey_assignments",
    "One row per customer: the one journey for the day - start, continue, switch or none.",
    key=("customer_id",),
    columns=(
        DATE,
        CUSTOMER_ID,
        Column("decision", pl.String(), "What happens today.", one_of=DECISIONS),
        Column("journey_id", pl.String(), "The one journey the customer is in; null for none.", is_nullable=True),
        Column("entered_on", pl.Date(), "Day of the last entry.", is_nullable=True),
        Column("day_index", pl.Int64(), "Day of the journey, from 1.", is_nullable=True, at_least=1),
        Column("ends_on", pl.Date(), "Last day of the journey if nothing ends it before: entered_on + length_days - 1.", is_nullable=True),
        Column("arm", pl.String(), "treated, or control: takes the place and is sent nothing.", is_nullable=True),
        _HELD_OUT_BY,
        _VARIANT,
        Column("score", pl.Float64(), "Score of the chosen option, of none too; null without options.", is_nullable=True),
        Column(
            "runner_up",
            pl.String(),
            "The best other option in the total order, `none` included, that failed no gate; null where there is none.",
            is_nullable=True,
        ),
        Column("runner_up_score", pl.Float64(), "Its score.", is_nullable=True),
        Column(
            "selection_probability",
            pl.Float64(),
            "Probability of this choice, for learning; null where no place was left.",
            is_nullable=True,
            at_least=0,
            at_most=1,
        ),
        Column("is_drawn", pl.Boolean(), "Of who enters a journey: exploration drew it, not the score.", is_nullable=True),
        Column(
            "options",
            pl.Int64(),
            "Of who enters a journey: how many journeys failed no gate and outrank none.",
            is_nullable=True,
            at_least=1,
        ),
        Column("ended_journey_id", pl.String(), "The journey that ended today, if one did.", is_nullable=True),
        Column("ended_reason", pl.String(), "Why it ended.", is_nullable=True),
        Column(
            "portfolio",
            pl.String(),
            "The version of journeys.yaml that decided this row; null where it was decided, and delivered, before versions were kept.",
            is_nullable=True,
        ),
        Column("stands", pl.Boolean(), "It was delivered in an earlier run of the day, and stands: nobody decided it again."),
    ),
)

JOURNEY_FUNNEL = Table(
    "journey_funnel",
    "One row per journey: how many queued, were turned away by each gate, got in; and what a place is worth.",
    key=("journey_id",),
    columns=(
        DATE,
        JOURNEY_ID,
        Column("queued", pl.Int64(), "Customers who qualify today.", at_least=0),
        Column("carried", pl.Int64(), "Customers who came into the day in it, and whom nothing ended.", at_least=0),
        *(Column(gate, pl.Int64(), f"Customers turned away by this gate first. {MEANINGS[gate]}.", at_least=0) for gate in GATES),
        *(Column(loss, pl.Int64(), f"Customers turned away by no gate. {meaning}.", at_least=0) for loss, meaning in LOSSES.items()),
        Column("chosen", pl.Int64(), "Customers who are in it today.", at_least=0),
        Column("started", pl.Int64(), "Of these, who entered today.", at_least=0),
        Column("wanted", pl.Int64(), "Customers for whom it is the best that may be had, places aside.", at_least=0),
        Column("places", pl.Int64(), "Places for those who enter today; null = without limit.", is_nullable=True, at_least=0),
        Column("price", pl.Float64(), "What one more place is worth, in units of score.", is_nullable=True),
    ),
)

TABLES: tuple[Entry, ...] = (JOURNEY_QUEUES, SCORED_CANDIDATES, JOURNEY_STATE, JOURNEY_ASSIGNMENTS, JOURNEY_FUNNEL)
