"""Tables of what came of it, and the words in them. Some have columns for each metric, so they are said for a portfolio.

What belongs here: what the tables are. What does not: how rows come about.
"""

from collections.abc import Iterator

import polars as pl

from atc_pipeline.journeys.portfolio import Metric, Portfolio
from atc_pipeline.rules.arms import ARMS, HELD_OUT_BY
from atc_pipeline.rules.probabilities import SOURCES
from atc_pipeline.tables.table import CUSTOMER_ID, DATE, JOURNEY_ID, SEGMENT_ID, Column, Entry, Table

SILENT, OTHER_PATHS = "(silent)", "(other)"
TO = " > "
"""Between the journeys of a path."""
ENTRY, SIGHT = "entry", "sight"
"""What the days of a path are counted from: its first entry, or when the customer was first seen."""

BROKEN, NO_HOLDOUT, TOO_EARLY = "broken", "no_holdout", "too_early"
HELPS, HARMS, HARMLESS, NEGLIGIBLE, UNDECIDED = "helps", "harms", "harmless", "negligible", "undecided"
VERDICTS = (BROKEN, NO_HOLDOUT, TOO_EARLY, HELPS, HARMS, HARMLESS, NEGLIGIBLE, UNDECIDED)
"""What is said of a journey, the first that applies (SPEC 11)."""
EXPLORATORY = "exploratory"
"""Said in place of a verdict where nothing was asked in advance: other metrics, and slices."""

SEGMENT_MATRIX = Table(
    "segment_matrix",
    "One row per micro-segment per day: its size, who came and went, the journey that serves most of it.",
    key=("segment_id",),
    columns=(
        DATE,
        SEGMENT_ID,
        Column("customers", pl.Int64(), "Customers in it today.", at_least=0),
        Column("entered", pl.Int64(), "Of these, who were not in it yesterday.", at_least=0),
        Column("left", pl.Int64(), "Customers of yesterday who are not in it today."),
        Column("served", pl.Int64(), "Customers who are in any journey today, control included.", at_least=0),
        Column("journey_id", pl.String(), "The journey most of these are in; null where nobody is in one.", is_nullable=True),
        Column("served_most", pl.Int64(), "Customers who are in that journey.", at_least=0),
    ),
)

_ENTERED_ON = Column("entered_on", pl.Date(), "Day of the entry.")
_ARM = Column("arm", pl.String(), "treated, or control: took the place and was sent nothing.", one_of=ARMS)
_HELD_OUT_BY = Column(
    "held_out_by",
    pl.String(),
    "Of control, who held it out: policy.holdout, or else the journey's own; null for treated.",
    is_nullable=True,
    one_of=HELD_OUT_BY,
)
_STRATUM = (
    Column("holdout", pl.Float64(), "Share that the journey held out when it was entered.", at_least=0, at_most=1),
    Column("holdout_version", pl.String(), "Its holdout_version then; null without one.", is_nullable=True),
)
_VARIANT = (
    Column("variant", pl.String(), "The variant of the journey; of control, what it would have been.", is_nullable=True),
    Column("variant_probability", pl.Float64(), "With which probability it was drawn.", is_nullable=True, at_least=0, at_most=1),
    Column("shares_since", pl.Date(), "When that had adapted last; null while it is what journeys.yaml says.", is_nullable=True),
)
_SEGMENTS = Column("segments", pl.List(pl.String()), "The micro-segments the customer was in on the day of entry, sorted.")


def _sums(metrics: tuple[Metric, ...], suffix: str, when: str, *, is_nullable: bool = False) -> Iterator[Column]:
    """What metrics add up to in a stretch of days; of an average the sum and the number."""
    for metric in metrics:
        for name in columns_of(metric):
            yield Column(f"{name}{suffix}", pl.Float64(), f"Metric {metric.id}, {when}.", is_nullable=is_nullable)


def columns_of(metric: Metric) -> tuple[str, ...]:
    """Name the columns that a metric has in outcomes: an average is a ratio of two."""
    return (f"{metric.id}_sum", f"{metric.id}_count") if metric.kind == "avg" else (metric.id,)


