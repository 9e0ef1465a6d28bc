"""Which channel a message takes, and when: against the reference, over the years, and one case for each rule."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from atc_pipeline.activation import messages
from atc_pipeline.activation.messages import write_messages
from atc_pipeline.activation.tables import OUTBOUND_MESSAGES
from atc_pipeline.decision.decide import columns_needed
from atc_pipeline.journeys.portfolio import WEEKDAYS, Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from tests.engine import reference
from tests.engine.comparison import differences
from tests.engine.worlds import to_yaml

TODAY = date(2026, 3, 27)  # a Friday; in Berlin the clocks skip an hour on Sunday
DAY = timedelta(days=1)
Rows = list[dict[str, object]]


def portfolio(folder: Path, ways: Mapping[str, object], steps: list[dict[str, object]], **more: object) -> Portfolio:
    """Return a portfolio of journey a with these steps through these channels, and of a mandatory journey m with the same."""
    journey = {"length_days": 9, "queue": {"where": "true"}, "steps": steps, **more}
    document = {
        "version": "1",
        "calendar": {"timezone": "Europe/Berlin", "starts_on": date(2015, 1, 1)},
        "channels": ways,
        "engagement": {"touch": ["A"], "response": ["B"], "half_life_days": 7},
        "traits": {"mail": {"profile": "mail", "type": "string"}, "age": {"profile": "age", "type": "number"}},
        "journeys": [{"id": "a", **journey}, {"id": "m", "mandatory": True, **journey}],
        "policy": {"suppressed_when": "age > 99"},
    }
    path = folder / "journeys.yaml"
    path.write_text(to_yaml(document))
    return load_portfolio(path)


def answer(customer: str, *, journey: str = "a", day_index: int = 1, today: date = TODAY, score: float | None = 1.0) -> dict[str, object]:
    """Return the answer of a customer who is treated."""
    entered = today - (day_index - 1) * DAY
    row = {"customer_id": customer, "journey_id": journey, "arm": "treated", "entered_on": entered, "day_index": day_index, "score": score}
    return {**row, "ends_on": entered + 8 * DAY}


def profile(customer: str, config: Portfolio, **more: object) -> dict[str, object]:
    """Return the profile of a customer who has said yes everywhere and has an address."""
    said = {f"consent_{channel.id}": True for channel in config.channels}
    said |= {f"bounced_{channel}": False for channel in config.addressed}
    plain = {"customer_id": customer, "timezone": None, "best_hour": None, "preferred_channel": None, "mail": "c@example.com", "age": 30.0}
    return {**plain, **said, **more}


def people(rows: Rows) -> pl.LazyFrame:
    """Return profiles as a table."""
    texts = {"timezone": pl.String, "preferred_channel": pl.String, "mail": pl.String, "best_hour": pl.Int64, "age": pl.Float64}
    flags = {name: pl.Boolean for name in rows[0] if name.startswith(("consent_", "bounced_"))}
    return pl.LazyFrame(rows, schema_overrides=texts | flags)


def sent_before(rows: Rows) -> pl.LazyFrame | None:
    """Return messages of the days before as a table."""
    schema = {name: OUTBOUND_MESSAGES.schema[name] for name in messages_read}
    return pl.LazyFrame(rows, schema=schema) if rows else None


messages_read = ("date", "customer_id", "journey_id", "step_day", "channel", "content", "withheld")


def planned(config: Portfolio, answers: Rows, profiles: Rows, *, today: date = TODAY, earlier: Rows | None = None) -> pl.DataFrame:
    """Return the messages of a day that is over, by customer and step."""
    before = sent_before(earlier or [])
    plan = write_messages(pl.LazyFrame(answers), people(profiles), config, today=today, earlier=before)
    return plan.messages.sort("customer_id", "channels")


def taken(config: Portfolio, answers: Rows, profiles: Rows, **more: object) -> dict[str, tuple[str, str | None, list[str]]]:
    """Return, by customer, the channel, why it is withheld and what was passed over."""
    rows = planned(config, answers, profiles, **more)  # type: ignore[arg-type]
    return {
        who: (channel, why, tried) for who, channel, why, tried in rows.select("customer_id", "channel", "withheld", "tried").iter_rows()
    }


ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "Africa/Johannesburg", "Africa/Lagos", "America/Anchorage", "America/Asuncion",
    "America/Bogota", "America/Caracas", "America/Chicago", "America/Denver", "America/Halifax", "America/Havana", "America/Los_Angeles",
    "America/Mexico_City", "America/New_York", "America/Nuuk", "America/Santiago", "America/Sao_Paulo", "America/St_Johns", "Asia/Amman",
    "Asia/Beirut", "Asia/Dhaka", "Asia/Gaza", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Pyongyang", "Asia/Tehran", "Asia/Tokyo",
    "Asia/Yangon", "Atlantic/Azores", "Australia/Adelaide", "Australia/Lord_Howe", "Europe/Dublin", "Europe/Istanbul", "Europe/London",
    "Pacific/Apia", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Honolulu", "Pacific/Kiritimati",
)  # fmt: skip


def changes_of_clocks(first: date, days: int) -> set[date]:
    """Return the days on which some clock of ours is changed."""
    changed = set()
    for zone in map(ZoneInfo, ZONES):
        offsets = [datetime.combine(first + number * DAY, time(), zone).utcoffset() for number in range(days + 1)]
        changed |= {first + number * DAY for number in range(days) if offsets[number] != offsets[number + 1]}
    return changed


@pytest.mark.slow
def test_in_ten_years_nothing_arrives_outside_hours_or_in_a_blackout(tmp_path: Path) -> None:
    """Every tenth day and those around each change of some clock, in 40 zones, under hours and blackouts drawn anew each time."""
    random, first, days = Random(9), date(2016, 1, 1), 3653  # noqa: S311  # no secrets here
    around = {day + shift * DAY for day in changes_of_clocks(first, days) for shift in (-2, -1)}
    config = portfolio(
        tmp_path, {name: {"consent": "none"} for name in ("one", "two")}, [{"day": 1, "channels": ["one", "two"], "content": "x"}]
    )
    counts = {"sent": 0, "withheld": 0}
    for day in sorted(around | {first + number * DAY for number in range(0, days, 10)}):
        limits = {}
        for channel in config.channels:
            begin = random.randrange(24)
            named = tuple(sorted(random.sample(range(7), random.choice([2, 5, 7]))))
            limits[channel.id] = reference.Hours(begin, random.randint(begin + 1, min(24, begin + 4)), named)
        blackout = tuple(reference.Period(day + age * DAY, day + age * DAY) for age in random.sample(range(1, 5), 2))
        drawn = replace(
            config,
            channels=tuple(replace(channel, hours=limits[channel.id]) for channel in config.channels),
            timezone=random.choice(ZONES),
            policy=replace(config.policy, suppress=blackout),
        )
        names = [f"{zone} {hour}" for zone in ZONES for hour in (random.randrange(24),)]
        who = [profile(name, drawn, timezone=name.split()[0], best_hour=int(name.split()[1])) for name in names]
        rows = planned(drawn, [answer(name, today=day) for name in names], who, today=day)
        for zone, channel, at, withheld in rows.select("zone", "channel", "send_at", "withheld").iter_rows():
            counts["sent" if withheld is None else "withheld"] += 1
            if withheld is None:
                local, hours = at.astimezone(ZoneInfo(zone)), limits[channel]
                assert hours.first <= local.hour < hours.end
                assert local.weekday() in hours.days
                assert not any(period.first <= local.date() <= period.last for period in blackout)
                assert day < local.date() <= day + 3 * DAY
    assert min(counts.values()) > 5_000


@pytest.mark.parametrize("seed", range(6))
def test_a_day_that_is_running_and_texts_that_fail_are_as_the_reference_has_them(tmp_path: Path, seed: int) -> None:
    """With a clock, whatever rendering says of a text: each position asks for those who get there, once, and for no others."""
    random = Random(seed)  # noqa: S311  # no secrets here
    channels = {
        "mail": {"consent": "opt_in", "to": "mail", "hours": {"from": 8, "to": 12}, "cap": {"days": 3, "messages": 1}},
        "app": {"consent": "opt_out", "per_day": 6, "when": "age > 20"},
        "care": {"consent": "none", "hours": {"from": 9, "to": 17, "days": ["mon", "fri", "sat"]}, "per_day": 3},
    }
    steps: list[dict[str, object]] = [
        {"day": 1, "channels": ["mail", "app", "care"], "content": "x"},
        {"day": 1, "channels": ["app", "mail"], "content": "x", "at": "07:30"},
        {"day": 1, "channel": "app", "content": "y", "choose": "listed"},
        {"day": 1, "channels": ["care", "app"], "content": "y", "repeat": True, "when": "age > 25"},
    ]
    loaded = portfolio(tmp_path, channels, steps, suppress=[{"from": TODAY + 2 * DAY, "to": TODAY + 2 * DAY}])
    config = replace(loaded, channels=tuple(replace(each, medium="email" if each.id != "care" else None) for each in loaded.channels))
    names = [f"c{number:02}" for number in range(30)]
    who = [
        profile(
            name, config, timezone=random.choice([None, "Asia/Tokyo", "Pacific/Apia", "no/zone"]),
            best_hour=random.choice([None, 2, 9, 23]),
            preferred_channel=random.choice([None, "app", "care", "letter"]), mail=random.choice(["m@example.com", None, ""]),
            age=random.choice([10.0, 22.0, 50.0, 120.0]), consent_app=random.choice([True, None, False]), date=TODAY,
        )
        for name in names
    ]  # fmt: skip
    answers = [answer(name, journey=random.choice("aam"), score=random.choice([None, 1.0, 2.0])) for name in names]
    before: Rows = [
        {"date": TODAY - random.randint(1, 4) * DAY, "customer_id": name, "journey_id": "a", "step_day": 1, "channel": "mail",
         "content": "z", "withheld": random.choice([None, "no_consent"])}
        for name in random.sample(names, 12)
    ]  # fmt: skip
    now = datetime(2026, 3, 27, random.randrange(24), random.randrange(60), tzinfo=UTC)
    broken = {(key, channel): random.choice([None, None, "no_content", "guardrail:banned"]) for key in names for channel in ("mail", "app")}
    asked: list[tuple[str, str]] = []

    def render(rows: pl.DataFrame, profiles: pl.LazyFrame, portfolio: Portfolio, *, today: date) -> pl.DataFrame:
        assert (today, portfolio) == (TODAY, config)
        assert rows["customer_id"].is_in(profiles.select("customer_id").collect().to_series().implode()).all()
        asked.extend(rows.select("idempotency_key", "channel").iter_rows())
        problems = [broken[key] for key in rows.select("customer_id", "channel").iter_rows()]
        texts = rows.select("idempotency_key", "customer_id", "channel", variant=pl.lit("hero:a"))
        return texts.with_columns(problem=pl.Series(problems, dtype=pl.String))

    before_then = sent_before(before)
    plan = write_messages(pl.LazyFrame(answers), people(who), config, today=TODAY, now=now, earlier=before_then, render=render)
    expected = reference.messages(
        [{**row, "decision": "start"} for row in answers],
        who,
        TODAY,
        config,
        before,
        now,
        lambda row, channel: broken[row["customer_id"], channel],
    )
    for row in expected:
        row["variant"] = "hero:a" if row["withheld"] is None and row["medium"] else row["variant"]
    assert differences("outbound_messages", plan.messages, expected) == []
    assert len(asked) == len(set(asked)) > 20
    assert plan.rendered is not None
    sent = plan.messages.filter(pl.col("withheld").is_null(), pl.col("medium").is_not_null())
    assert sorted(plan.rendered.select("idempotency_key", "channel").rows()) == sorted(sent.select("idempotency_key", "channel").rows())
    assert "problem" not in plan.rendered.columns


ONE: dict[str, object] = {"consent": "opt_in"}


@pytest.mark.parametrize(("blacked_out", "withheld"), [(TODAY, None), (TODAY + DAY, "blackout"), (TODAY + 2 * DAY, None)])
def test_a_blackout_is_of_the_day_on_which_a_message_arrives(tmp_path: Path, blacked_out: date, withheld: str | None) -> None:
    """What is decided on the 24th arrives on the 25th: the 25th is when nothing may arrive."""
    config = portfolio(
        tmp_path, {"app": ONE}, [{"day": 1, "channel": "app", "content": "x"}], suppress=[{"from": blacked_out, "to": blacked_out}]
    )
    assert taken(config, [answer("c")], [profile("c", config)])["c"][1] == withheld


def test_a_blackout_is_of_the_day_where_the_customer_lives(tmp_path: Path) -> None:
    """The first 23:00 in Honolulu after the day is on its morrow there, and two days later in Berlin; what counts is Honolulu."""
    tomorrow = {"from": TODAY + DAY, "to": TODAY + DAY}
    config = portfolio(tmp_path, {"app": ONE}, [{"day": 1, "channel": "app", "content": "x", "at": "23:00"}], suppress=[tomorrow])
    assert taken(config, [answer("c")], [profile("c", config, timezone="Pacific/Honolulu")])["c"][1] == "blackout"


def test_the_key_of_a_list_names_it_as_it_is_written_and_that_of_one_channel_the_channel(tmp_path: Path) -> None:
    """Whichever channel is taken, today or when the day is made again, it is the same message: also by the names it had."""
    steps: list[dict[str, object]] = [{"day": 1, "channels": ["app", "web"], "content": "x"}, {"day": 1, "channel": "web", "content": "y"}]
    config = portfolio(tmp_path, {"app": ONE, "web": ONE}, steps)
    yes = planned(config, [answer("c")], [profile("c", config)])
    no = planned(config, [answer("c")], [profile("c", config, consent_app=False)])
    assert yes["channel"].to_list() == ["app", "web"]
    assert no["channel"].to_list() == ["web", "web"]
    assert yes["idempotency_key"].equals(no["idempotency_key"])
    expected = [f"c:a:{TODAY}:1:{channels}" for channels in ("app|web", "web")]
    assert yes["idempotency_key"].to_list() == [reference.hashlib.sha256(text.encode()).hexdigest()[:32] for text in expected]
    absorbed = pl.LazyFrame({"absorbed": ["b"], "customer_id": ["c"], "valid_from": [TODAY]})
    was_b = planned(config, [answer("b")], [profile("b", config)])
    for version in (
        no.with_columns(entered_on=pl.lit(TODAY)),
        no.filter(pl.col("content") == "y").with_columns(entered_on=pl.lit(TODAY)).drop("channels"),
    ):
        keys = messages.other_keys(version, absorbed, with_older=False)["other_key"].to_list()
        assert set(keys) <= set(was_b["idempotency_key"])
        assert len(keys) == version.height


def test_whoever_has_no_address_cannot_be_reached_and_takes_no_place(tmp_path: Path) -> None:
    """The decision reads the address and what has bounced of every channel of a journey, as messages do."""
    config = portfolio(tmp_path, {"mail": {**ONE, "to": "mail"}}, [{"day": 1, "channel": "mail", "content": "x"}], channels=["mail"])
    assert {"consent_mail", "mail", "bounced_mail"} <= set(columns_needed(config))
    who = [
        profile("blank", config, mail=" "),
        profile("bounced", config, bounced_mail=True),
        profile("none", config, mail=None),
        profile("yes", config),
    ]
    rows = taken(config, [answer(str(row["customer_id"])) for row in who], who)
    assert {name: why for name, (_, why, _) in rows.items()} == {
        "blank": "no_address",
        "bounced": "bounced",
        "none": "no_address",
        "yes": None,
    }


def test_suppression_is_tested_before_any_channel(tmp_path: Path) -> None:
    """Who is not to be contacted is that first, whatever a channel would say; then nothing was tried."""
    config = portfolio(tmp_path, {"app": ONE}, [{"day": 1, "channel": "app", "content": "x"}])
    assert taken(config, [answer("c")], [profile("c", config, age=100.0, consent_app=False)]) == {"c": ("app", "suppressed", [])}


def test_a_cap_counts_what_was_planned_in_its_days_and_today(tmp_path: Path) -> None:
    """Those of three days, this one included; withheld ones and other channels do not count; mandatory journeys are exempt, and count."""
    capped = {"app": {**ONE, "cap": {"days": 3, "messages": 1}}, "web": ONE}
    config = portfolio(tmp_path, capped, [{"day": 2, "channels": ["app", "web"], "content": "x"}])
    cases: dict[str, tuple[int, str, str | None]] = {
        "in time": (2, "app", None), "too old": (3, "app", None), "withheld": (1, "app", "expired"), "elsewhere": (1, "web", None),
        "exempt": (1, "app", None),
    }  # fmt: skip
    before: Rows = [
        {
            "date": TODAY - age * DAY,
            "customer_id": name,
            "journey_id": "m",
            "step_day": 1,
            "channel": channel,
            "content": "y",
            "withheld": why,
        }
        for name, (age, channel, why) in cases.items()
    ]
    answers = [answer(name, journey="m" if name == "exempt" else "a", day_index=2) for name in cases]
    rows = taken(config, answers, [profile(name, config) for name in cases], earlier=before)
    assert {name: channel for name, (channel, _, _) in rows.items()} == {**dict.fromkeys(cases, "app"), "in time": "web"}
    assert rows["in time"][2] == ["app:channel_cap"]


def test_two_steps_of_a_day_do_not_break_a_cap_together(tmp_path: Path) -> None:
    """The first of them in the file has the channel, the second goes on; with the same content on one channel it was sent already."""
    steps: list[dict[str, object]] = [{"day": 1, "channels": ["app", "web"], "content": "x"}, {"day": 1, "channel": "app", "content": "y"}]
    config = portfolio(tmp_path, {"app": {**ONE, "cap": {"days": 1, "messages": 1}}, "web": ONE}, steps)
    rows = planned(config, [answer("c")], [profile("c", config)])
    assert rows.select("channels", "channel", "withheld").rows() == [("app", "app", "channel_cap"), ("app|web", "app", None)]
    same = portfolio(tmp_path, {"app": ONE, "web": ONE}, [{**step, "content": "x"} for step in steps])
    assert planned(same, [answer("c")], [profile("c", same)])["withheld"].to_list() == ["already_sent", None]


def test_places_go_to_the_mandatory_then_by_score_and_what_is_left_over_falls_to_the_next(tmp_path: Path) -> None:
    """Over all customers, position by position: who prefers a channel comes before those for whom it is the second choice."""
    channels = {"app": {**ONE, "per_day": 2}, "care": {**ONE, "per_day": 1}, "web": ONE}
    config = portfolio(tmp_path, channels, [{"day": 1, "channels": ["app", "care", "web"], "content": "x"}])
    answers = [
        answer("a", score=9.0),
        answer("b", score=9.0),
        answer("c", score=5.0),
        answer("m", journey="m", score=None),
        answer("p", score=0.1),
    ]
    who = [profile(str(row["customer_id"]), config) for row in answers]
    who[-1]["preferred_channel"] = "care"
    assert {name: channel for name, (channel, _, _) in taken(config, answers, who).items()} == {
        "m": "app", "a": "app", "p": "care", "b": "web", "c": "web",
    }  # fmt: skip
    assert taken(config, answers, who)["b"][2] == ["app:no_places", "care:no_places"]
    assert taken(config, answers[::-1], who[::-1]) == taken(config, answers, who)


def test_an_hour_is_clamped_and_a_day_that_is_not_open_is_passed_over(tmp_path: Path) -> None:
    """What was planned before clamping, where the hour is from and when it is too late are told."""
    hours = {"from": 9, "to": 17, "days": ["mon", "sun"]}
    config = portfolio(tmp_path, {"app": {**ONE, "hours": hours}}, [{"day": 1, "channel": "app", "content": "x"}])
    who = [profile("early", config, best_hour=2), profile("late", config, best_hour=22), profile("none", config, timezone="no/zone")]
    rows = planned(config, [answer(str(row["customer_id"])) for row in who], who)
    berlin = ZoneInfo("Europe/Berlin")
    local = [[at.astimezone(berlin).strftime("%d. %H:%M") for at in rows[name]] for name in ("send_at", "planned_at", "expires_at")]
    assert local == [["29. 09:00", "29. 16:00", "29. 10:00"], ["28. 02:00", "28. 22:00", "28. 10:00"], ["31. 00:00"] * 3]
    assert rows["hour_from"].to_list() == ["best", "best", "default"]
    assert rows["zone"].to_list() == ["Europe/Berlin"] * 3
    assert rows["zone_from"].to_list() == ["calendar"] * 3


@pytest.mark.parametrize(
    ("step", "hours", "day_index", "withheld"),
    [
        pytest.param({"day": 1}, {"from": 0, "to": 24, "days": ["mon"]}, 1, None, id="the third day"),
        pytest.param({"day": 1}, {"from": 0, "to": 24, "days": ["tue"]}, 1, "expired", id="after patience"),
        pytest.param({"day": 9}, {"from": 0, "to": 24, "days": ["sat"]}, 9, None, id="the day after the journey's last"),
        pytest.param({"day": 9}, {"from": 0, "to": 24, "days": ["sun"]}, 9, "expired", id="after the journey"),
        pytest.param({"day": 1, "at": "02:30"}, {"from": 2, "to": 3, "days": ["sun"]}, 1, "expired", id="an hour that is skipped"),
        pytest.param({"day": 1, "at": "02:30"}, {"from": 2, "to": 4, "days": ["sun"]}, 1, None, id="the next one is open"),
    ],
)
def test_what_would_arrive_too_late_expires(
    tmp_path: Path, step: dict[str, object], hours: dict[str, object], day_index: int, withheld: str | None
) -> None:
    """Two days of patience after the morrow, and one after the journey's last day; of an hour that is skipped, the next one counts."""
    config = portfolio(tmp_path, {"app": {**ONE, "hours": hours}}, [{"channel": "app", "content": "x", **step}])
    assert taken(config, [answer("c", day_index=day_index)], [profile("c", config)])["c"][1] == withheld


