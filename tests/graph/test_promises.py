"""Every check of the code location, as Dagster runs it, has been seen to fail: it is red or yellow where a row is broken on disk.

What belongs here: one table of broken lakes and landing zones, by check, and that no check is without. What does not: the rules
themselves (``tests/engine/promises/test_broken_rows.py``) and the columns of tables (``test_schemas``).
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.activation.tables import HELD, TROUBLES
from atc_pipeline.days import audiences
from atc_pipeline.definitions import build_definitions
from atc_pipeline.events import ingest
from atc_pipeline.journeys.portfolio import EVERYONE_ELSE
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, SPOKEN, line, make_world, run

LAST = DAYS[-1]
FULL = (
    SPOKEN.replace("- id: rescue\n", "- id: rescue\n    capacity: {daily_entries: 4}\n")
    .replace("medium: email,", "medium: email, hours: {from: 8, to: 21}, cap: {days: 3, messages: 3}, per_day: 9,")
    .replace(
        "traits:",
        "  post: {consent: none, to: last_city}\n"
        "audiences: {of_tea: {journey: tea_club, channel: app, match: [last_city], to: [there]}}\npublish: {to: [crm]}\ntraits:",
    )
    .replace(
        "traits:",
        "metrics: {revenue: {sum: revenue, of: Order Completed}}\n"
        "measurement: {money: revenue, window_days: 1, long_days: 1, late_days: 0}\nlearning: {use: shadow}\ntraits:",
    )
    .replace("policy: {", "policy: {explore: 0.005, suppress: [{from: 2026-05-01, to: 2026-05-01}], ")
)
"""As many enter the last journey on the last day as may, and who is in another is told of; a channel has hours, a cap and places."""


@dataclass(frozen=True)
class World:
    """A lake and a landing zone to break."""

    environment: Mapping[str, str]
    instance: dg.DagsterInstance
    monkeypatch: pytest.MonkeyPatch

    @property
    def lake(self) -> Lake:
        """Its lake."""
        return Lake(root=f"{self.environment['ATC_HOME']}/lake")

    @property
    def landing(self) -> Path:
        """Its landing zone."""
        return Path(self.environment["ATC_HOME"]) / "landing"

    def edit(self, table: str, change: Callable[[pl.DataFrame], pl.DataFrame], day: date = LAST) -> None:
        """Write a day of a table anew, otherwise."""
        self.lake.write(table, day, change(self.lake.read(table, day)))

    def set(self, table: str, where: pl.Expr, day: date = LAST, **values: object) -> None:
        """Write other values into some rows of a day, of which there is one at least."""
        assert self.lake.read(table, day).filter(where).height
        changed = {name: pl.when(where).then(pl.lit(value)).otherwise(name).alias(name) for name, value in values.items()}
        self.edit(table, lambda rows: rows.with_columns(**changed).cast(dict(rows.schema)), day)

    def drop(self, table: str, where: pl.Expr) -> None:
        """Take rows out of the last day, of which there is one at least."""
        assert self.lake.read(table, LAST).filter(where).height
        self.edit(table, lambda rows: rows.filter(~where))


Break = Callable[[World], str]
"""Break one row, and return what the check must show of it."""

CUSTOMER, JOURNEY, FEATURE = pl.col("customer_id"), pl.col("journey_id"), pl.col("feature")


def dropped(table: str, shown: str, where: pl.Expr | None = None) -> Break:
    """Take rows out of a table: of a customer, if not told otherwise."""

    def broken(world: World) -> str:
        world.drop(table, shown == CUSTOMER if where is None else where)
        return shown

    return broken


def edited(table: str, shown: str, where: pl.Expr | None = None, **values: object) -> Break:
    """Write other values into rows of a table: of a customer, if not told otherwise."""

    def broken(world: World) -> str:
        world.set(table, shown == CUSTOMER if where is None else where, **values)
        return shown

    return broken


def covered(feature: str, **values: object) -> Break:
    """Write other counts into the coverage of a feature."""
    return edited("feature_coverage", feature, feature == FEATURE, **values)


def a_line_is_lost(world: World) -> str:
    """A fault of ours: an event is dropped on the way, and by nobody's word."""
    judge = ingest.judge

    def forgetful(*block: object, **how: object) -> ingest.Judged:
        judged = judge(*block, **how)  # type: ignore[arg-type]
        return replace(judged, fit=judged.fit.head(-1))

    world.monkeypatch.setattr(ingest, "judge", forgetful)
    return str(LAST)


