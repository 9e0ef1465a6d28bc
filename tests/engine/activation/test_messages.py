"""Messages: their keys, their times, and what was sent already."""

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.activation import messages
from atc_pipeline.journeys.calendar import is_time_zone
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from tests.engine import reference

JOURNEYS = """
version: "1"
calendar: {{timezone: {timezone}, starts_on: 2011-01-01}}
channels: {{app: {{consent: opt_out}}, web: {{consent: none}}}}
journeys:
  - id: a
    length_days: 9
    queue: {{where: "tenure_days >= 0"}}
    steps: {steps}
policy: {{suppressed_when: "tenure_days > 99"}}
"""
STEPS = "[{day: 1, channel: app, content: hello}, {day: 3, channel: app, content: tips}]"
TODAY = date(2026, 1, 10)
NAMES = st.text(alphabet="a:b-2026011ü", min_size=1, max_size=12)


def portfolio(folder: Path, timezone: str = "UTC", steps: str = STEPS) -> Portfolio:
    """A portfolio of one journey with these steps."""
    path = folder / "journeys.yaml"
    path.write_text(JOURNEYS.format(timezone=timezone, steps=steps))
    return load_portfolio(path)


def answers(customers: list[str], *, day_index: int = 1, today: date = TODAY) -> pl.LazyFrame:
    """The answer of each customer: in the journey, treated."""
    entered = today - timedelta(days=day_index - 1)
    return pl.LazyFrame({"customer_id": customers}).with_columns(
        journey_id=pl.lit("a"),
        arm=pl.lit("treated"),
        entered_on=pl.lit(entered),
        day_index=pl.lit(day_index, pl.Int64),
        ends_on=pl.lit(entered + timedelta(days=8)),
        score=pl.lit(1.0),
    )


def people(customers: list[str], timezone: list[str | None] | None = None, hour: list[int | None] | None = None) -> pl.LazyFrame:
    """The profile of each customer."""
    frame = {"customer_id": customers, "timezone": timezone or [None] * len(customers), "best_hour": hour or [None] * len(customers)}
    schema = {"customer_id": pl.String, "timezone": pl.String, "best_hour": pl.Int64}
    return pl.LazyFrame(frame, schema=schema).with_columns(
        consent_app=pl.lit(None, pl.Boolean), consent_web=pl.lit(None, pl.Boolean), tenure_days=pl.lit(1, pl.Int64)
    )


def planned(config: Portfolio, customers: list[str], **options: object) -> pl.DataFrame:
    """Today's messages of these customers."""
    return messages.write_messages(answers(customers), people(customers), config, today=TODAY, **options).messages  # type: ignore[arg-type]


def test_a_key_is_the_hash_of_who_what_when_and_how(tmp_path: Path) -> None:
    """The first 32 digits of SHA-256 over customer, journey, entry, step and channel, parted by colons."""
    (key,) = planned(portfolio(tmp_path), ["ü:1"])["idempotency_key"]
    assert key == hashlib.sha256("ü:1:a:2026-01-10:1:app".encode()).hexdigest()[:32]


@given(st.lists(st.tuples(NAMES, st.sampled_from(["a", "b-2026", "1"]), st.sampled_from(["a", "app"])), min_size=2, max_size=8))
def test_no_two_messages_have_one_text(rows: list[tuple[str, str, str]]) -> None:
    """Whatever colons a customer's name has in it: its text says who, what, when and how in one way only."""
    frame = pl.DataFrame(rows, schema=["customer_id", "journey_id", "channel"], orient="row").unique(maintain_order=True)
    frame = frame.with_columns(entered_on=pl.lit(TODAY), step_day=pl.lit(1, pl.Int64), channels="channel")
    texts = frame.select(messages.text_of("customer_id"))["customer_id"]
    assert texts.n_unique() == frame.height
    for text, row in zip(texts, frame.iter_rows(named=True), strict=True):
        assert text.rsplit(":", 4) == [row["customer_id"], row["journey_id"], "2026-01-10", "1", row["channel"]]


