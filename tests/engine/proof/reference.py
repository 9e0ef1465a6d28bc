"""Entries, outcomes and uplift in plain Python, written from the contract alone (SPEC 10 and 11): rows in, rows out.

What belongs here: what each row says, the slow way: all events are looked at again for every figure. What does not: who enters what,
which the reference of the decision says (``tests.engine.reference``), and anything that is told apart from the engine's way of doing it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from scipy import stats

from atc_pipeline.journeys.portfolio import NONE, Journey, Portfolio
from tests.engine import reference
from tests.engine.reference import DAY, Row, as_number, customer_of, micros, occurrences, value_at, who_is, xxh64

SYSTEM = "system"


# --- SPEC 10: what is measured --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A metric: its columns, and what one customer's occurrences add up to in them."""

    id: str
    kind: str
    property: str | None
    of: Any
    """The selector."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of its columns; an average is a ratio of two."""
        return (f"{self.id}_sum", f"{self.id}_count") if self.kind == "avg" else (self.id,)

    def amounts(self, mine: Sequence[Row]) -> tuple[float, ...]:
        """Return what it comes to, of one customer's events in a window."""
        found = occurrences(self.of, mine)
        if self.kind in {"count", "any"}:
            return (float(len(found)),) if self.kind == "count" else (float(bool(found)),)
        numbers = [number for each in found if (number := as_number(value_at(each.values, str(self.property)))) is not None]
        total = sum(micros(number) for number in numbers) / 1_000_000
        return (total, float(len(numbers))) if self.kind == "avg" else (total,)


def measured(portfolio: Portfolio) -> list[Measured]:
    """Return the metrics of the file, then what is built in: money where the file names none, and responses."""
    every = [Measured(each.id, each.kind, each.summed, each.selector) for each in portfolio.metrics]
    if portfolio.measurement.money is None and portfolio.predictions is not None:
        of = portfolio.predictions
        every.append(Measured("money", "sum", of.value, reference.Selector((of.order,))))
    if portfolio.engagement is not None:
        every.append(Measured("responses", "count", None, reference.Selector(portfolio.engagement.responses)))
    return every


def money_of(portfolio: Portfolio) -> str | None:
    """Return the metric that money is told in."""
    return portfolio.measurement.money or ("money" if portfolio.predictions is not None else None)


def window_of(journey: Journey, portfolio: Portfolio) -> int:
    """Return the days after entry that count: the journey's own, else its goal's, else what the file says of all, else its length."""
    for days in (journey.measure.window_days, journey.goal and journey.goal.within_days, portfolio.measurement.window_days):
        if days is not None:
            return days
    return journey.length_days


@dataclass
class Known:
    """What is known at the end of a day: whose every event is, by what has arrived until then."""

    day: date
    events: list[Row]
    survivors: Mapping[str, str]
    """Customer id -> who that is by now, for those who are somebody else."""
    of: dict[str, list[Row]]

    @classmethod
    def by(cls, day: date, history: Iterable[Row]) -> "Known":
        """Return what is known of these events at the end of a day."""
        arrived = reference.counted(event for event in history if event["date"] <= day)
        who = who_is(arrived)
        of: dict[str, list[Row]] = {}
        for event in arrived:
            of.setdefault(customer_of(event, who), []).append(event)
        return cls(day, arrived, reference.survivors(arrived, day), of)

    def now(self, customer: str) -> str:
        """Return who a customer is by now."""
        return self.survivors.get(customer, customer)

    def between(self, customer: str, after: date, until: date) -> list[Row]:
        """Return what a customer did on the days (after, until], by the day on which it happened."""
        return [event for event in self.of.get(self.now(customer), []) if after < event["event_date"] <= until]

    def sums(self, metrics: Iterable[Measured], customer: str, after: date, until: date, suffix: str = "") -> Row:
        """Return every metric of a customer over these days."""
        mine = self.between(customer, after, until)
        return {
            f"{column}{suffix}": amount for metric in metrics for column, amount in zip(metric.columns, metric.amounts(mine), strict=True)
        }


# --- SPEC 10: entries -----------------------------------------------------------------------------------------------


def is_below(salt: str, name: str, share: float) -> bool:
    """Return whether a name's bucket is among those of a share."""
    return xxh64(f"{salt}:{name}") % 10_000 < round(share * 10_000)


