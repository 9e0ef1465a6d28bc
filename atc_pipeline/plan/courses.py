"""The same days by another portfolio: from the recorded memory of the day before, in a store of its own, on recorded customers.

What belongs here: which days of which steps a portfolio needs to be made, before and in the window. What does not: any step (``days``),
comparing (``difference``).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta

from atc_pipeline.customers import features
from atc_pipeline.customers.profiles import lookback_days
from atc_pipeline.days.activation import Messages
from atc_pipeline.days.customers import Activity, Memberships, Profiles
from atc_pipeline.days.decision import Decision, Queues
from atc_pipeline.days.features import Definitions
from atc_pipeline.days.step import Step, write_day
from atc_pipeline.explanation.reading import PortfolioOf
from atc_pipeline.journeys.changes import Changes
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.plan.replay import standing
from atc_pipeline.tables.store import Store

Progress = tuple[str, date]
"""What is being made, and which day of it has been."""


def follow(store: Store, portfolio_of: PortfolioOf, days: Sequence[date], recorded: Store | None = None) -> Iterator[Progress]:
    """Make memberships, queues, decision and messages of each day, each on the day before in the same store.

    ``recorded``: where it is read which assignments had been delivered, and stood; without it nobody was sent anything.
    """
    steps: Sequence[Step] = ()
    for day in days:
        portfolio = portfolio_of(day)
        if not steps or steps[0].portfolio.fingerprint != portfolio.fingerprint:
            decision = Decision(store, portfolio, is_measured=False)
            steps = (Memberships(store, portfolio), Queues(store, portfolio), decision, Messages(store, portfolio))
        if recorded is not None:
            decision.delivered = standing(recorded, day)
        for step in steps:
            write_day(store, step, day)
        yield "deciding", day


def catch_up(store: Store, portfolio: Portfolio, changes: Changes, first: date, last: date) -> Iterator[Progress]:
    """Make what a changed portfolio needs before the window begins, as ``apply`` would: columns, then spells in segments and queues.

    Columns that are new or defined otherwise are made as far back as they look, else from the first day of the lake; spells over the
    last ``calendar.backfill_days`` before ``first``. Raises OutdatedDayError where no profile can be made of what there is.
    """
    since = max(portfolio.starts_on, first - timedelta(days=portfolio.backfill_days))
    definitions = Definitions(store, features.definitions(portfolio), portfolio.starts_on)
    changed = {feature for day in days_of(since, last) for feature in definitions.changed("customer_profiles", day)}
    if changed:
        begins = _begins(portfolio, changed, since)
        activity = Activity(store, portfolio, only_changed=True)
        for day in days_of(max(portfolio.starts_on, begins - timedelta(days=lookback_days(portfolio))), begins - timedelta(days=1)):
            write_day(store, activity, day)
            yield "reading events again", day
        made_again: Sequence[Step] = (activity, Profiles(store, replace(portfolio, starts_on=begins), only_changed=True))
        for day in days_of(begins, last):
            for step in made_again:
                write_day(store, step, day)
            yield "making changed columns again", day
    if changes.segments or changes.queues:
        spells: Sequence[Step] = (Memberships(store, portfolio), Queues(store, portfolio))
        for day in days_of(since, first - timedelta(days=1)):
            for step in spells:
                write_day(store, step, day)
            yield "building queues", day


def _begins(portfolio: Portfolio, changed: Collection[str], since: date) -> date:
    """Return the first day that features must be made of to be whole on ``since``: of windows no more than they look back."""
    traits = {trait.id: trait for trait in portfolio.traits}
    looked_back = 0
    for feature in changed:
        trait = traits.get(feature)
        ranked = traits.get(trait.property or "") if trait is not None and trait.kind == "percentile" else trait
        if ranked is None or ranked.within_days is None:
            return portfolio.starts_on
        looked_back = max(looked_back, ranked.within_days)
    return max(portfolio.starts_on, since - timedelta(days=looked_back + _AHEAD))


_AHEAD = 2
"""Days by which an event may be dated after the day on which it arrived, rounded up (SPEC 1: ``from_the_future``)."""


def days_of(first: date, last: date) -> Sequence[date]:
    """Return the days from the first to the last."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