_BEFORE = "in the days up to the entry, that day included (measurement.before_days)"
_BEFORE_IF_KNOWN = f"{_BEFORE}; null where the entry is older than the metric"


def journey_entries(portfolio: Portfolio) -> Table:
    """Who was exposed to what, with all that was true then."""
    return Table(
        "journey_entries",
        "One row per customer who starts a journey or switches to it on the day: what was true then, and never changes.",
        key=("customer_id", "journey_id"),
        columns=(
            DATE,
            CUSTOMER_ID,
            JOURNEY_ID,
            Column("entry_number", pl.Int64(), "The customer's entries into this journey so far, this one included.", at_least=1),
            Column("decision", pl.String(), "Whether another journey was left for it.", one_of=("start", "switch")),
            _ARM,
            _HELD_OUT_BY,
            *_STRATUM,
            Column("policy_holdout", pl.Float64(), "Share that policy.holdout held out then.", at_least=0, at_most=1),
            Column("version", pl.String(), "The `version` of journeys.yaml then, by which policy.holdout is drawn."),
            *_VARIANT,
            Column(
                "is_drawn",
                pl.Boolean(),
                "Exploration drew the journey, not the score; null where it was decided, and delivered, before this was kept.",
                is_nullable=True,
            ),
            Column(
                "options",
                pl.Int64(),
                "Eligible options that day: journeys that failed no gate and outrank none; null as is_drawn.",
                is_nullable=True,
                at_least=1,
            ),
            Column("selection_probability", pl.Float64(), "As of journey_assignments.", is_nullable=True, at_least=0, at_most=1),
            Column("score", pl.Float64(), "Its score that day.", is_nullable=True),
            Column("propensity", pl.Float64(), "The probability of the goal that the score used.", is_nullable=True),
            Column("baseline", pl.Float64(), "The same if sent nothing; null until it is learned.", is_nullable=True),
            Column("propensity_source", pl.String(), "Where the probability comes from.", one_of=SOURCES),
            Column("model_fitted_on", pl.Date(), "When the model was fitted, if it is one's.", is_nullable=True),
            Column("window_days", pl.Int64(), "Days after the entry in which outcomes count.", at_least=1),
            Column("matures_on", pl.Date(), "entered_on + window_days + measurement.late_days: what is known then, counts."),
            Column("goal_within_days", pl.Int64(), "Days after the entry in which the goal counts.", is_nullable=True, at_least=1),
            Column("is_quiet", pl.Boolean(), "Neither a response nor an order in the paths.quiet_days days up to the entry."),
            Column("preferred_channel", pl.String(), "The customer's preferred channel that day.", is_nullable=True),
            _SEGMENTS,
            Column("portfolio", pl.String(), "The version of journeys.yaml that decided it (its hash).", is_nullable=True),
            *_sums(portfolio.measured, "_before", _BEFORE),
        ),
    )


def journey_outcomes(portfolio: Portfolio) -> Table:
    """What came of the entries that matured."""
    return Table(
        "journey_outcomes",
        "One row per entry that matured on the day: what the customer did in its window, whatever was sent.",
        key=("journey_id", "customer_id", "entered_on"),
        columns=(
            DATE,
            JOURNEY_ID,
            Column("customer_id", pl.String(), "The customer under the name of the entry."),
            _ENTERED_ON,
            Column("known_as", pl.String(), "The customer it is by now, whose outcomes these are."),
            _ARM,
            _HELD_OUT_BY,
            *_STRATUM,
            Column("entry_number", pl.Int64(), "Which entry into this journey it was.", at_least=1),
            *_VARIANT,
            Column("contaminated", pl.Boolean(), "Two first entries of one customer, by now, with different arms: not counted."),
            Column("window_days", pl.Int64(), "Days after the entry in which outcomes count.", at_least=1),
            Column("goal", pl.Boolean(), "The goal was reached in its days; null for a journey without one.", is_nullable=True),
            Column("goal_on", pl.Date(), "The first day on which it was.", is_nullable=True),
            Column("goal_value", pl.Float64(), "What the goal's events were worth; null without a goal.value.", is_nullable=True),
            Column(
                "expected",
                pl.Float64(),
                "The probability of the goal, as it was said at the entry: if sent the messages, or, of control, if left alone.",
                is_nullable=True,
                at_least=0,
                at_most=1,
            ),
            Column("propensity_source", pl.String(), "Where that comes from; null of older entries.", is_nullable=True, one_of=SOURCES),
            Column("is_drawn", pl.Boolean(), "Exploration drew the journey: as of the entry.", is_nullable=True),
            Column("ended_on", pl.Date(), "When the journey ended for the customer; null while it runs.", is_nullable=True),
            Column("ended_reason", pl.String(), "Why it ended; null while it runs.", is_nullable=True),
            Column("delivered", pl.Int64(), "Messages of the entry that were delivered, as `Message Sent` says.", at_least=0),
            Column("measured_days", pl.Int64(), "Days of the window on which something was measured, and had arrived.", at_least=0),
            Column("is_quiet", pl.Boolean(), "As of the entry."),
            Column("preferred_channel", pl.String(), "As of the entry.", is_nullable=True),
            _SEGMENTS,
            *_sums(portfolio.measured, "", "in the days after the entry (window_days)"),
            *_sums(portfolio.measured, "_before", _BEFORE_IF_KNOWN, is_nullable=True),
        ),
    )