def held_out_by(arm_id: str, journey: Journey, portfolio: Portfolio) -> str | None:
    """Return who holds somebody out: the policy first."""
    if is_below(portfolio.version, arm_id, portfolio.policy.holdout):
        return "policy"
    salt = journey.id if journey.holdout_version is None else f"{journey.id}:{journey.holdout_version}"
    return "journey" if is_below(salt, arm_id, journey.holdout) else None


def variant_of(name: str, journey: Journey) -> tuple[str | None, float | None]:
    """Return the variant that somebody is in, and how likely that was."""
    bucket, above = xxh64(f"variant:{journey.id}:{name}") % 10_000, 0.0
    for share in journey.variants:
        above += share.share
        if bucket < round(above * 10_000):
            return share.id, share.share
    return None, None


def entries(
    assignments: Iterable[Row],
    candidates: Iterable[Row],
    state: Iterable[Row],
    profiles: Iterable[Row],
    memberships: Iterable[Row],
    identities: Iterable[Row],
    known: Known,
    portfolio: Portfolio,
) -> list[Row]:
    """Return ``journey_entries`` of a day, from the tables of that day."""
    day, journeys = known.day, {journey.id: journey for journey in portfolio.journeys}
    options: dict[str, list[Row]] = {}
    for row in candidates:
        options.setdefault(row["customer_id"], []).append(row)
    times = {(row["customer_id"], row["journey_id"]): row["times_entered"] for row in state}
    preferred = {row["customer_id"]: row["preferred_channel"] for row in profiles}
    segments: dict[str, list[str]] = {}
    for row in memberships:
        segments.setdefault(row["customer_id"], []).append(row["segment_id"])
    arm_ids = {row["customer_id"]: row["arm_id"] for row in identities}
    found = []
    for row in assignments:
        if row["decision"] not in {"start", "switch"}:
            continue
        customer, journey = row["customer_id"], journeys[row["journey_id"]]
        arm_id = arm_ids[customer]
        passed = eligible(options[customer])
        left = row["ended_journey_id"] if row["decision"] == "switch" else None
        by = held_out_by(arm_id, journey, portfolio)
        variant, probability = variant_of(arm_id, journey)
        window = window_of(journey, portfolio)
        quiet = known.between(customer, day - portfolio.paths.quiet_days * DAY, day)
        found.append(
            {
                "date": day,
                "customer_id": customer,
                "journey_id": journey.id,
                "entry_number": times[customer, journey.id],
                "decision": row["decision"],
                "arm": "treated" if by is None else "control",
                "held_out_by": by,
                "holdout": journey.holdout,
                "holdout_version": journey.holdout_version,
                "policy_holdout": portfolio.policy.holdout,
                "version": portfolio.version,
                "variant": variant,
                "variant_probability": probability,
                "is_drawn": is_drawn(row, passed, arm_id, portfolio),
                "options": sum(option["journey_id"] != left for option in passed),
                "selection_probability": row["selection_probability"],
                "score": row["score"],
                "propensity": next(option["propensity"] for option in options[customer] if option["journey_id"] == journey.id),
                "baseline": None,
                "propensity_source": "prior",
                "model_fitted_on": None,
                "window_days": window,
                "matures_on": day + (window + portfolio.measurement.late_days) * DAY,
                "goal_within_days": journey.goal and journey.goal.within_days,
                "is_quiet": is_quiet(quiet, portfolio),
                "preferred_channel": preferred[customer],
                "segments": sorted(segments[customer]),
                "portfolio": row["portfolio"],
                **known.sums(measured(portfolio), customer, day - portfolio.measurement.before_days * DAY, day, "_before"),
            }
        )
    return reference.sort(found, "customer_id", "journey_id")


def eligible(options: Sequence[Row]) -> list[Row]:
    """Return the options of one customer that failed no gate and outrank none: what became of them later is no gate."""
    none = next(row for row in options if row["journey_id"] == NONE)
    later = {"in_flight", "capacity", "outscored"}
    return [
        row
        for row in options
        if row is not none and not set(row["failed_gates"]) - later and (row["mandatory"] or row["score"] > none["score"])
    ]