def test_a_collision_costs_only_those_concerned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should two texts ever have one hash, both messages are withheld with the reason, and the others go out."""
    monkeypatch.setattr(messages, "sha256", lambda text: pl.when(text.str.contains("x|y")).then(pl.lit("f" * 64)).otherwise(text))
    rows = planned(portfolio(tmp_path), ["x", "y", "z"]).sort("customer_id")
    assert rows.select("customer_id", "withheld").rows() == [("x", "key_collision"), ("y", "key_collision"), ("z", None)]


def test_a_message_is_known_by_the_names_and_keys_it_had(tmp_path: Path) -> None:
    """By the names that were absorbed since the entry, and where older versions have sent, by their keys of 16 digits."""
    due = planned(portfolio(tmp_path), ["u", "v"]).with_columns(entered_on=pl.lit(TODAY))
    rows = [("anon:x", "u", TODAY), ("anon:old", "u", TODAY - timedelta(days=1)), ("anon:other", "w", TODAY)]
    absorbed = pl.LazyFrame(rows, schema=["absorbed", "customer_id", "valid_from"], orient="row")
    key = dict(due.select("customer_id", "idempotency_key").iter_rows())

    def texts(customer: str) -> tuple[str, str]:
        text = f"{customer}:a:2026-01-10:1:app"
        return hashlib.sha256(text.encode()).hexdigest()[:32], f"{reference.xxh64(text):016x}"

    new = {(key["u"], "anon:x", texts("anon:x")[0])}
    older = {(key["u"], "anon:x", texts("anon:x")[1]), (key["u"], "u", texts("u")[1]), (key["v"], "v", texts("v")[1])}
    assert set(messages.other_keys(due, absorbed, with_older=False).rows()) == new
    assert set(messages.other_keys(due, absorbed, with_older=True).rows()) == new | older
    assert messages.other_keys(due.clear(), absorbed, with_older=True).is_empty()


ZONES = sorted(name for name in available_timezones() if is_time_zone(name))
CLOCKS_CHANGE = {
    "America/Los_Angeles": [date(2026, 3, 7), date(2026, 10, 31), date(2026, 11, 20)],
    "Europe/Berlin": [date(2026, 3, 28), date(2026, 10, 24), date(2026, 10, 25)],
    "Pacific/Auckland": [date(2026, 4, 4), date(2026, 9, 26)],
    "America/Sao_Paulo": [date(2018, 11, 3), date(2019, 2, 16)],  # at midnight
    "Australia/Lord_Howe": [date(2026, 4, 4), date(2026, 10, 3)],  # by half an hour
    "Pacific/Apia": [date(2011, 12, 28), date(2011, 12, 29), date(2011, 12, 30)],  # by a day
    "Etc/GMT+12": [date(2026, 1, 10)],  # the farthest west; the farthest east is 26 hours ahead
}


@pytest.mark.slow
@pytest.mark.parametrize(("timezone", "day"), [(zone, day) for zone, days in CLOCKS_CHANGE.items() for day in days])
def test_a_message_is_due_after_the_day_at_the_best_hour(tmp_path: Path, timezone: str, day: date) -> None:
    """In every zone and hour: the first time on a later day of the customer's that is not before the end of the day; as zoneinfo has it."""
    pairs = [(zone, hour) for zone in [*ZONES, None, "no/zone"] for hour in [*range(24), None]]
    names = [f"{number:05}" for number in range(len(pairs))]
    who = people(names, [zone for zone, _ in pairs], [hour for _, hour in pairs])
    config = portfolio(tmp_path, timezone)
    due = messages.write_messages(answers(names, today=day), who, config, today=day).messages.sort("customer_id")["send_at"].to_list()
    business, end = ZoneInfo(timezone), datetime.combine(day + timedelta(days=1), time(), ZoneInfo(timezone)).astimezone(UTC)
    for (zone, hour), at in zip(pairs, due, strict=True):
        place = business if zone in (None, "no/zone") else ZoneInfo(zone)
        wanted = 10 if hour is None else hour
        assert at == reference.send_at(day, time(wanted), place, business)
        local = at.astimezone(place)
        assert at >= end
        assert local.date() > day
        is_skipped = datetime.combine(local.date(), time(wanted), place).astimezone(UTC).astimezone(place).hour != wanted
        assert local.hour == wanted or is_skipped or local.date() == date(2011, 12, 31)
        assert local.fold == 0
        before = datetime.combine(local.date() - timedelta(days=1), time(wanted), place).astimezone(UTC)
        assert before < end or local.date() == day + timedelta(days=1) or before == at


