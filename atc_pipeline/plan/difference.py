"""What two courses of the same days differ in, counted: the parts of a plan's report (SPEC 15).

What belongs here: counting. What does not: making the courses (``courses``), what is said of the counts (``report``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from atc_pipeline.journeys.changes import Changes
from atc_pipeline.journeys.portfolio import NONE, Portfolio
from atc_pipeline.plan.power import smallest_visible
from atc_pipeline.plan.report import (
    Contact,
    Counts,
    Customers,
    Example,
    Figures,
    How,
    Moved,
    OfArm,
    OfCap,
    OfChannel,
    OfDay,
    OfJourney,
    OfSegment,
    Scale,
    Value,
)
from atc_pipeline.rules.lots import bucket
from atc_pipeline.tables.store import Store

EXAMPLES = 5
VISIBLE_AFTER = 30
"""Days of entries after which the smallest visible effect is told."""
_ENTRY = ("start", "switch")
_SIDES = ("before", "after")


@dataclass(frozen=True, eq=False)
class Course:
    """One side: the store that holds its days, and the portfolio of the last of them."""

    store: Store
    portfolio: Portfolio


@dataclass(frozen=True, eq=False)
class Difference:
    """The parts of the report that are counted, of two courses over the same days."""

    customers: Customers
    journeys: tuple[OfJourney, ...]
    contact: Contact
    segments: tuple[OfSegment, ...]
    arms: tuple[OfArm, ...]
    value: Value
    scale: Scale | None
    examples: tuple[Example, ...]


def compare(before: Course, after: Course, changes: Changes, days: Sequence[date]) -> Difference:
    """Count what two courses differ in; both must have every day."""
    answers = _answers(before.store, after.store, days)
    changed = answers.filter(pl.col("journey_before") != pl.col("journey_after"))
    by_day = answers.group_by("date").agg(customers=pl.len(), changed=(pl.col("journey_before") != pl.col("journey_after")).sum())
    return Difference(
        customers=Customers(
            customers=answers["customer_id"].n_unique(),
            changed=changed["customer_id"].n_unique(),
            by_day=tuple(OfDay(**row) for row in by_day.sort("date").iter_rows(named=True)),
        ),
        journeys=tuple(_journeys(before, after, answers, changed, changes, days)),
        contact=_contact(before, after, answers, days),
        segments=tuple(_segments(before, after, changes, days[-1])),
        arms=tuple(_arms(after, answers, days)),
        value=Value(
            is_known=False,
            says="Not asked: the value is that of a changed file against what each day really ran with.",
            score=Figures(**{side: _score(answers, side) for side in _SIDES}),
        ),
        scale=_scale(before, after, days[-1]) if _learns(before) != _learns(after) else None,
        examples=tuple(_examples(before, after, changed)),
    )


def _learns(course: Course) -> tuple[str, str]:
    """Return whether what is learned decides, and by which score."""
    learning = course.portfolio.learning
    return "" if learning is None or learning.use == "shadow" else "live", course.portfolio.policy.score.text


def _scale(before: Course, after: Course, day: date) -> Scale:
    """Compare the scores of journeys with that of sending nothing, of whoever has an option on a day."""
    sides = []
    for course in (before, after):
        options = course.store.lazy("scored_candidates", day).select("customer_id", "journey_id", "score", "mandatory")
        of_none = pl.col("journey_id") == NONE
        scores = (
            options.group_by("customer_id")
            .agg(
                best=pl.col("score").filter(~of_none).max(),
                none=pl.col("score").filter(of_none).max(),
                must=(pl.col("mandatory") & ~of_none).any(),
            )
            .drop_nulls("best")
            .collect()
        )
        below = scores.filter(~pl.col("must") & (pl.col("best") <= pl.col("none").fill_null(0.0)))
        sides.append((scores["best"].median(), scores["none"].median(), below.height))
    (best, none, below_before), (best_after, none_after, below_after) = sides
    return Scale(
        best=Figures(before=_float(best), after=_float(best_after)),
        none=Figures(before=_float(none), after=_float(none_after)),
        below=Counts(before=below_before, after=below_after),
    )


def _float(number: object) -> float | None:
    return float(number) if isinstance(number, int | float) else None


def _answers(before: Store, after: Store, days: Sequence[date]) -> pl.DataFrame:
    """One row per day and customer: the answers of both sides."""
    frames = [
        _scan(store, "journey_assignments", days)
        .select("date", "customer_id", "decision", "arm", "score", journey=pl.col("journey_id").fill_null(NONE))
        .rename({name: f"{name}_{side}" for name in ("decision", "arm", "score", "journey")})
        .collect()
        for side, store in zip(_SIDES, (before, after), strict=True)
    ]
    return frames[0].join(frames[1], on=["date", "customer_id"], how="inner", validate="1:1")


def _journeys(
    before: Course, after: Course, answers: pl.DataFrame, changed: pl.DataFrame, changes: Changes, days: Sequence[date]
) -> Iterable[OfJourney]:
    counted = [_by_journey(course, answers, side, days) for side, course in zip(_SIDES, (before, after), strict=True)]
    names = {journey.id: journey.name for course in (before, after) for journey in course.portfolio.journeys}
    moves = changed.group_by("journey_before", "journey_after").agg(customers=pl.col("customer_id").n_unique())
    gained, lost = (
        dict(changed.group_by(f"journey_{side}").agg(pl.col("customer_id").n_unique()).iter_rows()) for side in ("after", "before")
    )
    moves = moves.sort("customers", "journey_before", "journey_after", descending=[True, False, False])
    for id_ in sorted({*names, *counted[0], *counted[1]}):
        sides = {side: counts.get(id_, {}) for side, counts in zip(_SIDES, counted, strict=True)}
        came, went = moves.filter(journey_after=id_), moves.filter(journey_before=id_)
        yield OfJourney(
            id=id_,
            name=names.get(id_, id_),
            how=_how(changes, "journey", id_),
            **{
                name: Counts(**{side: of.get(name) or 0 for side, of in sides.items()})
                for name in ("queued", "entered", "starved", "wanted")
            },
            **{name: Figures(**{side: of.get(name) for side, of in sides.items()}) for name in ("waiting_days", "places", "price")},
            gained=gained.get(id_, 0),
            lost=lost.get(id_, 0),
            gained_from=tuple(Moved(journey_id=name, customers=n) for name, n in came.select("journey_before", "customers").iter_rows()),
            lost_to=tuple(Moved(journey_id=name, customers=n) for name, n in went.select("journey_after", "customers").iter_rows()),
        )


def _by_journey(course: Course, answers: pl.DataFrame, side: str, days: Sequence[date]) -> dict[str, dict[str, float | None]]:
    """Return journey -> what is counted of it on one side."""
    queues = _scan(course.store, "journey_queues", days).select("date", "journey_id", "customer_id", "waiting_days").collect()
    answered = answers.select("customer_id", journey_id=f"journey_{side}", decision=f"decision_{side}")
    entries = answered.filter(pl.col("decision").is_in(_ENTRY))
    always = queues.group_by("journey_id", "customer_id").len().filter(pl.col("len") == len(days))
    funnel = _scan(course.store, "journey_funnel", days).collect()
    parts = (
        pl.DataFrame({"journey_id": [journey.id for journey in course.portfolio.journeys]}, schema={"journey_id": pl.String}),
        queues.group_by("journey_id").agg(queued=pl.len()),
        queues.filter(pl.col("date") == days[-1]).group_by("journey_id").agg(pl.col("waiting_days").mean()),
        entries.group_by("journey_id").agg(entered=pl.len()),
        always.join(answered, on=["journey_id", "customer_id"], how="anti").group_by("journey_id").agg(starved=pl.len()),
        funnel.group_by("journey_id").agg(pl.col("wanted").sum()),
        funnel.filter(pl.col("places").is_not_null()).group_by("journey_id").agg(pl.col("places").sum(), pl.col("price").mean()),
    )
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.join(part, on="journey_id", how="full", coalesce=True)
    return {row.pop("journey_id"): row for row in joined.iter_rows(named=True)}


def _contact(before: Course, after: Course, answers: pl.DataFrame, days: Sequence[date]) -> Contact:
    messages, capped = [], []
    for course in (before, after):
        due = _scan(course.store, "outbound_messages", days).filter(pl.col("withheld").is_null())
        messages.append(dict(due.group_by("channel").agg(pl.len()).collect().iter_rows()))
        turned_away = _scan(course.store, "scored_candidates", days).filter(pl.col("ruling") == "frequency_cap")
        capped.append(turned_away.select(pl.struct("date", "customer_id").n_unique()).collect().item())
    has_cap = any(course.portfolio.policy.cap is not None for course in (before, after))
    return Contact(
        none=Counts(**{side: answers.filter(pl.col(f"journey_{side}") == NONE).height for side in _SIDES}),
        channels=tuple(
            OfChannel(channel=channel, messages=Counts(before=messages[0].get(channel, 0), after=messages[1].get(channel, 0)))
            for channel in sorted({*messages[0], *messages[1]})
        ),
        caps=(OfCap(cap="policy.cap", reached=Counts(before=capped[0], after=capped[1])),) if has_cap else (),
    )


def _segments(before: Course, after: Course, changes: Changes, day: date) -> Iterable[OfSegment]:
    counted: list[dict[str, tuple[int, int]]] = []
    for course in (before, after):
        queued = course.store.lazy("journey_queues", day).select("customer_id", is_queued=pl.lit(value=True)).unique()
        members = course.store.lazy("micro_segment_memberships", day).join(queued, on="customer_id", how="left").group_by("segment_id")
        sizes = members.agg(size=pl.len(), unqueued=pl.col("is_queued").is_null().sum()).collect()
        known = {segment.id: (0, 0) for segment in course.portfolio.segments}
        counted.append(known | {segment: (size, unqueued) for segment, size, unqueued in sizes.iter_rows()})
    for id_ in sorted({*counted[0], *counted[1]}):
        old, new = (counts.get(id_, (0, 0)) for counts in counted)
        yield OfSegment(
            id=id_,
            how=_how(changes, "segment", id_),
            size=Counts(before=old[0], after=new[0]),
            in_no_queue=Counts(before=old[1], after=new[1]),
        )


def _arms(after: Course, answers: pl.DataFrame, days: Sequence[date]) -> Iterable[OfArm]:
    """Count entries by arm; whoever enters a journey both ways, on whatever days, has one arm on each side."""
    sides = []
    for side in _SIDES:
        entries = answers.filter(pl.col(f"decision_{side}").is_in(_ENTRY))
        sides.append(entries.select("customer_id", journey_id=f"journey_{side}", arm=f"arm_{side}"))
    firsts = [entries.unique(["customer_id", "journey_id"], keep="first", maintain_order=True) for entries in sides]
    both = firsts[0].join(firsts[1], on=["customer_id", "journey_id"], suffix="_after")
    moved = dict(both.filter(pl.col("arm") != pl.col("arm_after")).group_by("journey_id").len().iter_rows())
    counts = [{(journey, arm): n for journey, arm, n in entries.group_by("journey_id", "arm").len().iter_rows()} for entries in sides]
    state = after.store.lazy("journey_state", days[-1]).filter(pl.col("ended_on").is_not_null())
    is_reached = pl.col("ended_reason") == "converted"
    rates = dict(state.group_by("journey_id").agg(is_reached.mean()).collect().iter_rows())
    for id_ in sorted({journey for of_side in counts for journey, _ in of_side}):
        arms = {arm: Counts(before=counts[0].get((id_, arm), 0), after=counts[1].get((id_, arm), 0)) for arm in ("treated", "control")}
        rate = rates.get(id_) or after.portfolio.policy.prior_propensity
        treated, control = (arms[arm].after / len(days) * VISIBLE_AFTER for arm in ("treated", "control"))
        yield OfArm(
            journey_id=id_,
            changes_arm=moved.get(id_, 0),
            treated=arms["treated"],
            control=arms["control"],
            base_rate=min(1.0, rate),
            visible=smallest_visible(treated, control, min(1.0, rate)),
        )


def _score(answers: pl.DataFrame, side: str) -> float:
    return float(answers.filter(pl.col(f"journey_{side}") != NONE)[f"score_{side}"].sum())


def _examples(before: Course, after: Course, changed: pl.DataFrame) -> Iterable[Example]:
    """Draw customers by lot, of each the first day that differs: of every kind of move first, the commonest first."""
    first = changed.sort("date").unique("customer_id", keep="first", maintain_order=True).with_columns(arm_id="customer_id")
    move = ("journey_before", "journey_after")
    drawn = first.with_columns(bucket=bucket("plan")).sort("bucket", "customer_id")
    drawn = drawn.with_columns(turn=pl.int_range(pl.len()).over(move), like_it=pl.len().over(move))
    drawn = drawn.sort("turn", "like_it", "bucket", "customer_id", descending=[False, True, False, False])
    for row in drawn.head(EXAMPLES).iter_rows(named=True):
        yield Example(
            bucket=row["bucket"],
            customer_id=row["customer_id"],
            date=row["date"],
            before=row["journey_before"],
            after=row["journey_after"],
            says=_why(before, after, row),
        )


def _why(before: Course, after: Course, row: dict[str, object]) -> str:
    """Say in two sentences what decided it: what won on each side, and how that side ruled on what wins on the other."""
    says = []
    for side, course, name in (("before", before, row["journey_after"]), ("after", after, row["journey_before"])):
        options = course.store.lazy("scored_candidates", _day(row)).filter(customer_id=row["customer_id"], journey_id=name)
        ruling = options.select("ruling", "score").collect()
        loser = f"{name} is no option" if ruling.is_empty() else f"{name} is {ruling['ruling'].item()}{_at(ruling['score'].item())}"
        winner = _WON[str(row[f"decision_{side}"])].format(row[f"journey_{side}"])
        says.append(f"{side.title()}: {winner}{_at(row[f'score_{side}'])}; {loser}.")
    return " ".join(says)


_WON = {"none": "in no journey", "start": "starts {}", "switch": "switches to {}", "continue": "stays in {}"}


def _day(row: dict[str, object]) -> date:
    day = row["date"]
    assert isinstance(day, date)
    return day


def _at(score: object) -> str:
    return f" ({score:.4f})" if isinstance(score, float) else ""


def _how(changes: Changes, kind: str, id_: str) -> How:
    return next((change.how for change in changes.every if (change.kind, change.id) == (kind, id_)), "same")


def _scan(store: Store, table: str, days: Sequence[date]) -> pl.LazyFrame:
    rows = store.scan(table, days)
    assert rows is not None, f"{table} has no day of the window"
    return rows