def a_difference_is_lost(world: World) -> str:
    """A fault of ours: somebody who should be told of is not."""
    hold = audiences.hold
    world.monkeypatch.setattr(audiences, "hold", lambda rows, *more: hold(rows.slice(1), *more))
    return str(world.lake.read("audience_syncs", LAST)["customer_id"][0])


def an_audience_is_small(world: World) -> str:
    """Nobody is in it."""
    world.drop("audience_members", pl.lit(value=True))
    return "of_tea"


def a_typo(world: World) -> str:
    """The file in use names a micro-segment that is not there."""
    path = Path(world.environment["ATC_JOURNEYS"])
    path.write_text(path.read_text().replace("buyers:", "byers:"))
    return "unknown segment 'buyers'"


def a_file_is_passed_over(name: str) -> Break:
    """Put a file into the landing zone that no run reads."""

    def broken(world: World) -> str:
        path = world.landing / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(line("c00", FIRST, 99))
        return Path(name).parts[0]

    return broken


def nothing_arrived(world: World) -> str:
    """A day without its files, after days with some."""
    shutil.rmtree(world.landing / str(LAST))
    return str(LAST)


def no_landing_zone(world: World) -> str:
    """Its folder is elsewhere."""
    world.landing.rename(world.landing.with_name("elsewhere"))
    return "is no folder"


def an_event_never_came(world: World) -> str:
    """On no day of the lake."""
    for day in DAYS:
        world.set("feature_coverage", FEATURE == "orders", day, events=0, matched=0)
    return "orders"


def a_condition_never_held(world: World) -> str:
    """For a week, though the event came: three days are added to the four."""
    for day in DAYS:
        world.set("feature_coverage", FEATURE == "orders", day, matched=0)
    for ago in range(1, 4):
        world.lake.write("feature_coverage", FIRST - timedelta(days=ago), world.lake.read("feature_coverage", FIRST))
        world.set("feature_coverage", FEATURE == "orders", FIRST - timedelta(days=ago), date=FIRST - timedelta(days=ago))
    return "never held"


def two_are_chosen(world: World) -> str:
    """Of one customer, and neither failed a gate."""
    world.set("scored_candidates", (CUSTOMER == "c00") & (pl.col("ruling") == "outscored"), ruling="chosen")
    none_of_the_chosen = pl.when(pl.col("ruling") == "chosen").then(pl.lit([], pl.List(pl.String()))).otherwise("failed_gates")
    world.edit("scored_candidates", lambda rows: rows.with_columns(failed_gates=none_of_the_chosen))
    return "c00"


def yesterday_was_made_again(world: World) -> str:
    """With another row in it; the last day still stands on the former."""
    world.set("journey_state", CUSTOMER == "c00", DAYS[-2], entry_score=0.5)
    return "journey_state"


def one_too_many_enters(world: World) -> str:
    """A fifth, where four may."""
    world.set("journey_assignments", CUSTOMER == "c02", decision="start", journey_id="rescue")
    return "rescue"


def a_residual_beside_another(world: World) -> str:
    """A customer is a buyer, and said to be in no segment."""
    world.edit("micro_segment_memberships", lambda rows: pl.concat([rows, rows.head(1).with_columns(segment_id=pl.lit(EVERYONE_ELSE))]))
    return str(world.lake.read("micro_segment_memberships", LAST)["customer_id"][0])