def long_outcomes(portfolio: Portfolio) -> Table:
    """What came of first entries in the long run."""
    return Table(
        "long_outcomes",
        "One row per first entry, into a journey or into any (`system`), whose long window closed on the day.",
        key=("journey_id", "customer_id"),
        columns=(
            DATE,
            Column("journey_id", pl.String(), "A journey of journeys.yaml, or `system`: the first entry into any since `version` began."),
            Column("customer_id", pl.String(), "The customer under the name of the entry."),
            _ENTERED_ON,
            Column("known_as", pl.String(), "The customer it is by now, whose outcomes these are."),
            _ARM,
            _HELD_OUT_BY,
            *_STRATUM,
            Column("version", pl.String(), "The `version` of journeys.yaml at the entry."),
            Column("long_days", pl.Int64(), "Days after the entry in which outcomes count.", at_least=1),
            Column("contaminated", pl.Boolean(), "Two first entries of one customer, by now, with different arms: not counted."),
            *_sums(portfolio.measured, "", "in the days after the entry (measurement.long_days)"),
            *_sums(portfolio.measured, "_before", _BEFORE_IF_KNOWN, is_nullable=True),
        ),
    )


ALL, LONG, RUN_RATE = "all", "long", "run_rate"
"""Slices: every first entry; the same in the long run; and what all who were ever in a journey did lately (SPEC 11)."""


def _estimate(name: str, meaning: str) -> Column:
    return Column(name, pl.Float64(), meaning, is_nullable=True)