def test_on_a_running_day_a_message_is_due_after_now(tmp_path: Path) -> None:
    """Wherever the customer is, the best hour that comes next; never one that is over."""
    now = datetime(2026, 1, 10, 23, 30, tzinfo=UTC)
    who = people(["a", "b", "c"], ["UTC", "Pacific/Auckland", "America/Los_Angeles"], [23, 9, 20])
    rows = messages.write_messages(answers(["a", "b", "c"]), who, portfolio(tmp_path), today=TODAY, now=now).messages.sort("customer_id")
    assert rows["send_at"].to_list() == [
        datetime(2026, 1, 11, 23, tzinfo=UTC),
        datetime(2026, 1, 11, 20, tzinfo=UTC),  # on the 11th 9:00 in Auckland was three hours ago
        datetime(2026, 1, 11, 4, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    ("steps", "entered_before", "withheld", "reason"),
    [
        pytest.param("[{day: 5, channel: app, content: tips}]", 4, None, "already_sent", id="moved"),
        pytest.param("[{day: 3, channel: app, content: tips}, {day: 5, channel: app, content: tips}]", 4, None, "already_sent", id="twice"),
        pytest.param("[{day: 5, channel: app, content: tips, repeat: true}]", 4, None, None, id="meant twice"),
        pytest.param("[{day: 5, channel: web, content: tips}]", 4, None, None, id="another channel"),
        pytest.param("[{day: 5, channel: app, content: tricks}]", 4, None, None, id="another content"),
        pytest.param("[{day: 5, channel: app, content: tips}]", 4, "no_consent", None, id="it was withheld"),
        pytest.param("[{day: 5, channel: app, content: tips}]", 1, None, None, id="in an earlier entry"),
    ],
)
def test_a_step_that_was_moved_is_not_sent_again(
    tmp_path: Path, steps: str, entered_before: int, withheld: str | None, reason: str | None
) -> None:
    """The same content on the same channel in the same entry went out by a step the journey has no more."""
    config = portfolio(tmp_path, steps=steps)
    earlier = pl.LazyFrame(
        {"date": [TODAY - timedelta(days=2)], "customer_id": ["u"], "journey_id": ["a"], "step_day": [3], "channel": ["app"],
         "content": ["tips"], "withheld": [withheld]},
        schema_overrides={"withheld": pl.String},
    )  # fmt: skip
    now_in = answers(["u"], day_index=5).with_columns(entered_on=pl.lit(TODAY - timedelta(days=entered_before)))
    (row,) = messages.write_messages(now_in, people(["u"]), config, today=TODAY, earlier=earlier).messages.iter_rows(named=True)
    assert row["withheld"] == reason


def test_what_is_tried_again_is_due_at_the_next_best_hour_of_who_still_may_be_written_to(tmp_path: Path) -> None:
    """A message of days ago goes to whoever that is now; not after a withdrawal, nor to somebody who is gone or suppressed."""
    config = portfolio(tmp_path)
    customers = ["anon:x", "gone", "loud", "no", "yes"]
    earlier = planned(config, customers)
    absorbed = pl.LazyFrame({"absorbed": ["anon:x"], "customer_id": ["u"], "valid_from": [TODAY]})
    who = people(["u", "loud", "no", "yes"], hour=[8, 9, 9, 9]).with_columns(
        consent_app=pl.col("customer_id") != "no", tenure_days=pl.when(pl.col("customer_id") == "loud").then(100).otherwise(1)
    )
    now = datetime(2026, 1, 12, 8, 30, tzinfo=UTC)
    again = messages.due_again(earlier.lazy(), who, config, today=TODAY + timedelta(days=1), now=now, absorbed=absorbed).collect()
    assert again.columns == earlier.columns
    assert again.select("customer_id", "withheld").sort("customer_id").rows() == [
        ("anon:x", None), ("gone", "no_consent"), ("loud", "suppressed"), ("no", "no_consent"), ("yes", None),
    ]  # fmt: skip
    due = dict(again.select("customer_id", "send_at").iter_rows())
    assert (due["anon:x"], due["yes"]) == (datetime(2026, 1, 13, 8, tzinfo=UTC), datetime(2026, 1, 12, 9, tzinfo=UTC))
    assert again.sort("customer_id")["idempotency_key"].equals(earlier.sort("customer_id")["idempotency_key"])


def test_a_flood_of_time_zones_that_are_none_costs_little(tmp_path: Path) -> None:
    """Whoever sends a hundred thousand names of zones makes nobody look them up one by one."""
    names = [f"c{number}" for number in range(100_000)]
    looked_up = is_time_zone.cache_info().misses
    who = people(names, [f"zone/{name}" for name in names])
    rows = messages.write_messages(answers(names), who, portfolio(tmp_path), today=TODAY).messages
    assert rows["send_at"].unique().to_list() == [datetime(2026, 1, 11, 10, tzinfo=UTC)]
    assert rows["zone_from"].unique().to_list() == ["calendar"]
    assert is_time_zone.cache_info().misses <= looked_up + 1


VARIANTS = """[
    {day: 1, channel: app, content: one, variant: x, at: "09:00"},
    {day: 1, channel: app, content: two, variant: y, at: "18:00"},
    {day: 1, channel: web, content: all, at: "12:00"}]
    variants: {shares: {x: 0.5, y: 0.5}}"""


def test_a_step_of_a_variant_goes_to_that_variant_only(tmp_path: Path) -> None:
    """What names none goes to all; who entered while there were no variants gets nothing that is of one."""
    config, names = portfolio(tmp_path, steps=VARIANTS), ["u", "v", "w"]
    of_variants = pl.LazyFrame({"customer_id": names, "variant": ["x", "y", None]})
    drawn = answers(names).join(of_variants, on="customer_id", maintain_order="left")
    rows = messages.write_messages(drawn, people(names), config, today=TODAY).messages.sort("customer_id", "content")
    assert rows.select("customer_id", "content").rows() == [("u", "all"), ("u", "one"), ("v", "all"), ("v", "two"), ("w", "all")]
    older = messages.write_messages(answers(names), people(names), config, today=TODAY).messages
    assert older["content"].to_list() == ["all"] * 3


def test_without_variants_of_the_journey_a_steps_variant_is_a_label(tmp_path: Path) -> None:
    """It says nothing of who gets it, as before."""
    config = portfolio(tmp_path, steps="[{day: 1, channel: app, content: one, variant: x}, {day: 1, channel: web, content: two}]")
    rows = messages.write_messages(answers(["u"]).with_columns(variant=pl.lit("y")), people(["u"]), config, today=TODAY).messages
    assert rows.sort("content").select("content", "variant").rows() == [("one", "x"), ("two", None)]


def test_what_is_tried_again_keeps_the_hour_of_its_variant(tmp_path: Path) -> None:
    """Two steps share a day and a channel: the message is of the one that has its content."""
    config, names = portfolio(tmp_path, steps=VARIANTS), ["u", "v"]
    drawn = answers(names).with_columns(variant=pl.when(pl.col("customer_id") == "u").then(pl.lit("x")).otherwise(pl.lit("y")))
    earlier = messages.write_messages(drawn, people(names), config, today=TODAY).messages.filter(pl.col("channel") == "app")
    now = datetime(2026, 1, 11, 5, tzinfo=UTC)
    nobody = pl.LazyFrame(schema={"absorbed": pl.String, "customer_id": pl.String, "valid_from": pl.Date})
    who = people(names)
    again = messages.due_again(earlier.lazy(), who, config, today=TODAY + timedelta(days=1), now=now, absorbed=nobody).collect()
    assert again.select("idempotency_key").equals(earlier.select("idempotency_key"))
    assert dict(again.select("content", pl.col("send_at").dt.hour()).iter_rows()) == {"one": 9, "two": 18}