def a_first_row(table: str) -> Break:
    """Take the first row out of a table."""

    def broken(world: World) -> str:
        customer = str(world.lake.read(table, LAST)["customer_id"][0])
        world.drop(table, customer == CUSTOMER)
        return customer

    return broken


def an_outcome_otherwise(world: World) -> str:
    """Its money is more, by a micro-unit."""
    row = world.lake.read("journey_outcomes", LAST).row(0, named=True)
    world.set("journey_outcomes", row["customer_id"] == CUSTOMER, revenue=row["revenue"] + 0.000001)
    return str(row["customer_id"])


def something_comes_too_late(world: World) -> str:
    """On the last day, of a window that was over on the day before."""
    over = world.lake.read("journey_outcomes", DAYS[-2]).row(0, named=True)
    late = {"date": LAST, "customer_id": over["known_as"], "event_date": over["entered_on"] + timedelta(days=1)}
    world.edit("customer_metrics", lambda rows: pl.concat([rows.head(1).with_columns(**{k: pl.lit(v) for k, v in late.items()}), rows]))
    return str(over["arm"])


def of_a_journey(**values: object) -> Break:
    """Say something else of a journey than was estimated."""
    return edited("uplift", "rescue", pl.col("journey_id") == "rescue", **values)


def delivered_to_control(world: World) -> str:
    """A customer is held out, and was sent a message all the same."""
    row = world.lake.read("activation", LAST).row(0, named=True)
    world.set("activation", pl.col("idempotency_key") == row["idempotency_key"], status="delivered")
    in_it = (row["customer_id"] == CUSTOMER) & (pl.col("journey_id") == row["journey_id"])
    world.set("journey_assignments", in_it, arm="control")
    return str(row["customer_id"])


def a_key_twice(table: str) -> Break:
    """Repeat a row."""

    def broken(world: World) -> str:
        world.edit(table, lambda rows: pl.concat([rows, rows.head(1)]))
        row = world.lake.read(table, LAST).row(0, named=True)
        return str(row.get("customer_id", "multiple_fields_uniqueness"))

    return broken


def an_event_twice(world: World) -> str:
    """Add an event of ours twice: in a dry run there is none."""
    moment = datetime.combine(LAST, datetime.min.time(), UTC)
    event = {"date": LAST, "message_id": "0" * 16, "event": "Message Sent", "customer_id": "c00", "timestamp": moment}
    world.edit("sent_events", lambda rows: pl.concat([rows, pl.DataFrame([event, event], schema=rows.schema)]))
    return "c00"


def an_entry_otherwise(**values: object) -> Break:
    """Write other values into the entry of who enters a journey on the last day, or take it out where none are given."""

    def broken(world: World) -> str:
        customer = str(world.lake.read("journey_entries", LAST)["customer_id"][0])
        if values:
            world.set("journey_entries", customer == CUSTOMER, **values)
        else:
            world.drop("journey_entries", customer == CUSTOMER)
        return customer

    return broken


def none_came(world: World) -> str:
    """Add entries of which nine in ten were to reach the goal, and none did."""
    row = world.lake.read("journey_outcomes", LAST).row(0, named=True)
    known = row | {"goal": False, "expected": 0.9, "propensity_source": "rates", "contaminated": False, "is_drawn": False}
    more = [known | {"customer_id": f"c{number}"} for number in range(900, 920)]
    world.edit("journey_outcomes", lambda rows: pl.concat([rows, pl.DataFrame(more, schema=rows.schema)]))
    return str(row["journey_id"])


def a_judgement_twice(world: World) -> str:
    """Add a row of quality twice: here nothing is learned."""
    blank = {name: 0 if dtype.is_numeric() else None for name, dtype in world.lake.read("model_quality", LAST).schema.items()}
    row = blank | {"date": LAST, "journey_id": "rescue"}
    world.edit("model_quality", lambda rows: pl.concat([rows, pl.DataFrame([row, row], schema=rows.schema)]))
    return "multiple_fields_uniqueness"