UPLIFT = Table(
    "uplift",
    "One row per journey, metric and slice: what treated customers did more than control, and what can be said of it.",
    key=("journey_id", "metric", "slice"),
    columns=(
        DATE,
        Column("journey_id", pl.String(), "A journey of journeys.yaml, or `system`: all of them against none."),
        Column("metric", pl.String(), "A metric of journeys.yaml, or built in: goal, goal_value, money, responses."),
        Column("slice", pl.String(), "`all`, `segment:<id>`, `month:<month>`, `channel:<id>`, `variant:<a>/<b>`, `long` or `run_rate`."),
        Column("from_on", pl.Date(), "Day of the first entry that counts.", is_nullable=True),
        Column("to_on", pl.Date(), "Day of the last entry that counts.", is_nullable=True),
        Column("treated", pl.Int64(), "Customers who were treated.", at_least=0),
        Column("control", pl.Int64(), "Customers who were held out.", at_least=0),
        Column("treated_nonzero", pl.Int64(), "Of the treated, who have a value other than 0.", at_least=0),
        Column("control_nonzero", pl.Int64(), "Of control, who have a value other than 0.", at_least=0),
        Column("immature", pl.Int64(), "First entries that have not matured yet: not counted.", at_least=0),
        _estimate("mean_treated", "Mean of the treated."),
        _estimate("mean_control", "Mean of control."),
        _estimate("effect", "What being treated adds per customer, adjusted by the same metric before."),
        _estimate("effect_unadjusted", "The same without the adjustment."),
        _estimate("std_error", "Standard error of the effect, by the wider of two variances."),
        _estimate("theta", "How much of the metric before was taken off (the strata's mean, by customers)."),
        _estimate("variance_left", "What of the variance the adjustment left: 1 - rho^2."),
        _estimate("fixed_low", "Lower end of the interval that is right for one look on a day named in advance."),
        _estimate("fixed_high", "Upper end of it."),
        _estimate("anytime_low", "Lower end of the interval that is right for every look at once."),
        _estimate("anytime_high", "Upper end of it."),
        _estimate("relative", "The effect as a share of the mean of control; null where that is near 0."),
        _estimate("p_anytime", "1 / evidence, at most 1."),
        _estimate("p_adjusted", "The same after Benjamini-Hochberg over the family; null outside of it."),
        Column("more_customers", pl.Int64(), "Customers until the anytime interval is half as wide.", is_nullable=True, at_least=0),
        Column("more_days", pl.Int64(), "Days until then, at the pace of the last 28 days.", is_nullable=True, at_least=0),
        _estimate("smallest_visible", "The smallest effect visible now: 2.8 standard errors."),
        _estimate("total", "The effect times the treated customers."),
        _estimate("total_low", "Lower end of the anytime interval of it."),
        _estimate("total_high", "Upper end of it."),
        _estimate("given_up", "The effect times the customers in control: what holding out costs."),
        _estimate("net", "Total times the margin, less the cost of delivered messages; money only."),
        _estimate("sample_ratio_p", "How likely so uneven a split would be by chance."),
        _estimate("before_p", "How likely so different arms before the entry would be by chance."),
        Column("contaminated", pl.Int64(), "First entries not counted because their customers merged across arms.", at_least=0),
        Column("unstable", pl.Int64(), "Customers who are in both arms, beyond those.", at_least=0),
        Column("sent_to_control", pl.Int64(), "Customers in control who were sent messages all the same.", at_least=0),
        Column("delivered", pl.Int64(), "Messages delivered to the treated; null where it is not counted.", is_nullable=True, at_least=0),
        Column("verdict", pl.String(), "What can be said.", one_of=(*VERDICTS, EXPLORATORY)),
        Column("verdict_reason", pl.String(), "Why it is that.", is_nullable=True),
    ),
)

PATH_STEPS = Table(
    "path_steps",
    "One row per step of a customer's path that is open or closed on the day: a journey entered as treated. Described, not proved.",
    key=("customer_id", "path_started_on", "position"),
    columns=(
        DATE,
        CUSTOMER_ID,
        Column("path_started_on", pl.Date(), "Day of the path's first entry."),
        Column("position", pl.Int64(), "Place in the path, from 1.", at_least=1),
        Column("journey_id", pl.String(), "A journey of journeys.yaml, or `(silent)` of a customer in control only."),
        _ENTERED_ON,
        Column("ended_on", pl.Date(), "When the journey ended; null while it runs.", is_nullable=True),
        Column("ended_reason", pl.String(), "Why it ended.", is_nullable=True),
        Column("closed_on", pl.Date(), "When the path closed; null while it is open.", is_nullable=True),
        Column("is_conversion", pl.Boolean(), "Whether it closed with an event of money; null while it is open.", is_nullable=True),
        Column("value", pl.Float64(), "The money of the day it closed with.", is_nullable=True),
        Column("path", pl.String(), "The whole path so far: its journeys in order, joined by ` > `, or `(silent)`."),
        Column("last_entered_on", pl.Date(), "Day of its last entry so far."),
        Column("first_seen_on", pl.Date(), "First day on which the customer was seen.", is_nullable=True),
        Column("sent", pl.Int64(), "Messages of the entry that were delivered so far.", at_least=0),
        Column("responses", pl.Int64(), "Responses since the entry, before the next one.", at_least=0),
    ),
)