def is_drawn(row: Row, passed: Sequence[Row], arm_id: str, portfolio: Portfolio) -> bool:
    """Return whether exploration drew the journey of an assignment: nobody is asked who is in flight or has to enter something."""
    if row["decision"] != "start" or any(option["mandatory"] for option in passed):
        return False
    return xxh64(f"explore:{arm_id}:{row['date']}") % 10_000 < round(portfolio.policy.explore * 10_000)


def is_quiet(events: Iterable[Row], portfolio: Portfolio) -> bool:
    """Return whether there is neither a response nor an order among events; nobody is where the file says of neither what it is."""
    names = [] if portfolio.engagement is None else list(portfolio.engagement.responses)
    names += [] if portfolio.predictions is None else [portfolio.predictions.order]
    return bool(names) and not any(event["event"] in names for event in events)


# --- SPEC 10: outcomes ----------------------------------------------------------------------------------------------


FROM_THE_ENTRY = (
    "arm",
    "held_out_by",
    "holdout",
    "holdout_version",
    "entry_number",
    "variant",
    "variant_probability",
    "window_days",
    "is_quiet",
    "preferred_channel",
    "segments",
)


@dataclass(frozen=True)
class Either:
    """A value that the contract leaves open."""

    of: tuple[Any, ...]


Triggers = dict[tuple[str, date], date]
"""(Customer, day) of an entry that is the first into any journey since a version began -> the day on which that was."""


def contaminated(entry: Row, all_entries: Iterable[Row], known: Known) -> bool:
    """Return whether a first entry's customer has another first entry into the same journey by now, in another arm."""
    mine = known.now(entry["customer_id"])
    return entry["entry_number"] == 1 and any(
        other["entry_number"] == 1
        and other["journey_id"] == entry["journey_id"]
        and other["arm"] != entry["arm"]
        and known.now(other["customer_id"]) == mine
        for other in all_entries
    )


def is_doubtful(entry: Row, all_entries: Sequence[Row], name: str, triggered: Triggers, known: Known) -> bool | Either:
    """Return whether a first entry, into a journey or into any, is contaminated.

    Of the system it is open where another of the customer's names entered something only after both were one, in another arm.
    """
    if name != SYSTEM:
        firsts = [other for other in all_entries if other["entry_number"] == 1 and other["journey_id"] == name]
        return in_two_arms(entry, firsts, name, known)
    since = triggered[entry["customer_id"], entry["date"]]
    firsts = [other for other in all_entries if triggered.get((other["customer_id"], other["date"])) == since]
    later = [other for other in all_entries if other["date"] >= since and other["version"] == entry["version"]]
    of_letter, of_spirit = in_two_arms(entry, firsts, name, known), in_two_arms(entry, later, name, known)
    return of_letter if of_letter == of_spirit else Either((True, False))


def in_two_arms(entry: Row, others: Iterable[Row], name: str, known: Known) -> bool:
    """Return whether a first entry's customer is by now one with another in a different arm."""

    def is_control(row: Row) -> bool:
        return bool(row["held_out_by"] == "policy" if name == SYSTEM else row["arm"] == "control")

    mine = known.now(entry["customer_id"])
    return any(known.now(other["customer_id"]) == mine and is_control(other) != is_control(entry) for other in others)


def goal_of(entry: Row, known: Known, portfolio: Portfolio) -> Row:
    """Return what came of an entry's goal, in its own days."""
    journey = next((journey for journey in portfolio.journeys if journey.id == entry["journey_id"]), None)
    if journey is None or journey.goal is None or entry["goal_within_days"] is None:
        return {"goal": None, "goal_on": None, "goal_value": None}
    until = entry["date"] + entry["goal_within_days"] * DAY
    reached = [one for one in known.between(entry["customer_id"], entry["date"], until) if one["event"] == journey.goal.event]
    value = None
    if journey.goal.value is not None:
        (value,) = Measured("value", "sum", journey.goal.value, reference.Selector((journey.goal.event,))).amounts(reached)
    return {"goal": bool(reached), "goal_on": min((one["event_date"] for one in reached), default=None), "goal_value": value}


Ending = Callable[[Row], tuple[Any, Any]]
"""Of an entry: when and why it ended."""