def nobody_answered_twice(world: World) -> str:
    """Add a row of an average twice: here nothing is one."""
    table = "journey_satisfaction"
    blank = {name: 0.0 if dtype == pl.Float64() else 0 for name, dtype in world.lake.read(table, LAST).schema.items()}
    row = blank | {"date": LAST, "journey_id": "rescue", "metric": "stars", "not_comparable": False}
    world.edit(table, lambda rows: pl.concat([rows, pl.DataFrame([row, row], schema=rows.schema)]))
    return "multiple_fields_uniqueness"


def rows_more(count: int, day: date = LAST, **values: object) -> Break:
    """Add copies of a message that is sent, under keys of their own, and with these values."""

    def broken(world: World) -> str:
        (row,) = (
            world.lake.read("outbound_messages", LAST).filter(pl.col("withheld").is_null(), pl.col("channel") == "email").head(1).to_dicts()
        )
        copies = [{**row, "date": day, "idempotency_key": f"{number:032}", **values} for number in range(count)]
        world.edit("outbound_messages", lambda rows: pl.concat([rows, pl.DataFrame(copies, schema=rows.schema)]), day)
        return str(values.get("customer_id", row["customer_id"])) if day != LAST else "email"

    return broken


SENT_BY_EMAIL = pl.col("withheld").is_null() & (pl.col("channel") == "email")

CONTENT_IS_TEA = pl.col("content") == "tea_2"

SCHEMAS = (
    "raw_events", "rejected_events", "identity_map", "identity_changes", "customer_activity", "feature_coverage", "customer_profiles",
    "purchase_models", "micro_segment_memberships", "journey_queues", "scored_candidates", "journey_state", "journey_assignments",
    "journey_funnel", "customer_metrics", "journey_entries", "entry_profiles", "goal_models", "journey_outcomes", "long_outcomes",
    "uplift", "segment_matrix",
    "path_steps", "path_durations", "path_summary", "journey_attribution", "journey_movement", "journey_alternatives",
    "journey_described",
    "outbound_messages", "rendered_messages", "content_library", "activation", "audience_members",
    "audience_syncs", "answers", "audience_changes", "sent_events",
)  # fmt: skip