PATH_DURATIONS = Table(
    "path_durations",
    "One row per path and duration: all that ever closed, carried from day to day. Described, not proved.",
    key=("path", "counted_from", "days"),
    columns=(
        DATE,
        Column("path", pl.String(), "Journeys in order, joined by ` > `; `(silent)`: in control only."),
        Column("counted_from", pl.String(), "The path's first entry, or when the customer was first seen.", one_of=(ENTRY, SIGHT)),
        Column("days", pl.Int64(), "Days until it closed.", at_least=0),
        Column("converted", pl.Int64(), "Paths that closed with a conversion.", at_least=0),
        Column("left", pl.Int64(), "Paths that closed without one.", at_least=0),
        Column("value", pl.Float64(), "Money of the conversions."),
        Column("sent", pl.Int64(), "Messages delivered on these paths.", at_least=0),
        Column("responses", pl.Int64(), "Responses on these paths.", at_least=0),
    ),
)

MODELS = ("first", "last", "linear", "markov")
"""Ways to share credit, side by side."""
JOURNEY_ATTRIBUTION = Table(
    "journey_attribution",
    "One row per journey: conversions and money of closed paths, attributed in four ways, beside what is proved. Described, not proved.",
    key=("journey_id",),
    columns=(
        DATE,
        JOURNEY_ID,
        Column("paths", pl.Int64(), "Closed paths that it is on, whatever else is.", at_least=0),
        Column("conversions", pl.Int64(), "Of these, with a conversion: journeys overlap, and are never summed.", at_least=0),
        Column("value", pl.Float64(), "The money of these."),
        *(Column(f"conversions_{model}", pl.Float64(), f"Conversions attributed to it ({model}).") for model in MODELS),
        *(Column(f"value_{model}", pl.Float64(), f"Money attributed to it ({model}).") for model in MODELS),
        Column("removal_effect", pl.Float64(), "1 - P(conversion without it) / P(conversion).", is_nullable=True),
        Column(
            "proved", pl.Float64(), "What the comparison with its control group says it made in all, which is proved.", is_nullable=True
        ),
        Column("proved_low", pl.Float64(), "Lower end of the interval.", is_nullable=True),
        Column("proved_high", pl.Float64(), "Upper end.", is_nullable=True),
    ),
)

PATH_SUMMARY = Table(
    "path_summary",
    "One row per path: how many took it, how many converted, how long that took. Described, not proved.",
    key=("path",),
    columns=(
        DATE,
        Column("path", pl.String(), "Journeys in order, joined by ` > `; `(silent)`: in control only; `(other)`: paths of fewer than 20."),
        Column("customers", pl.Int64(), "Customers who took it to its end; who takes it again counts again.", at_least=0),
        Column("conversions", pl.Int64(), "Paths that closed with a conversion.", at_least=0),
        Column("value", pl.Float64(), "Money of these."),
        Column("median_days", pl.Float64(), "Days from its first entry to conversion, half of them; null: not reached.", is_nullable=True),
        Column("lower_days", pl.Float64(), "The same for a quarter.", is_nullable=True),
        Column("upper_days", pl.Float64(), "The same for three quarters.", is_nullable=True),
        Column("open", pl.Int64(), "Paths that are open.", at_least=0),
        Column("seen_median_days", pl.Float64(), "Days from first sight to conversion, half of them; null: not reached.", is_nullable=True),
        Column("seen_lower_days", pl.Float64(), "The same for a quarter.", is_nullable=True),
        Column("seen_upper_days", pl.Float64(), "The same for three quarters.", is_nullable=True),
        Column("journeys", pl.Float64(), "Distinct journeys on it: the mean, of `(other)`."),
        Column("sent", pl.Int64(), "Messages delivered on these paths, those that are open aside.", at_least=0),
        Column("responses", pl.Int64(), "Responses on them.", at_least=0),
    ),
)

