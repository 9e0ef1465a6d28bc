"""A day of what is described: paths and what money of theirs is put down to, movement within journeys, who came back, what was answered.

Everything is carried on from the day before, so that a day costs the day. Messages count as delivered when our own events say so
(``Message Sent``), which arrive like any other.

What belongs here: what a day of it reads, and how far back. What does not: counting (``outcomes.paths``, ``outcomes.movement``).
"""

from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl

from atc_pipeline.activation.withdrawal import NEWS, refusals
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import RESPONSES, Metric, Portfolio, goal_metric
from atc_pipeline.outcomes.attribution import attribute_closed
from atc_pipeline.outcomes.movement import Moves, count_alternatives, count_moves, describe_answers, describe_journeys, dropped
from atc_pipeline.outcomes.paths import News, add_closed, follow_paths, open_paths, summarise
from atc_pipeline.outcomes.tables import columns_of
from atc_pipeline.outcomes.windows import sums_in
from atc_pipeline.rules.arms import POLICY
from atc_pipeline.rules.measured import MESSAGE_SENT, SENT, kept_columns, micro_of, number_of
from atc_pipeline.rules.numbers import MICRO
from atc_pipeline.rules.ours import is_ours
from atc_pipeline.rules.people import survivors, whose
from atc_pipeline.tables.store import Store, Tables, yesterday_of

RESPONSE_DAYS = 3
"""Days after a message in which a response counts as one to it (SPEC 13)."""

_DAY = timedelta(days=1)
_SPELL = ("customer_id", "journey_id", "entered_on", "arm")
_ENDING = ("customer_id", "journey_id", "entered_on", "arm", "ended_on", "ended_reason")
_NO_MONEY = pl.DataFrame(schema={"customer_id": pl.String(), "event_date": pl.Date(), "micro": pl.Int64()})
_NO_RESPONSES = pl.DataFrame(schema={"customer_id": pl.String(), "event_date": pl.Date(), "responses": pl.Int64()})
_SPELLS = {
    **dict.fromkeys(("customer_id", "journey_id"), pl.String()),
    "entered_on": pl.Date(),
    "arm": pl.String(),
    "on": pl.Date(),
    "event": pl.String(),
    "within": pl.Int64(),
}
"""Those who were in a journey, ``_SPELL``, on a day, the goal that it is for, and within how many days."""
_NOBODY = pl.DataFrame(schema={"journey_id": pl.String(), "day_index": pl.Int64(), "arm": pl.String(), "is_advanced": pl.Boolean()})