BROKEN: Mapping[str, Mapping[str, Break]] = {
    "raw_events.every_line_accounted_for": {"a line is lost": a_line_is_lost},
    "raw_events.files_passed_over": {
        "in the day's folder": a_file_is_passed_over(f"{LAST}/notes.txt"),
        "in no folder": a_file_is_passed_over("loose.ndjson"),
        "in a folder of another name": a_file_is_passed_over("march/events.ndjson"),
        "before the calendar": a_file_is_passed_over("2020-01-01/events.ndjson"),
    },
    "raw_events.lines_arrived": {"nothing on a day": nothing_arrived, "no landing zone": no_landing_zone},
    "identity_map.ids_lead_to_survivors": {
        "an id is missing": dropped("identity_map", "| 11 | 12 |", CUSTOMER == "c05"),
        "an id is who was absorbed": edited("identity_map", "c11", CUSTOMER == "c05", customer_id="c11"),
        "a customer is drawn by another name": edited("identity_map", "c10", arm_id="c11"),
    },
    "customer_activity.nothing_of_ours_is_counted": {"ours, too": edited("customer_activity", str(LAST), CUSTOMER == "c05", events=9)},
    "feature_coverage.values_are_readable": {
        "some of a feature": covered("spend", skipped=1),
        "all of a feature": covered("spend", skipped=4, read=0),
    },
    "feature_coverage.consent_is_understood": {
        "of a channel": covered("consent.email", skipped=1),
        "of another channel": edited("feature_coverage", "consent.", FEATURE == "consent.*", skipped=1),
    },
    "feature_coverage.every_feature_is_found": {"it never came": an_event_never_came, "it never held": a_condition_never_held},
    "customer_profiles.no_customer_is_lost": {
        "gone": dropped("customer_profiles", "c05"),
        "absorbed by nobody": dropped("identity_changes", "c11", pl.lit(value=True)),
    },
    "purchase_models.models_could_be_fitted": {
        "a note says why not": edited("purchase_models", "too few orders", pl.lit(value=True), note="too few orders")
    },
    "micro_segment_memberships.everyone_is_in_a_segment": {
        "in none": dropped("micro_segment_memberships", "c05"),
        "in the residual one beside another": a_residual_beside_another,
    },
    "journey_queues.decisions_stand_on_these_queues": {
        "one waits longer": edited("journey_queues", "c05", waiting_days=9),
        "one waits no more": dropped("journey_queues", "c05"),
    },
    "journey_queues.journeys_file_is_valid": {"a typo": a_typo},
    "scored_candidates.rulings_add_up": {
        "two are chosen": two_are_chosen,
        'there is no "none"': dropped("scored_candidates", "c00", (CUSTOMER == "c00") & (JOURNEY == "none")),
    },
    "journey_assignments.one_answer_per_customer": {
        "no answer": dropped("journey_assignments", "c05"),
        "an answer to nobody": dropped("customer_profiles", "c05"),
    },
    "journey_assignments.nobody_is_in_two_journeys": {
        "two in flight": edited("journey_state", "c03", ended_on=None, ended_reason=None),
        "none in flight": edited("journey_state", "c01", ended_on=LAST),
        "answered another": edited("journey_assignments", "c01", journey_id="welcome"),
    },
    "journey_assignments.journeys_in_flight_add_up": {
        "another one goes on": edited("journey_assignments", "c01", journey_id="welcome"),
        "none ended": edited("journey_assignments", "c02", ended_journey_id=None),
        "absorbed by nobody": dropped("identity_changes", "c11", pl.lit(value=True)),
    },
    "journey_assignments.days_stand_on_their_yesterday": {"yesterday was made again": yesterday_was_made_again},
    "journey_assignments.no_rule_is_broken": {
        "entered again while in it": edited("journey_assignments", "c01", decision="start"),
        "unknown to the memory": dropped("journey_state", "c00"),
        "entered too often": edited("journey_state", "c03", times_entered=9),
    },
    "customer_metrics.money_is_that_of_the_events": {
        "more": edited("customer_metrics", "c03", **{"revenue.micro": 1}),
        "nothing": dropped("customer_metrics", "c03"),
    },
    "journey_outcomes.outcomes_complete": {
        "one is lost": a_first_row("journey_outcomes"),
        "other money": an_outcome_otherwise,
    },
    "journey_outcomes.late_share": {"it comes too late": something_comes_too_late},
    "path_steps.paths_are_whole": {
        "it began on another day": edited("path_steps", "c05", path_started_on=FIRST),
        "a touch in control": edited("path_steps", "c10", (CUSTOMER == "c10") & (pl.col("position") == 2), journey_id="(silent)"),
    },
    "path_steps.no_path_is_lost": {
        "gone": dropped("path_steps", "c05"),
        "absorbed by nobody": dropped("identity_changes", "c11", pl.lit(value=True)),
    },
    "path_steps.every_touch_is_a_step": {
        "an entry is no step": edited("path_steps", "c03", (CUSTOMER == "c03") & (JOURNEY == "rescue"), entered_on=FIRST),
        "nobody entered it": dropped("journey_entries", "c03"),
    },
    "journey_attribution.credit_adds_up": {
        "a conversion more": edited("path_durations", str(LAST), pl.col("path") == "welcome", converted=9),
        "money less": edited("journey_attribution", str(LAST), JOURNEY == "welcome", value_linear=1.0),
    },
    "goal_models.model_could_be_fitted": {
        "no minimum": edited("goal_models", "no minimum", pl.col("part") == "shared", note="no minimum", source="rates")
    },
    "goal_models.score_asks_what_is_caused": {
        "half of them would have anyway": edited(
            "goal_models", "welcome", JOURNEY == "welcome", name="baseline_rate", value=0.5, source="rates", controls=9
        )
    },
    "model_quality.goals_as_foretold": {"none came": none_came},
    "uplift.control_is_silent": {
        "an event of ours says so": of_a_journey(sent_to_control=1),
        "it was delivered": delivered_to_control,
    },
    "uplift.sample_ratio": {"an arm is short of some": of_a_journey(sample_ratio_p=0.0001)},
    "uplift.alike_before": {"they were not": of_a_journey(before_p=0.000001)},
    "uplift.arms_are_stable": {"one is in both": of_a_journey(unstable=1)},
    "uplift.null_effect": {"of nothing": of_a_journey(verdict="helps")},
    "journey_entries.one_entry_per_start": {
        "a start without an entry": an_entry_otherwise(),
        "another number": an_entry_otherwise(entry_number=9),
        "another variant": an_entry_otherwise(variant="offer"),
    },
    "journey_entries.control_is_held_out": {
        "by nobody": an_entry_otherwise(arm="control"),
        "and treated": an_entry_otherwise(held_out_by="policy"),
    },
    "journey_assignments.no_journey_is_overfull": {"one too many enters": one_too_many_enters},
    "outbound_messages.only_treated_customers_are_written_to": {
        "to one who is held out": edited("journey_assignments", "c00", arm="control"),
        "to one who is in none": edited("journey_assignments", "c00", journey_id=None),
        "to nobody": edited("outbound_messages", "c99", CUSTOMER == "c00", customer_id="c99"),
    },
    "outbound_messages.every_step_due_is_accounted_for": {
        "a row is lost": dropped("outbound_messages", "has no row", SENT_BY_EMAIL),
        "a step that is not due": edited("outbound_messages", "is not due", SENT_BY_EMAIL, step_day=3),
        "on channels that it does not list": edited("outbound_messages", "email&#124;app", SENT_BY_EMAIL, channels="email|app"),
    },
    "outbound_messages.messages_arrive_within_hours": {
        "an hour too late": edited("outbound_messages", "21", SENT_BY_EMAIL, send_at=datetime(2026, 3, 5, 20, tzinfo=UTC)),
    },
    "outbound_messages.nothing_arrives_in_a_blackout": {
        "on the first of May": edited("outbound_messages", "2026-05-01", SENT_BY_EMAIL, send_at=datetime(2026, 4, 30, 22, tzinfo=UTC)),
    },
    "outbound_messages.caps_hold": {"three the day before": rows_more(3, DAYS[-2])},
    "outbound_messages.places_hold": {"nine more": rows_more(9)},
    "outbound_messages.keys_are_unique": {
        "withheld for its key": edited("outbound_messages", "rescue", CUSTOMER == "c03", withheld="key_collision")
    },
    "rendered_messages.texts_are_fit_to_be_sent": {
        "a placeholder": edited("rendered_messages", "tea_2", CONTENT_IS_TEA, text="Dear [Name]"),
        "a header of two lines": edited("rendered_messages", "tea_2", CONTENT_IS_TEA, subject="Tea\r\nBcc: all@example.com"),
    },
    "rendered_messages.emails_can_be_unsubscribed": {
        "not in its HTML": edited("rendered_messages", "tea_2", CONTENT_IS_TEA, html="<p>Tea</p>"),
    },
    "rendered_messages.what_is_sent_is_what_was_rendered": {
        "a message says nothing": dropped("rendered_messages", "tea_2", CONTENT_IS_TEA),
        "what is withheld says something": edited("outbound_messages", "tea_2", CONTENT_IS_TEA, withheld="suppressed"),
    },
    "activation.only_planned_messages_are_delivered": {
        "to nobody it was planned for": edited("activation", "c99", CUSTOMER == "c00", customer_id="c99", status="delivered"),
        "planned by nobody": edited("activation", "no key", CUSTOMER == "c00", idempotency_key="no key", status="unknown"),
    },
    "activation.messages_are_delivered": {
        **{status: edited("activation", status, CUSTOMER == "c00", status=status) for status in (*TROUBLES, HELD)},
        "withheld for its key": edited("activation", "key_collision", CUSTOMER == "c00", status="withheld", reason="key_collision"),
    },
    "audience_members.members_may_be_told_of": {
        "held out": edited("journey_assignments", "not treated in the journey", JOURNEY == "tea_club", arm="control"),
        "in another journey": edited("journey_assignments", "not treated in the journey", JOURNEY == "tea_club", journey_id="welcome"),
        "without consent": edited("customer_profiles", "no consent", pl.lit(value=True), consent_app=False),
        "nothing to be known by": edited("audience_members", "unknown", pl.lit(value=True), identifiers="{}"),
    },
    "audience_members.identifiers_are_plain": {
        "hashed already": edited("customer_profiles", "last_city", CUSTOMER == "c00", last_city="0" * 64)
    },
    "audience_members.audiences_are_large_enough": {"nobody is in it": an_audience_is_small},
    "audience_syncs.differences_are_of_members": {"is no member": dropped("audience_members", "of_tea", pl.lit(value=True))},
    "audience_syncs.audience_shrinks": {"held": edited("audience_syncs", "there", pl.lit(value=True), status="held")},
    "audience_syncs.destinations_have_acknowledged": {
        **{status: edited("audience_syncs", status, pl.lit(value=True), status=status) for status in ("failed", "unknown")},
        "of the one answer": edited("answers", "crm", pl.lit(value=True), status="failed"),
    },
    "audience_syncs.acknowledged_and_differences_are_members": {"a difference is lost": a_difference_is_lost},
    **{f"{table}.schema": {"a key twice": a_key_twice(table)} for table in SCHEMAS},
    "sent_events.schema": {"a key twice": an_event_twice},
    "journey_satisfaction.schema": {"a key twice": nobody_answered_twice},
    "model_quality.schema": {"a key twice": a_judgement_twice},
}  # fmt: skip
"""By check: what is wrong, and how to make it so."""