def test_a_step_is_due_where_its_condition_holds(tmp_path: Path) -> None:
    """Null is false: then there is no row."""
    config = portfolio(tmp_path, {"app": ONE}, [{"day": 1, "channel": "app", "content": "x", "when": "age > 20"}])
    who = [profile("no", config, age=10.0), profile("null", config, age=None), profile("yes", config)]
    assert list(taken(config, [answer(str(row["customer_id"])) for row in who], who)) == ["yes"]


def test_messages_are_ranked_in_the_order_they_are_handed_over(tmp_path: Path) -> None:
    """Within their channel by time, then mandatory, score and key; what is withheld comes last."""
    config = portfolio(tmp_path, {"app": ONE}, [{"day": 1, "channel": "app", "content": "x"}])
    answers = [
        answer("later", score=9.0),
        answer("low"),
        answer("high", score=2.0),
        answer("must", journey="m", score=None),
        answer("no", score=9.0),
    ]
    who = [profile(str(row["customer_id"]), config) for row in answers]
    who[0]["best_hour"], who[-1]["consent_app"] = 11, False
    rows = planned(config, answers, who)
    assert dict(rows.select("customer_id", "rank").iter_rows()) == {"must": 1, "high": 2, "low": 3, "later": 4, "no": 5}


def test_what_is_tried_again_keeps_to_hours_blackouts_and_its_end(tmp_path: Path) -> None:
    """On the channel it was planned for, to the address of today; nothing arrives when it would be too late."""
    hours = {"from": 9, "to": 12}
    steps: list[dict[str, object]] = [{"day": 1, "channels": ["mail", "web"], "content": "x", "at": "20:30"}]
    config = portfolio(tmp_path, {"mail": {**ONE, "to": "mail", "hours": hours}, "web": ONE}, steps)
    plan = planned(config, [answer("c")], [profile("c", config)])
    nobody = pl.LazyFrame(schema={"absorbed": pl.String, "customer_id": pl.String, "valid_from": pl.Date})
    now = datetime(2026, 3, 28, 12, tzinfo=UTC)

    def again(config: Portfolio, now: datetime, version: pl.DataFrame = plan, **more: object) -> dict[str, object]:
        today, who = now.date(), people([profile("c", config, **more)])
        (row,) = messages.due_again(version.lazy(), who, config, today=today, now=now, absorbed=nobody).collect().to_dicts()
        return row

    row = again(config, now, mail="new@example.com")
    assert (row["channel"], row["withheld"], row["address"]) == ("mail", None, "new@example.com")
    assert row["send_at"] == datetime(2026, 3, 29, 9, tzinfo=UTC)  # 11:00 in Berlin, where it is summer by then
    assert row["idempotency_key"] == plan["idempotency_key"].item()
    assert again(config, now, bounced_mail=True)["withheld"] == "bounced"
    assert again(config, now, age=100.0, bounced_mail=True)["withheld"] == "suppressed"
    assert again(config, now + 3 * DAY)["withheld"] == "expired"
    sunday = replace(config, policy=replace(config.policy, suppress=(reference.Period(date(2026, 3, 29), date(2026, 3, 29)),)))
    assert again(sunday, now)["withheld"] == "blackout"
    older = plan.select(
        "date", "idempotency_key", "customer_id", "journey_id", "step_day", "channel", "content", "variant", "send_at", "withheld"
    )
    assert again(config, now, older)["withheld"] is None
    assert WEEKDAYS[date(2026, 3, 29).weekday()] == "sun"
