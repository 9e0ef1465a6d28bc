"""Broken is noticed: an experiment that goes wrong is found by the promises of the days, from events to checks, within a week.

What belongs here: what goes wrong, and on which day who notices. What does not: the promises (``promises``), or how sharp a test is on
tables that no pipeline made (``verdicts``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import polars as pl

from atc_pipeline.certificate.claim import Claim, Scale, Stores, Worlds
from atc_pipeline.certificate.driving import Driven
from atc_pipeline.days.outcomes import Uplift
from atc_pipeline.days.step import write_day
from atc_pipeline.promises.catalog import PROMISES
from atc_pipeline.rules.arms import CONTROL, JOURNEY, TREATED
from atc_pipeline.rules.lots import xxh64
from atc_pipeline.tables.store import Store

SEED = 18
TRIALS = {Scale.QUICK: 2, Scale.FULL: 20}
CUSTOMERS, DAYS = 36_000, 8
"""Most of them enter within a week of the first day on which they can."""
LEAST = 20_000
"""Entries of the journey by the last day."""
WITHIN = 7
LOST, SHIFTED = 0.1, 0.03
SENT_TO = 0.01
"""Share of the control group that is sent something: a mistake of a sender's list, not of all."""
PROMISED = ("sample_ratio", "control_is_silent")

Breaking = Callable[[Store, Store, date], None]
"""Writes into the second store what of a day of the first is broken."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and the promise that has to be broken by it; none by nothing."""

    what: str
    promise: str | None
    breaking: Breaking


def broken_worlds_are_noticed(scale: Scale, worlds: Worlds, stores: Stores, *, seed: int = SEED) -> Claim:
    """Let a journey run for a week, break it in several ways, and say when it was noticed."""
    noticed: dict[str, list[int | None]] = {fault.what: [] for fault in FAULTS}
    entries = []
    for trial in range(TRIALS[scale]):
        world = worlds("busy", seed + trial, count=1, customers=CUSTOMERS, days=DAYS)
        driven = Driven.into(stores.empty(), world)
        for _ in driven.run():
            pass
        first = driven.all_of("journey_entries").filter(pl.col("entry_number") == 1)
        entries.append(int(first.select(pl.len()).collect().item()))
        for fault in FAULTS:
            noticed[fault.what].append(_noticed_on(driven, stores.over(driven.store), fault))
    figures = {fault.what: _words(noticed[fault.what]) + (f", by {fault.promise}" if fault.promise is not None else "") for fault in FAULTS}
    figures["entries"] = f"{min(entries):,} and more in each trial"
    is_met = [
        all(day is not None and day <= WITHIN for day in noticed[fault.what])
        if fault.promise is not None
        else sum(day is not None for day in noticed[fault.what]) <= len(entries) // 10
        for fault in FAULTS
    ]
    return Claim(
        name="broken is noticed, end to end",
        how=f"{TRIALS[scale]} worlds of {CUSTOMERS:,} customers who enter a journey within a week; seed {seed}",
        bar=f"each fault is noticed within {WITHIN} days in all of them, where nothing is wrong in at most a tenth",
        figures=figures,
        passed=min(entries) >= LEAST and all(is_met),
    )


def _noticed_on(driven: Driven, broken: Store, fault: Fault) -> int | None:
    """Return on which day of the fault a promise that has to do with it is broken; None where none is."""
    steps = Uplift(broken, driven.portfolio)
    asked = [promise for promise in PROMISES if promise.name in (PROMISED if fault.promise is None else (fault.promise,))]
    for number, day in enumerate(driven.world.days, start=1):
        fault.breaking(driven.store, broken, day)
        write_day(broken, steps, day)
        if any(promise.find(broken, driven.portfolio, [day]).height for promise in asked):
            return number
    return None


def _words(days: list[int | None]) -> str:
    known = [day for day in days if day is not None]
    if not known:
        return f"in none of {len(days)}"
    return f"in {len(known)} of {len(days)}, on day {min(known)}" + (f" to {max(known)}" if max(known) > min(known) else "")


def _changing(change: Callable[[pl.LazyFrame], pl.LazyFrame]) -> Breaking:
    def breaking(store: Store, broken: Store, day: date) -> None:
        broken.write("journey_entries", day, change(store.lazy("journey_entries", day)), store.definitions("journey_entries", day))

    return breaking


def _lot(what: str) -> pl.Expr:
    """Return a lot of the customer's, from 0 to 1, which nothing else is drawn by."""
    return xxh64(pl.concat_str(pl.lit(f"{what}:"), "customer_id")) % 10_000 / 10_000


def _lose(entries: pl.LazyFrame) -> pl.LazyFrame:
    """Lose a tenth of the treated before anybody looks at them."""
    return entries.filter((pl.col("arm") != TREATED) | (_lot("lost") >= LOST))


def _shift(entries: pl.LazyFrame) -> pl.LazyFrame:
    """Treat some of the journey's own control: three points of a hundred customers change sides."""
    moves = (pl.col("held_out_by") == JOURNEY) & (_lot("shifted") < SHIFTED / pl.col("holdout"))
    return entries.with_columns(
        arm=pl.when(moves).then(pl.lit(TREATED)).otherwise("arm"),
        held_out_by=pl.when(moves).then(None).otherwise("held_out_by"),
    )


def _send_to_control(store: Store, broken: Store, day: date) -> None:
    """Deliver to some of the control group what is delivered to the treated."""
    sent = store.lazy("activation", day).collect()
    silent = (
        store.lazy("journey_assignments", day)
        .filter((pl.col("arm") == CONTROL) & (_lot("sent") < SENT_TO))
        .select("customer_id", "journey_id", key=pl.concat_str(pl.lit("to control "), "customer_id"))
        .collect()
    )
    if sent.height and silent.height:
        copied = pl.concat([sent.head(1)] * silent.height).with_columns(
            silent["customer_id"], silent["journey_id"], silent["key"].alias("idempotency_key")
        )
        broken.write("activation", day, pl.concat([sent, copied]).sort("idempotency_key", "customer_id"))


def _leave(_store: Store, _broken: Store, _day: date) -> None:
    """Break nothing."""


FAULTS = (
    Fault("a tenth of the treated entries is lost", "sample_ratio", _changing(_lose)),
    Fault("three points of the customers are treated who are to be held out", "sample_ratio", _changing(_shift)),
    Fault("one in a hundred of control is sent to", "control_is_silent", _send_to_control),
    Fault("nothing", None, _leave),
)
"""What goes wrong; last, nothing."""