YELLOW = {
    "journey_outcomes.late_share",
    "uplift.null_effect",
    "goal_models.model_could_be_fitted",
    "goal_models.score_asks_what_is_caused",
    "model_quality.goals_as_foretold",
    "raw_events.files_passed_over",
    "raw_events.lines_arrived",
    "audience_members.identifiers_are_plain",
    "audience_members.audiences_are_large_enough",
    "feature_coverage.values_are_readable",
    "feature_coverage.consent_is_understood",
    "feature_coverage.every_feature_is_found",
    "purchase_models.models_could_be_fitted",
    "journey_queues.decisions_stand_on_these_queues",
    "journey_queues.journeys_file_is_valid",
    "journey_assignments.days_stand_on_their_yesterday",
}
"""Checks that warn; the others are red."""
STOPS_NOTHING = {
    *YELLOW,
    "uplift.sample_ratio",
    "uplift.alike_before",
    "uplift.arms_are_stable",
    "outbound_messages.keys_are_unique",
    "activation.messages_are_delivered",
    "audience_syncs.audience_shrinks",
    "audience_syncs.destinations_have_acknowledged",
}
"""Checks that nothing waits for."""
BY_THE_CLOCK = "journey_assignments.yesterday_is_decided"
"""What no row breaks but the hour: seen to fail in ``test_alerts``."""
INGEST = {"raw_events.every_line_accounted_for", "raw_events.files_passed_over", "raw_events.lines_arrived"}
"""Checks of what is only known while lines are read: the step tells them itself."""

