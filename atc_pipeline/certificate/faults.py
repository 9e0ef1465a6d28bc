"""Broken is noticed: of an experiment that goes wrong the verdict is that it is broken, within a week.

What belongs here: what goes wrong, and on which day it is noticed. What does not: the tests (``outcomes.verdicts``), how sharp they are on
tables that no pipeline made (``verdicts``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import polars as pl

from atc_pipeline.certificate.claim import Claim, Scale, Stores, Worlds
from atc_pipeline.certificate.driving import SHOWN, Driven, Outbox, deliver_all
from atc_pipeline.days.outcomes import Uplift
from atc_pipeline.outcomes.tables import BROKEN
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
Change = Callable[[pl.LazyFrame], pl.LazyFrame]
"""Breaks a day's entries."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong: between the decision and those who analyse it, or where messages go out; or nothing at all."""

    what: str
    change: Change | None = None
    outbox: Outbox = deliver_all
    is_noticed: bool = True


def broken_worlds_are_noticed(scale: Scale, worlds: Worlds, stores: Stores, *, seed: int = SEED) -> Claim:
    """Let a journey run for a week, break it in several ways, and say when it was noticed."""
    noticed: dict[str, list[int | None]] = {fault.what: [] for fault in FAULTS}
    entries = []
    for trial in range(TRIALS[scale]):
        for outbox in dict.fromkeys(fault.outbox for fault in FAULTS):
            world = worlds("busy", seed + trial, count=1, customers=CUSTOMERS, days=DAYS)
            driven = Driven.into(stores.empty(), world, outbox, SHOWN)
            for _ in driven.run():
                pass
            first = driven.all_of("journey_entries").filter(pl.col("entry_number") == 1)
            entries.append(int(first.select(pl.len()).collect().item()))
            for fault in FAULTS:
                if fault.outbox is outbox:
                    noticed[fault.what].append(_noticed_on(driven, stores.over(driven.store), fault))
    figures = {fault.what: _words(noticed[fault.what]) for fault in FAULTS}
    figures["entries"] = f"{min(entries):,} and more in each trial"
    is_met = [
        all(day is not None and day <= WITHIN for day in noticed[fault.what])
        if fault.is_noticed
        else sum(day is not None for day in noticed[fault.what]) <= TRIALS[scale] // 10
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
    """Return on which day of the fault the verdict of the journey is that its experiment is broken; None where it never is."""
    uplift = Uplift(broken, driven.portfolio)
    for number, day in enumerate(driven.world.days, start=1):
        if fault.change is not None:
            entries = fault.change(driven.store.lazy("journey_entries", day))
            broken.write("journey_entries", day, entries, driven.store.definitions("journey_entries", day))
        rows = uplift.make(day)["uplift"].lazy().collect()
        if (rows["verdict"] == BROKEN).any():
            return number
    return None


def _words(days: list[int | None]) -> str:
    known = [day for day in days if day is not None]
    if not known:
        return f"in none of {len(days)}"
    return f"in {len(known)} of {len(days)}, on day {min(known)}" + (f" to {max(known)}" if max(known) > min(known) else "")


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


def _deliver_to_control_too(store: Store, day: date) -> pl.DataFrame:
    """Plan for some of the control group what is planned for the treated, and deliver it."""
    messages = store.lazy("outbound_messages", day).collect()
    held_out = store.lazy("journey_assignments", day).filter((pl.col("arm") == CONTROL) & (_lot("sent") < SENT_TO))
    planned = messages.unique(["journey_id", "step_day"], keep="first", maintain_order=True).drop("customer_id", "idempotency_key")
    wrong = (
        held_out.select("customer_id", "journey_id", step_day=pl.col("day_index").cast(pl.Int64))
        .collect()
        .join(planned, on=["journey_id", "step_day"])
        .with_columns(idempotency_key=pl.format("to-control-{}-{}", "customer_id", "step_day"), withheld=pl.lit(None, pl.String))
    )
    store.write("outbound_messages", day, pl.concat([messages, wrong.select(messages.columns)]).sort("idempotency_key", "customer_id"))
    return deliver_all(store, day)


FAULTS = (
    Fault("a tenth of the treated entries is lost", _lose),
    Fault("three points of the customers are treated who are to be held out", _shift),
    Fault("one in a hundred of control is sent to", outbox=_deliver_to_control_too),
    Fault("nothing", is_noticed=False),
)
"""What goes wrong; last, nothing."""