def outcomes(all_entries: Sequence[Row], known: Known, portfolio: Portfolio, ending: Ending) -> list[Row]:
    """Return ``journey_outcomes`` of a day, but for what was sent: what came of the entries that mature on it.

    ``all_entries``: of every day until then.
    """
    found = []
    for entry in all_entries:
        if entry["matures_on"] != known.day:
            continue
        customer, entered_on = entry["customer_id"], entry["date"]
        ended_on, reason = ending(entry)
        found.append(
            {
                "date": known.day,
                "journey_id": entry["journey_id"],
                "customer_id": customer,
                "entered_on": entered_on,
                "known_as": known.now(customer),
                **{name: entry[name] for name in FROM_THE_ENTRY},
                "contaminated": contaminated(entry, all_entries, known),
                **goal_of(entry, known, portfolio),
                "ended_on": ended_on,
                "ended_reason": reason,
                **known.sums(measured(portfolio), customer, entered_on, entered_on + entry["window_days"] * DAY),
                **before(entry, portfolio),
            }
        )
    return reference.sort(found, "journey_id", "customer_id", "entered_on")


def before(entry: Row, portfolio: Portfolio) -> Row:
    """Return what an entry says the customer was worth before: it is never changed by a later day."""
    columns = [f"{column}_before" for metric in measured(portfolio) for column in metric.columns]
    return {column: entry.get(column, 0.0) for column in columns}


def triggers(todays: Iterable[Row], earlier: Iterable[Row], since: date, known: Known) -> Triggers:
    """Return which entries of a day are the first into any journey since the version of that day began.

    ``earlier``: the entries of the days before, of customers as they were called then; who has logged in since is no new customer.
    """
    been = {known.now(entry["customer_id"]) for entry in earlier if since <= entry["date"] < known.day}
    return {(entry["customer_id"], known.day): since for entry in todays if entry["customer_id"] not in been}


def long_outcomes(all_entries: Sequence[Row], triggered: Triggers, known: Known, portfolio: Portfolio) -> list[Row]:
    """Return ``long_outcomes`` of a day: first entries, into a journey or into any, whose long window closed on it.

    Of the system, control is whom the policy holds out: who is held out by a journey alone is sent what others say.
    """
    of = portfolio.measurement
    entered_on = known.day - (of.long_days + of.late_days) * DAY
    every = [(entry["journey_id"], entry) for entry in all_entries if entry["entry_number"] == 1]
    every += [(SYSTEM, entry) for entry in all_entries if (entry["customer_id"], entry["date"]) in triggered]
    found = []
    for name, entry in every:
        by = entry["held_out_by"] if name != SYSTEM or entry["held_out_by"] == "policy" else None
        if entry["date"] != entered_on:
            continue
        found.append(
            {
                "date": known.day,
                "journey_id": name,
                "customer_id": entry["customer_id"],
                "entered_on": entered_on,
                "known_as": known.now(entry["customer_id"]),
                "arm": "treated" if by is None else "control",
                "held_out_by": by,
                "holdout": entry["policy_holdout" if name == SYSTEM else "holdout"],
                "holdout_version": None if name == SYSTEM else entry["holdout_version"],
                "version": entry["version"],
                "contaminated": is_doubtful(entry, all_entries, name, triggered, known),
                **known.sums(measured(portfolio), entry["customer_id"], entered_on, entered_on + of.long_days * DAY),
                **before(entry, portfolio),
            }
        )
    return reference.sort(found, "journey_id", "customer_id")


# --- SPEC 11: estimates ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """One customer: the stratum, the arm, the outcome and the same before. Each is a number, or (numerator, denominator)."""

    stratum: Any
    is_treated: bool
    y: float
    x: float = 0.0
    y_den: float = 1.0
    x_den: float = 1.0


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return math.fsum(values) / len(values)