class Described:
    """Follows paths and movement from day to day."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio
        self.late = portfolio.measurement.late_days
        self.metrics = {metric.id: metric for metric in (*portfolio.measured, *portfolio.goal_metrics)}
        self._since: dict[str, date] = {}
        self._rolling: Rolling | None = None
        self._metrics: tuple[date, pl.LazyFrame] | None = None

    def make(self, day: date) -> Tables:
        """Return the eight tables of paths and movement."""
        # Of a lake that is older than entries are kept, there is nothing to describe before these were.
        for table in ("journey_entries", "customer_metrics"):
            self._since[table] = max([self.portfolio.starts_on, *self.store.days(table)[:1]])
        news = self._news(day)
        steps = follow_paths(self._carried("path_steps", day), news, today=day, path_days=self.portfolio.paths.path_days)
        closed = add_closed(self._carried("path_durations", day), steps, today=day)
        uplift = self.store.lazy("uplift", day).collect()
        moves = self._moves(day, news.endings)
        movement = count_moves(self._carried("journey_movement", day), moves, today=day)
        lost, options = dropped(moves, today=day), self.store.lazy("scored_candidates", day)
        outcomes = self.store.lazy("journey_outcomes", day).collect()
        described, answers = self._carried("journey_described", day), self._carried("journey_satisfaction", day)
        return {
            "path_steps": steps,
            "path_durations": closed,
            "path_summary": summarise(closed, open_paths(steps), today=day),
            "journey_attribution": attribute_closed(closed, uplift, self.portfolio.money, today=day),
            "journey_movement": movement,
            "journey_alternatives": count_alternatives(self._carried("journey_alternatives", day), lost, options, today=day),
            "journey_described": describe_journeys(described, movement, outcomes, self.portfolio, today=day),
            "journey_satisfaction": describe_answers(answers, outcomes, self.portfolio, today=day),
        }

    def _carried(self, table: str, day: date) -> pl.DataFrame | None:
        """Read the day before; None on the first day."""
        yesterday = yesterday_of(self.store, table, day, self._since["journey_entries"])
        return None if yesterday is None else yesterday.collect()

    def _absorbed(self, day: date, since: date) -> pl.LazyFrame:
        return absorbed(self.store.lazy("identity_map", day), since=since)

    def _news(self, day: date) -> News:
        entries = self.store.lazy("journey_entries", day).select("customer_id", "journey_id", "arm")
        seen = self.store.lazy("customer_profiles", day).select("customer_id", "first_seen_on")
        return News(
            entries=entries.join(seen, on="customer_id", how="left").collect(),
            money=self._arrived(day, self.portfolio.money, "micro", _NO_MONEY),
            endings=self._endings(day),
            sent=self._sent(day),
            responses=self._arrived(day, RESPONSES, "responses", _NO_RESPONSES),
            absorbed=self._absorbed(day, since=day).select("absorbed", "customer_id").collect(),
        )

    def _endings(self, day: date) -> pl.DataFrame:
        """Return the spells that ended on the day, and those that two merged customers had of one journey, where only the other is kept."""
        state = self.store.lazy("journey_state", day)
        ended = state.filter(pl.col("ended_on") == day).select(_ENDING).collect()
        before, names = self._before("journey_assignments", day), self._absorbed(day, since=day).collect()
        if before is None or names.is_empty():
            return ended
        involved = pl.concat([names["absorbed"].alias("customer_id"), names["customer_id"]]).unique()
        inside = before.filter(pl.col("customer_id").is_in(involved.implode())).select(_SPELL).drop_nulls("journey_id")
        gone = survivors(inside, names.lazy()).join(state, on=["customer_id", "journey_id", "entered_on"], how="anti").unique()
        return pl.concat([ended, gone.with_columns(ended_on=pl.lit(day), ended_reason=pl.lit("merged")).select(_ENDING).collect()])

    def _before(self, table: str, day: date) -> pl.LazyFrame | None:
        return yesterday_of(self.store, table, day, self.portfolio.starts_on)

    def _arrived(self, day: date, metric: str | None, name: str, nothing: pl.DataFrame) -> pl.DataFrame:
        """Return what arrived on the day of a metric: money in micro-units, of what is counted one unit each."""
        if metric is None or metric not in self.metrics:
            return nothing
        measured = self.metrics[metric]
        value = pl.col(micro_of(measured)) if measured.kind == "sum" else pl.col(number_of(measured)) * (MICRO if name == "micro" else 1)
        rows = self.store.lazy("customer_metrics", day).select("customer_id", "event_date", value.cast(pl.Int64).alias(name))
        return rows.filter(pl.col(name) != 0).collect()

    def _sent(self, day: date) -> pl.DataFrame:
        """Count by customer and journey the messages that our events of the day say were delivered."""
        rows = self.store.lazy("customer_metrics", day).select("customer_id", pl.col(SENT).alias("journey_id")).explode("journey_id")
        sent = rows.drop_nulls().unnest("journey_id").group_by("customer_id", "journey_id").agg(sent=pl.col("n").sum())
        return sent.collect()

    def _messages(self, arrived_on: date) -> pl.DataFrame:
        """One row per message that our events of a day say was delivered: ``customer_id, journey_id, day_index, sent_on``."""
        rows = self.store.lazy("raw_events", arrived_on).filter((pl.col("event") == MESSAGE_SENT) & is_ours())
        return (
            rows.select(
                whose(self.portfolio.blocked),
                journey_id=_property("$.journey_id"),
                day_index=_property("$.step_day").cast(pl.Int64, strict=False),
                sent_on="event_date",
            )
            .drop_nulls()
            .collect()
        )

    def _moves(self, day: date, endings: pl.DataFrame) -> Moves:
        before, today = self._before("journey_assignments", day), self.store.lazy("journey_assignments", day)
        begun = today.filter((pl.col("entered_on") == day) & pl.col("decision").is_in(["start", "switch"]))
        present = [frame.select(_SPELL[1:]).drop_nulls("journey_id") for frame in (begun, *([] if before is None else [before]))]
        return Moves(
            present=pl.concat(present),
            endings=endings,
            refused=self._refused(day, today),
            messages=self._answered_messages(day),
            watched=self._watched(day),
        )

    def _refused(self, day: date, assignments: pl.LazyFrame) -> pl.DataFrame:
        """Return whoever is in a journey and said no on one of its channels on the day."""
        events = self.store.lazy("raw_events", day).filter((pl.col("type") == "track") & pl.col("event").is_in(NEWS))
        named = survivors(events.with_columns(whose(self.portfolio.blocked)), absorbed(self.store.lazy("identity_map", day))).collect()
        channels = pl.LazyFrame(
            [(journey.id, channel) for journey in self.portfolio.journeys for channel in journey.channels],
            schema={"journey_id": pl.String(), "channel": pl.String()},
            orient="row",
        )
        refused = refusals(named, self.portfolio).lazy().select("customer_id", "channel").unique()
        inside = assignments.select(_SPELL).drop_nulls("journey_id").join(refused, on="customer_id")
        return inside.join(channels, on=["journey_id", "channel"], how="semi").select(_SPELL).unique().collect()

    def _answered_messages(self, day: date) -> pl.DataFrame:
        """Count messages told of so many days ago that every response to them has come, and those that had one."""
        told_on = day - timedelta(days=RESPONSE_DAYS + self.late)
        place = ["journey_id", "day_index"]
        if told_on < self._since["customer_metrics"]:
            return pl.DataFrame(
                schema={**dict.fromkeys(place, pl.String()), "day_index": pl.Int64(), "sent": pl.Int64(), "responded": pl.Int64()}
            )
        messages = self._messages(told_on).with_row_index("row").lazy()
        now = survivors(messages, absorbed(self.store.lazy("identity_map", day)))
        spans = now.select("row", "customer_id", after=pl.col("sent_on") - _DAY, until=pl.col("sent_on").dt.offset_by(f"{RESPONSE_DAYS}d"))
        answered = self._sums(day, spans, self.metrics.get(RESPONSES))
        rows = messages.join(answered, on="row", how="left")
        is_answered = (pl.col("summed") > 0).fill_null(value=False)
        return rows.group_by(place).agg(sent=pl.len().cast(pl.Int64), responded=is_answered.sum().cast(pl.Int64)).collect()

    def _watched(self, day: date) -> pl.DataFrame:
        """Return who was in a journey, for the first time, on the day after which its goal's days are over today, and who reached it.

        Who is held out of everything is not looked at: they are other people (SPEC 11).
        """
        spells = pl.concat([pl.LazyFrame(schema=_SPELLS), *self._spells_over(day)]).collect().with_row_index("row").lazy()
        parts = [_NOBODY.lazy()]
        for event in sorted({journey.goal.event for journey in self.portfolio.journeys if journey.goal}):
            rows = spells.filter(event=event)
            spans = rows.select("row", "customer_id", after="on", until=pl.col("on") + pl.duration(days="within"))
            reached = self._sums(day, spans, self.metrics[goal_metric(event)])
            parts.append(
                rows.join(reached, on="row", how="left").select(
                    "journey_id",
                    ((pl.col("on") - pl.col("entered_on")).dt.total_days() + 1).alias("day_index"),
                    "arm",
                    is_advanced=(pl.col("summed") > 0).fill_null(value=False),
                )
            )
        return pl.concat(parts).collect()

    def _spells_over(self, day: date) -> Iterator[pl.LazyFrame]:
        """Yield by goal and its days the spells on the day ``on``, after which these are over today: ``_SPELLS``."""
        goals = sorted({(journey.goal.within_days, journey.goal.event) for journey in self.portfolio.journeys if journey.goal})
        for within, event in goals:
            then = day - timedelta(days=within + self.late)
            if then < self._since["customer_metrics"]:
                continue
            ours = [
                each.id for each in self.portfolio.journeys if each.goal and (each.goal.within_days, each.goal.event) == (within, event)
            ]
            is_first = pl.col("ended_on").is_null() & (pl.col("times_entered") == 1) & pl.col("journey_id").is_in(ours)
            state = self.store.lazy("journey_state", then).filter(is_first & pl.col("held_out_by").ne_missing(pl.lit(POLICY)))
            spells = survivors(state.select(_SPELL), self._absorbed(day, since=then))
            yield spells.select(*_SPELL, on=pl.lit(then), event=pl.lit(event), within=pl.lit(within, pl.Int64))

    def _sums(self, day: date, spans: pl.LazyFrame, metric: Metric | None) -> pl.LazyFrame:
        """Add up one metric in each span: ``row`` and ``summed``."""
        if metric is None:
            return pl.LazyFrame(schema={"row": pl.UInt32(), "summed": pl.Float64()})
        if self._metrics is None or self._metrics[0] != day:
            self._metrics = day, survivors(self._kept().until(day), absorbed(self.store.lazy("identity_map", day)))
        return sums_in(self._metrics[1], spans, (metric,)).select("row", summed=pl.col(columns_of(metric)[0]))

    def _kept(self) -> Rolling:
        """Return the days of metrics that responses and goals are looked for in."""
        if self._rolling is None:
            goals = [(journey.goal.within_days, goal_metric(journey.goal.event)) for journey in self.portfolio.journeys if journey.goal]
            names = {name for _, name in goals} | ({RESPONSES} & self.metrics.keys())
            days = max([RESPONSE_DAYS, *(within for within, _ in goals)]) + self.late
            columns = {
                "date": pl.Date(),
                "customer_id": pl.String(),
                "event_date": pl.Date(),
                **kept_columns(self.metrics[name] for name in sorted(names)),
            }
            self._rolling = Rolling(self.store, "customer_metrics", days, columns, since=self._since["customer_metrics"], may_lack=True)
        return self._rolling


def _property(path: str) -> pl.Expr:
    return pl.col("properties").str.json_path_match(path)