JOURNEY_MOVEMENT = Table(
    "journey_movement",
    "One row per journey and day of it: who is still in it, who left and how, what was sent. Described, not proved.",
    key=("journey_id", "day_index"),
    columns=(
        DATE,
        JOURNEY_ID,
        Column("day_index", pl.Int64(), "Day of the journey, from 1.", at_least=1),
        *(
            Column(name, pl.Int64(), meaning, at_least=0)
            for name, meaning in {
                "at_risk": "Treated entries still in it at the beginning of that day.",
                "converted": "Of these, ended that day by reaching the goal.",
                "exited": "Ended by exit_when, or because the journey was withdrawn.",
                "interrupted": "Ended by another journey, or in a merge.",
                "completed": "Ended because it was over: on the day after its last.",
                "unsubscribed": "Said no on a channel of the journey that day, and are still in it.",
                "sent": "Messages of that day that were delivered, once three days are over.",
                "responded": "Of these, answered within 3 days.",
            }.items()
        ),
        Column("survival", pl.Float64(), "The share that gets beyond that day.", at_least=0, at_most=1),
        _estimate("advance_treated", "Of treated first entries in it that day, the share that reached the goal within its days after it."),
        _estimate("advance_control", "The same of control."),
        *(
            Column(name, pl.Int64(), meaning, at_least=0)
            for name, meaning in {
                "watched_treated": "The treated first entries that share is of.",
                "watched_control": "Those of control.",
                "advanced_treated": "Of the treated, who reached the goal.",
                "advanced_control": "Of control.",
            }.items()
        ),
    ),
)

JOURNEY_ALTERNATIVES = Table(
    "journey_alternatives",
    "One row per journey, day of it and other journey: what those who dropped out that day could have had. Described, not proved.",
    key=("journey_id", "day_index", "alternative"),
    columns=(
        DATE,
        JOURNEY_ID,
        Column("day_index", pl.Int64(), "Day of the journey on which they dropped out.", at_least=1),
        Column("alternative", pl.String(), "A journey that failed no gate for them that day."),
        Column("customers", pl.Int64(), "Treated customers who dropped out and could have had it.", at_least=0),
        Column("taken", pl.Int64(), "Of these, who are in it now.", at_least=0),
    ),
)

JOURNEY_DESCRIBED = Table(
    "journey_described",
    "One row per journey: where most drop out, and how many who were quiet came back. Described, not proved.",
    key=("journey_id",),
    columns=(
        DATE,
        JOURNEY_ID,
        Column("worst_day", pl.Int64(), "The day of it with the largest loss but for goals and its end; null: no loss.", is_nullable=True),
        Column("worst_lost", pl.Int64(), "Treated entries lost that day.", is_nullable=True),
        Column("worst_at_risk", pl.Int64(), "Treated entries that were in it at the beginning of that day.", is_nullable=True),
        *(
            Column(name, pl.Int64(), meaning, at_least=0)
            for name, meaning in {
                "quiet_treated": "Mature first entries of treated customers who were quiet (paths.quiet_days).",
                "quiet_control": "The same of control.",
                "returned_treated": "Of the treated, with a response or money in the window.",
                "returned_control": "Of control.",
            }.items()
        ),
    ),
)

JOURNEY_SATISFACTION = Table(
    "journey_satisfaction",
    "One row per journey and metric that is an average: what treated customers and control answered. Described, not proved.",
    key=("journey_id", "metric"),
    columns=(
        DATE,
        JOURNEY_ID,
        Column("metric", pl.String(), "A metric of journeys.yaml that is an average."),
        *(
            column
            for arm in ("treated", "control")
            for column in (
                Column(f"{arm}", pl.Int64(), f"Mature first entries, {arm}.", at_least=0),
                Column(f"answered_{arm}", pl.Int64(), "Of these, who answered in the window.", at_least=0),
                Column(f"answers_{arm}", pl.Int64(), "How often they did.", at_least=0),
                Column(f"sum_{arm}", pl.Float64(), "What their answers add up to."),
                Column(f"average_{arm}", pl.Float64(), "Their average; null without an answer.", is_nullable=True),
            )
        ),
        Column("answer_rate_p", pl.Float64(), "How likely so different shares of who answers would be by chance.", is_nullable=True),
        Column("not_comparable", pl.Boolean(), "It is less than 0.001: the averages are of different people."),
    ),
)

TABLES: tuple[Entry, ...] = (
    SEGMENT_MATRIX, journey_entries, journey_outcomes, long_outcomes, UPLIFT, PATH_STEPS, PATH_DURATIONS, PATH_SUMMARY,
    JOURNEY_ATTRIBUTION, JOURNEY_MOVEMENT, JOURNEY_ALTERNATIVES, JOURNEY_DESCRIBED, JOURNEY_SATISFACTION,
)  # fmt: skip