def products(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the sum of products of what two lists differ from their means by."""
    left_mean, right_mean = mean(left), mean(right)
    return math.fsum((one - left_mean) * (other - right_mean) for one, other in zip(left, right, strict=True))


@dataclass
class Estimate:
    """What is estimated of one metric."""

    treated: int
    control: int
    effect: float
    variance: float
    degrees: float
    theta: float = 0.0
    variance_left: float = 1.0
    parts: list[tuple[float, int, int]] = field(default_factory=list)

    @property
    def error(self) -> float:
        """Return the standard error."""
        return math.sqrt(self.variance)

    def fixed(self) -> tuple[float, float]:
        """Return the interval for one look."""
        half = float(stats.t.ppf(0.975, self.degrees)) * self.error if self.error else 0.0
        return self.effect - half, self.effect + half

    def width(self, expected: int) -> float:
        """Return how many standard errors either side the interval for every look is."""
        n, r2 = self.treated + self.control, mixing(expected)
        return math.sqrt(2 * (n * r2 + 1) / (n * r2) * math.log(math.sqrt(n * r2 + 1) / 0.05))

    def anytime(self, expected: int) -> tuple[float, float]:
        """Return the interval for every look."""
        half = self.width(expected) * self.error
        return self.effect - half, self.effect + half

    def p_anytime(self, expected: int) -> float:
        """Return 1 / evidence, at most 1."""
        n, r2 = self.treated + self.control, mixing(expected)
        if not self.error:  # nobody differs from anybody else of their arm: a difference is certain, as the interval says
            return 0.0 if self.effect else 1.0
        z = self.effect / self.error
        return min(1.0, math.exp(-r2 * n * z * z / (2 * (n * r2 + 1))) * math.sqrt(n * r2 + 1))


def mixing(expected: int) -> float:
    """Return r^2, by which the interval for every look is narrowest at so many customers."""
    return (-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / expected


def linearised(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return what each customer adds to a ratio of sums, as the delta method has it; 0 where nothing was counted."""
    total = math.fsum(denominators)
    if not total:
        return [0.0] * len(numerators)
    ratio, size = math.fsum(numerators) / total, total / len(denominators)
    return [(num - ratio * den) / size for num, den in zip(numerators, denominators, strict=True)]


def by_stratum(units: Sequence[Unit], *, is_ratio: bool) -> dict[Any, tuple[list[Unit], list[Unit]]]:
    """Return the treated and control of each stratum; of a ratio what each of them adds to it there."""
    strata: dict[Any, tuple[list[Unit], list[Unit]]] = {}
    for name in {unit.stratum for unit in units}:
        mine = [unit for unit in units if unit.stratum == name]
        if is_ratio:
            ys = linearised([unit.y for unit in mine], [unit.y_den for unit in mine])
            xs = linearised([unit.x for unit in mine], [unit.x_den for unit in mine])
            mine = [Unit(unit.stratum, unit.is_treated, y, x) for unit, y, x in zip(mine, ys, xs, strict=True)]
        strata[name] = [unit for unit in mine if unit.is_treated], [unit for unit in mine if not unit.is_treated]
    return strata


def answered(units: Sequence[Unit]) -> list[Unit]:
    """Return those in strata in which somebody of either arm has something that a ratio is of: of nothing there is no ratio."""
    some = {(unit.stratum, unit.is_treated) for unit in units if unit.y_den}
    return [unit for unit in units if {(unit.stratum, True), (unit.stratum, False)} <= some]


def left_of(arm: Sequence[Unit], adjusted: Sequence[float], slope: float) -> float:
    """Return the sum of squares that an adjustment leaves; what is left of nothing but the last digits is nothing."""
    ys, xs, squares = [unit.y for unit in arm], [unit.x for unit in arm], products(adjusted, adjusted)
    return squares if squares > 1e-14 * (products(ys, ys) + slope**2 * products(xs, xs)) else 0.0


def estimate(units: Sequence[Unit], *, is_ratio: bool = False, is_adjusted: bool = True) -> Estimate | None:
    """Return the difference between the arms; None where a stratum cannot say: it counts only with two customers in each arm."""
    strata = {name: arms for name, arms in by_stratum(units, is_ratio=is_ratio).items() if min(len(arm) for arm in arms) > 1}
    everybody = sum(len(arm) for arms in strata.values() for arm in arms)
    if not everybody:
        return None
    whole = Estimate(0, 0, 0.0, 0.0, 0.0)
    theta = spread = left = 0.0
    inverse_degrees = 0.0
    for arms in strata.values():
        share = sum(len(arm) for arm in arms) / everybody
        sxx = sum(products([unit.x for unit in arm], [unit.x for unit in arm]) for arm in arms)
        sxy = sum(products([unit.x for unit in arm], [unit.y for unit in arm]) for arm in arms)
        slope = sxy / sxx if sxx and is_adjusted else 0.0
        middle = mean([unit.x for arm in arms for unit in arm])
        adjusted = [[unit.y - slope * (unit.x - middle) for unit in arm] for arm in arms]
        sizes = [len(arm) for arm in arms]
        squares = [left_of(arm, values, slope) for arm, values in zip(arms, adjusted, strict=True)]
        welch = [squared / (size - 1) / size for squared, size in zip(squares, sizes, strict=True)]
        pooled = sum(squares) / (sum(sizes) - 2) * (1 / sizes[0] + 1 / sizes[1])
        whole.treated += sizes[0]
        whole.control += sizes[1]
        whole.effect += share * (mean(adjusted[0]) - mean(adjusted[1]))
        whole.variance += share**2 * max(sum(welch), pooled)
        whole.parts.append((share, *sizes))
        inverse_degrees += sum((share**2 * part) ** 2 / (size - 1) for part, size in zip(welch, sizes, strict=True))
        theta += share * slope
        spread += sum(products([unit.y for unit in arm], [unit.y for unit in arm]) for arm in arms)
        left += sum(squares)
        whole.degrees += share**2 * sum(welch)
    whole.degrees = whole.degrees**2 / inverse_degrees if inverse_degrees else math.nan
    whole.theta, whole.variance_left = theta, left / spread if spread else 1.0
    return whole


def benjamini_hochberg(ps: Mapping[Any, float]) -> dict[Any, float]:
    """Return each p as the least rate of false discoveries at which it would pass."""
    ranked = sorted(ps, key=lambda name: ps[name])
    adjusted, least = {}, 1.0
    for rank in range(len(ranked), 0, -1):
        least = min(least, ps[ranked[rank - 1]] * len(ranked) / rank)
        adjusted[ranked[rank - 1]] = least
    return adjusted


def sample_ratio(rows: Iterable[tuple[Any, float, bool]]) -> float | None:
    """Return how likely so uneven a split is: of (stratum, share held out, is treated); chi-square, a degree for each stratum."""
    total, degrees = 0.0, 0
    rows = [row for row in rows if 0 < row[1] < 1]
    for name in {row[0] for row in rows}:
        mine = [row for row in rows if row[0] == name]
        held_out = round(mine[0][1] * 10_000) / 10_000 * len(mine)
        control = sum(not is_treated for _, _, is_treated in mine)
        total += (control - held_out) ** 2 * (1 / held_out + 1 / (len(mine) - held_out))
        degrees += 1
    return float(stats.chi2.sf(total, degrees)) if degrees else None


# --- SPEC 11: uplift of a journey -----------------------------------------------------------------------------------

GOAL, GOAL_VALUE = "goal", "goal_value"


def told_of(journey: Journey, portfolio: Portfolio) -> list[tuple[str, bool]]:
    """Return the metrics that are told of a journey, and whether each is a ratio: its own if it names some, and what is built in."""
    every = {metric.id: metric.kind == "avg" for metric in measured(portfolio)}
    own = {metric.id for metric in portfolio.metrics}
    named = [
        (name, ratio) for name, ratio in every.items() if not journey.measure.metrics or name in journey.measure.metrics or name not in own
    ]
    if journey.goal is not None:
        named += [(GOAL, False)] + ([(GOAL_VALUE, False)] if journey.goal.value is not None else [])
    return named


def population(rows: Iterable[Row], journey_id: str, doubted: set[tuple[str, str]]) -> list[Row]:
    """Return whose outcomes tell what a journey does: first entries, not contaminated, not held out of everything."""
    return [
        row
        for row in rows
        if row["journey_id"] == journey_id
        and row.get("entry_number", 1) == 1
        and row["held_out_by"] != "policy"
        and not row["contaminated"]
        and (row["journey_id"], row["customer_id"]) not in doubted
    ]


def unit(row: Row, metric: str, *, is_ratio: bool, stratum: Any) -> Unit:
    """Return one customer's part of an estimate."""
    is_treated = row["arm"] == "treated"
    if is_ratio:
        names = (f"{metric}_sum", f"{metric}_sum_before", f"{metric}_count", f"{metric}_count_before")
        return Unit(stratum, is_treated, *(float(row[name] or 0) for name in names))
    return Unit(stratum, is_treated, float(row[metric] or 0), float(row.get(f"{metric}_before") or 0))


def arm_means(units: Sequence[Unit], *, is_ratio: bool) -> tuple[float | None, float | None]:
    """Return what treated and control come to, stratum by stratum as the effect, so that they differ by it before the adjustment.

    Where there is no estimate, as they are. Of a ratio, control's is that of its sums.
    """

    def as_they_are(arm: Iterable[Unit]) -> float | None:
        some = list(arm)
        total = math.fsum(unit.y_den for unit in some)
        return math.fsum(unit.y for unit in some) / total if total else None

    compared = answered(units) if is_ratio else units
    strata = [arms for arms in by_stratum(compared, is_ratio=is_ratio).values() if min(len(arm) for arm in arms) > 1]
    everybody = sum(len(arm) for arms in strata for arm in arms)
    if not everybody:
        treated, control = (as_they_are(unit for unit in units if unit.is_treated is is_so) for is_so in (True, False))
        return treated, control
    shares = [sum(len(arm) for arm in arms) / everybody for arms in strata]
    treated, control = (
        math.fsum(share * mean([unit.y for unit in arms[at]]) for share, arms in zip(shares, strata, strict=True)) for at in (0, 1)
    )
    if not is_ratio:
        return treated, control
    estimated = {unit.stratum for arms in strata for unit in arms[1]}
    ratio = as_they_are(unit for unit in units if not unit.is_treated and unit.stratum in estimated)
    if ratio is None:
        return as_they_are(unit for unit in units if unit.is_treated), None
    return ratio + treated - control, ratio


def error_of_control(units: Sequence[Unit], *, is_ratio: bool) -> float:
    """Return the standard error of control's mean."""
    strata = [arms for arms in by_stratum(units, is_ratio=is_ratio).values() if min(len(arm) for arm in arms) > 1]
    everybody = sum(len(arm) for arms in strata for arm in arms)
    variance = 0.0
    for treated, control in strata:
        ys = [unit.y for unit in control]
        variance += ((len(treated) + len(ys)) / everybody) ** 2 * products(ys, ys) / (len(ys) - 1) / len(ys)
    return math.sqrt(variance)


def alike_before(units: Sequence[Unit], *, is_ratio: bool) -> float | None:
    """Return how likely so different arms before the entry would be by chance; None where all were the same."""
    before_ = [Unit(unit.stratum, unit.is_treated, unit.x, 0.0, unit.x_den, 1.0) for unit in units]
    found = estimate(before_, is_ratio=is_ratio, is_adjusted=False)
    if found is None or not found.error:
        return None
    return float(2 * stats.t.sf(abs(found.effect) / found.error, found.degrees))


def uplift_of(units: Sequence[Unit], portfolio: Portfolio, *, is_ratio: bool) -> Row:
    """Return what can be said of a metric in figures, before any verdict."""
    of = portfolio.measurement
    treated, control = ([unit for unit in units if unit.is_treated is is_so] for is_so in (True, False))
    said: Row = {
        "treated": len(treated),
        "control": len(control),
        "treated_nonzero": sum(unit.y != 0 for unit in treated),
        "control_nonzero": sum(unit.y != 0 for unit in control),
        **dict(zip(("mean_treated", "mean_control"), arm_means(units, is_ratio=is_ratio), strict=True)),
    }
    units = answered(units) if is_ratio else units
    found, plain = (estimate(units, is_ratio=is_ratio, is_adjusted=is_so) for is_so in (True, False))
    if found is None or plain is None:
        return said
    low, high = found.anytime(of.expected_customers)
    fixed_low, fixed_high = found.fixed()
    of_control = said["mean_control"]
    is_visible = of_control is not None and abs(of_control) > 2 * error_of_control(units, is_ratio=is_ratio)
    return said | {
        "relative": found.effect / of_control if is_visible else None,
        "before_p": alike_before(units, is_ratio=is_ratio),
        "effect": found.effect,
        "effect_unadjusted": plain.effect,
        "std_error": found.error,
        "theta": found.theta,
        "variance_left": found.variance_left,
        "fixed_low": fixed_low,
        "fixed_high": fixed_high,
        "anytime_low": low,
        "anytime_high": high,
        "p_anytime": found.p_anytime(of.expected_customers),
        "smallest_visible": 2.8 * found.error,
        "total": found.effect * len(treated),
        "total_low": low * len(treated),
        "total_high": high * len(treated),
    }


def variant_stratum(row: Row, other: str, journey: Journey) -> Any:
    """Return with whom a customer of a variant is compared: those who entered under the same shares, so far as their own says them."""
    share = row["variant_probability"] if len(journey.variants) == 2 else None  # of two, one says the other
    return row["holdout_version"], share if share is None or row["variant"] != other else round(1 - share, 6)


@dataclass(frozen=True)
class Report:
    """What is known of every entry by a day."""

    entries: Sequence[Row]
    outcomes: Sequence[Row]
    long: Sequence[Row]
    now: Callable[[str], str]
    """Who a customer is by today."""
    portfolio: Portfolio
    today: date

    def first(self, journey_id: str) -> list[Row]:
        """Return the first entries into a journey of those whom the policy does not hold out."""
        return [
            entry
            for entry in self.entries
            if entry["journey_id"] == journey_id and entry["entry_number"] == 1 and entry["held_out_by"] != "policy"
        ]

    def doubted(self) -> set[tuple[str, str]]:
        """Return (journey, customer) of the first entries whose customers are one by today, in different arms."""
        arms: dict[tuple[str, str], set[str]] = {}
        for entry in self.entries:
            if entry["entry_number"] == 1:
                arms.setdefault((entry["journey_id"], self.now(entry["customer_id"])), set()).add(entry["arm"])
        return {
            (entry["journey_id"], entry["customer_id"])
            for entry in self.entries
            if len(arms.get((entry["journey_id"], self.now(entry["customer_id"])), ())) > 1
        }

    def again(self) -> set[tuple[str, str]]:
        """Return (journey, customer) of the first entries of customers who had one before, under another name: each counts once."""
        found, been = set(), set()
        for entry in sorted(self.entries, key=lambda row: (row["date"], row["customer_id"])):
            if entry["entry_number"] == 1 and entry["held_out_by"] != "policy":
                at = entry["journey_id"], self.now(entry["customer_id"])
                found |= {(entry["journey_id"], entry["customer_id"])} if at in been else set()
                been.add(at)
        return found

    def of(self, journey: Journey, slice_: str) -> list[Row]:
        """Return the outcomes that a slice is about: of what was true at entry."""
        rows = population(self.long if slice_ == "long" else self.outcomes, journey.id, self.doubted() | self.again())
        kind, _, name = slice_.partition(":")
        kinds: dict[str, Callable[[Row], bool]] = {
            "all": lambda _: True,
            "long": lambda _: True,
            "segment": lambda row: name in row["segments"],
            "month": lambda row: row["entered_on"].isoformat().startswith(name),
            "channel": lambda row: row["preferred_channel"] == name,
            "variant": lambda row: row["arm"] == "treated" and row["variant"] in name.split("/"),
        }
        return [row for row in rows if kinds[kind](row)]

    def figures(self, journey: Journey, metric: str, slice_: str) -> Row:
        """Return what can be said of a metric in figures, before any verdict."""
        is_ratio = any(each.id == metric and each.kind == "avg" for each in measured(self.portfolio))
        rows = self.of(journey, slice_)
        units = [unit(row, metric, is_ratio=is_ratio, stratum=(row["holdout"], row["holdout_version"])) for row in rows]
        if slice_.startswith("variant:"):
            other = slice_.removeprefix("variant:").split("/")[1]  # against the first one that the journey lists
            of = zip(units, rows, strict=True)
            units = [replace(each, is_treated=row["variant"] == other, stratum=variant_stratum(row, other, journey)) for each, row in of]
        days = [row["entered_on"] for row in rows]
        return {
            "from_on": min(days, default=None),
            "to_on": max(days, default=None),
            **uplift_of(units, self.portfolio, is_ratio=is_ratio),
        }

    def counts(self, journey: Journey) -> Row:
        """Return what is told beside every figure of a journey."""
        first = self.first(journey.id)
        return {
            "immature": sum(entry["matures_on"] > self.today for entry in first),
            "sample_ratio_p": sample_ratio(
                ((entry["holdout"], entry["holdout_version"]), entry["holdout"], entry["arm"] == "treated") for entry in first
            ),
        }

    def all(self) -> dict[tuple[str, str], Row]:
        """Return (journey, metric) -> the row of slice ``all``."""
        return {
            (journey.id, metric): {**self.figures(journey, metric, "all"), **self.counts(journey)}
            for journey in self.portfolio.journeys
            for metric, _ in told_of(journey, self.portfolio)
        }
