"""From what the marketers wrote of measuring to what is measured: names checked, conditions compiled, rules between keys.

What belongs here: metrics, measurement, and of a journey how it is measured and its variants. What does not: the shape of a value
(``measuring``), or measuring anything (``outcomes``).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from atc_pipeline.journeys import measuring as written
from atc_pipeline.journeys import portfolio as resolved
from atc_pipeline.journeys.problems import Place


class Refusing(Protocol):
    """How problems are told, and what the rest of the file is asked for."""

    def refuse(self, place: Place, message: str) -> None:
        """Tell a problem."""

    def known(self, place: Place, noun: str, name: str, valid: Collection[str]) -> None:
        """Refuse a name that is not among the valid ones."""

    def all_known(self, place: Place, noun: str, names: Sequence[str], valid: Collection[str]) -> tuple[str, ...]:
        """Refuse names that are not among the valid ones, or are there twice; return them."""

    def selector(self, place: Place, events: tuple[str, ...], each: str | None, where: str | None) -> resolved.Selector:
        """Return which events are meant, with the condition compiled."""


@dataclass(frozen=True)
class Measures:
    """Resolves what is measured; problems are told to ``file``."""

    metrics: Mapping[str, written.Metric]
    measurement: written.Measurement
    file: Refusing

    def resolved_metrics(self) -> tuple[resolved.Metric, ...]:
        """Resolve ``metrics``."""
        return tuple(self._metric(id_, metric) for id_, metric in self.metrics.items())

    def _metric(self, id_: str, metric: written.Metric) -> resolved.Metric:
        place = ("metrics", id_)
        if id_ in _BUILT_IN:
            self.file.refuse(place, f"the name {id_} is taken by a metric that is built in: choose another")
        if id_.endswith(("_before", "_sum", "_count")):
            self.file.refuse(place, f"the name {id_} ends like a column made of a metric (_before, _sum, _count): choose another")
        assert isinstance(metric, written.CountMetric | written.AnyMetric | written.SumMetric | written.AvgMetric)
        summed = metric.property if isinstance(metric, written.SumMetric | written.AvgMetric) else None
        return resolved.Metric(id_, metric.kind, self.file.selector(place, metric.of, metric.each, metric.where), summed)

    def resolved_measurement(self) -> resolved.Measurement:
        """Resolve ``measurement``."""
        of, place = self.measurement, ("measurement",)
        if of.money is not None:
            self.file.known((*place, "money"), "metric", of.money, self.metrics)
            if of.money in self.metrics and self.metrics[of.money].kind != "sum":
                kind = self.metrics[of.money].kind
                self.file.refuse((*place, "money"), f"metric '{of.money}' ({kind}) is no money: expected a sum")
        values = of.model_dump()
        values["guardrails"] = self.file.all_known((*place, "guardrails"), "metric", of.guardrails, self.metrics)
        return resolved.Measurement(**values)

    def measure(self, place: Place, of: written.Measure | None) -> resolved.Measure:
        """Resolve how one journey is measured."""
        if of is None:
            return resolved.Measure()
        return resolved.Measure(of.window_days, self.file.all_known((*place, "metrics"), "metric", of.metrics, self.metrics), of.decide_on)

    def variants(self, place: Place, of: written.Variants | None) -> tuple[resolved.Share, ...]:
        """Resolve the variants of one journey."""
        if of is None:
            return ()
        total = sum(round(share * _FINEST) for share in of.shares.values())
        if total != _FINEST:
            self.file.refuse((*place, "shares"), f"they add up to {total / _FINEST:g}: expected 1")
        return tuple(resolved.Share(id_, share) for id_, share in of.shares.items())

    def check_step(self, place: Place, variant: str | None, variants: Sequence[resolved.Share]) -> None:
        """Refuse a step of a variant that its journey, which has some, does not have."""
        if variant is not None and variants:
            self.file.known((*place, "variant"), "variant", variant, [share.id for share in variants])


def decided_otherwise(before: resolved.Portfolio, after: resolved.Portfolio, today: date) -> list[str]:
    """Return a line for each journey whose ``measure.decide_on`` is another than ``before``, though that day, or the new one, is over.

    The narrow interval is right for one look on a day named in advance: to name it after having looked is to choose the answer.
    """
    days = {journey.id: journey.measure.decide_on for journey in before.journeys}
    problems = []
    for journey in after.journeys:
        old, new = days.get(journey.id), journey.measure.decide_on
        if journey.id in days and old != new and (is_over := [day for day in (old, new) if day is not None and day <= today]):
            problems.append(
                f"journey '{journey.id}', field 'measure.decide_on': {old or 'not set'} was to become {new or 'not set'}, but "
                f"{is_over[0]} is over, and the day is named in advance: leave it as it is, or name a day to come where it was not set"
            )
    return problems


def is_turned_on(before: resolved.Portfolio, after: resolved.Portfolio) -> bool:
    """Say whether what is learned is to decide by now, and did not before."""
    return _is_live(after) and not _is_live(before)


def _is_live(portfolio: resolved.Portfolio) -> bool:
    return portfolio.learning is not None and portfolio.learning.use == "live"


_BUILT_IN = frozenset({resolved.MONEY, resolved.RESPONSES, resolved.GOAL, resolved.GOAL_VALUE})
_FINEST = 10_000
"""Variants are drawn from so many buckets (SPEC 11)."""