SYNCHRONIZING = {"audience_syncs.acknowledged_and_differences_are_members"}
"""What is only known while destinations are told."""
TOLD = {
    check: tables
    for checks, tables in ((INGEST, ("raw_events", "rejected_events")), (SYNCHRONIZING, ("audience_syncs", "answers")))
    for check in checks
}
"""By check that its own step tells: what that makes."""

SHOWN_IN = ("first_failing_rows", "refused", "first_passed_over", "arrived", "days_without_lines", "days_that_do_not_add_up")
"""Where a check shows what it has found."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world after its four days, on the last of which two customers turned out to be one."""
    folder = tmp_path_factory.mktemp("promises")
    environment = make_world(folder, FULL)
    alias = line("c10", LAST, 80, type="alias", previousId="c11")
    Path(environment["ATC_HOME"], "landing", str(LAST), "alias.ndjson").write_text(alias)
    bounce = line("c00", FIRST, 81, event="Email Bounced")  # which every channel with an address waits for
    Path(environment["ATC_HOME"], "landing", str(FIRST), "bounce.ndjson").write_text(bounce)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, LAST, instance=instance).success
    return folder


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """One for all: checks leave nothing in it that another reads."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def world(whole: Path, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of that world, to be broken."""
    copy = shutil.copytree(whole, tmp_path / "world")
    monkeypatch.setattr("atc_pipeline.promises.audiences.SERVED_FROM", 1)
    return World({"ATC_HOME": str(copy / "home"), "ATC_JOURNEYS": str(copy / "journeys.yaml")}, instance, monkeypatch)


def executed(world: World, *checks: str) -> dg.ExecuteInProcessResult:
    """Execute checks by themselves, as the UI's Execute button does: they look at the latest day; or read that day's lines again."""
    definitions = build_definitions(world.environment)
    if TOLD.keys() >= set(checks):
        job = definitions.resolve_implicit_global_asset_job_def()
        tables = [dg.AssetKey(table) for table in TOLD[checks[0]]]
        return job.execute_in_process(instance=world.instance, partition_key=str(LAST), asset_selection=tables, raise_on_error=False)
    keys = [dg.AssetCheckKey(dg.AssetKey(table), name) for table, _, name in (check.partition(".") for check in checks)]
    alone = dg.Definitions(
        assets=definitions.assets,
        asset_checks=definitions.asset_checks,
        resources=definitions.resources,
        jobs=[dg.define_asset_job("by_themselves", dg.AssetSelection.checks(*keys))],
    )
    return alone.resolve_job_def("by_themselves").execute_in_process(instance=world.instance, raise_on_error=False)


def named(evaluation: dg.AssetCheckEvaluation) -> str:
    """Return the table and the name of a check."""
    return f"{evaluation.asset_key.to_user_string()}.{evaluation.check_name}"


@pytest.mark.slow
def test_every_check_passes_where_nothing_is_broken(world: World) -> None:
    """None is red or yellow without a reason."""
    results = [executed(world, *(BROKEN.keys() - TOLD.keys())), executed(world, *INGEST), executed(world, *SYNCHRONIZING)]
    passed = {named(check): check.passed for result in results for check in result.get_asset_check_evaluations()}
    assert passed == dict.fromkeys(BROKEN, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "way"), [pytest.param(check, way, id=f"{check}: {way}") for check, ways in BROKEN.items() for way in ways]
)
def test_a_check_fails_and_shows_what_is_broken(world: World, check: str, way: str) -> None:
    """It is red and what follows waits; or only told, where the check is one of those."""
    shown = BROKEN[check][way](world)
    result = executed(world, check)
    (evaluation,) = (each for each in result.get_asset_check_evaluations() if named(each) == check)
    assert not evaluation.passed
    assert evaluation.severity == (dg.AssetCheckSeverity.WARN if check in YELLOW else dg.AssetCheckSeverity.ERROR)
    assert shown in " ".join(str(evaluation.metadata[name].value) for name in SHOWN_IN if name in evaluation.metadata)
    assert result.success == (check in STOPS_NOTHING)


def test_every_check_has_a_row_that_breaks_it(tmp_path: Path) -> None:
    """A check that was never seen to fail is not a check."""
    checks = build_definitions(make_world(tmp_path)).resolve_asset_graph().asset_check_keys
    assert {f"{key.asset_key.to_user_string()}.{key.name}" for key in checks} == {*BROKEN, BY_THE_CLOCK}
