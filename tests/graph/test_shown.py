"""What people are shown of hostile data: nothing of it acts, in the catalog or on a terminal, and what Dagster keeps is bounded.

The attacks are seen in a browser in tests/edges/test_browser.py.
"""

import gzip
import re
import unicodedata
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.checks import _shown
from assets.shown.facts import SHOWN_ROWS, facts_of, markdown_table
from assets.shown.matrix import picture_of
from atc_pipeline.__main__ import main
from atc_pipeline.customers.tables import MICRO_SEGMENT_MEMBERSHIPS, customer_profiles
from atc_pipeline.decision.gates import RULINGS
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_QUEUES, JOURNEY_STATE, SCORED_CANDIDATES
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.outcomes.tables import SEGMENT_MATRIX
from resources.storage.lake import Lake
from tests.edges.attacks import ATTACKS
from tests.graph.small_world import JOURNEYS, make_world, run

ROOT = Path(__file__).parents[2]
DAY = date(2026, 3, 1)
ACTING = re.compile(
    "|".join(
        re.escape(chr(code))
        for code in range(0x3000)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp") and chr(code) != "\n" and code not in range(0x600, 0x606)
    )
)
MOST_KEPT = 100_000
"""Bytes of a day of an asset that Dagster may keep for ever."""


def kept(facts: object) -> int:
    """How many bytes Dagster stores of these facts."""
    return len(dg.serialize_value(dg.AssetMaterialization("one", metadata=dict(facts)))) if isinstance(facts, dict) else 0


# --- The catalog -----------------------------------------------------------------------------------------------------


def events(names: list[str]) -> pl.DataFrame:
    """One event of each name."""
    return pl.DataFrame({"event": names, "type": ["track"] * len(names)}, schema_overrides={"event": pl.String})


@pytest.mark.parametrize("letter", ["e", "|", "\x1b", "\U000e0001"])
def test_many_different_events_are_counted_not_stored(letter: str) -> None:
    """100,000 names of 300 letters, also of those that are longest when written: the first fifty, and how many more."""
    many = events([*["Order Completed"] * 2, *(f"{number}{letter * 300}" for number in range(100_000))])
    facts = dict(facts_of("raw_events", many))
    assert kept(facts) < MOST_KEPT
    assert "| and 99,951 more | 99,951 |  |" in facts["events"].value
    assert "| Order Completed | 2 |" in facts["events"].value


def test_many_segments_and_journeys_are_counted_not_stored() -> None:
    """Of 3,000 of each, fifty are told, as rows and as numbers to be plotted."""
    names = [f"segment_{number}_{'x' * 60}" for number in range(3000)]
    members = pl.DataFrame(
        {"date": DAY, "segment_id": names, "customer_id": "c1", "member_since": DAY}, schema=MICRO_SEGMENT_MEMBERSHIPS.schema
    )
    queues = pl.DataFrame(
        {"date": DAY, "journey_id": names, "customer_id": "c1", "queued_on": DAY, "waiting_days": 0}, schema=JOURNEY_QUEUES.schema
    )
    funnel = pl.DataFrame({"journey_id": names}).with_columns(
        *(pl.lit(7).alias(name) for name in ("queued", "carried", *RULINGS, "started", "places", "wanted")), price=pl.lit(0.123456789)
    )
    answers = pl.DataFrame(
        {"journey_id": [*names, None], "decision": "start"},
        schema={name: JOURNEY_ASSIGNMENTS.schema[name] for name in ("journey_id", "decision")},
    )
    for table, frame in {
        "micro_segment_memberships": members,
        "journey_queues": queues,
        "journey_funnel": funnel,
        "journey_assignments": answers,
    }.items():
        facts = dict(facts_of(table, frame))
        assert kept(facts) < MOST_KEPT, table
        assert any("more |" in one.value for one in facts.values() if isinstance(one, dg.MarkdownMetadataValue)), table
    assert len([name for name in facts_of("micro_segment_memberships", members) if name.startswith("size/")]) == SHOWN_ROWS


def test_many_columns_are_counted_not_stored() -> None:
    """A profile of 2,000 traits whose values are long."""
    columns = {f"trait_{number}": pl.Series(["\x1b" * 500] * 3 if number % 2 else [1, 2, None]) for number in range(2000)}
    facts = dict(facts_of("customer_profiles", pl.DataFrame({"date": [DAY] * 3, "first_seen_on": [DAY] * 3, **columns})))
    assert kept(facts) < MOST_KEPT
    assert len([name for name in facts if name.startswith("filled/")]) == SHOWN_ROWS


def test_failing_rows_are_bounded() -> None:
    """Rows that break a promise may hold whole documents."""
    failing = pl.DataFrame({name: ["|" * 30_000] * 1000 for name in ("customer_id", "value", "row")})
    assert kept(_shown(failing)) < MOST_KEPT


def test_the_picture_in_the_catalog_is_bounded(tmp_path: Path) -> None:
    """2,000 micro-segments over a year: the largest are drawn, the title says so, and the table counts the others."""
    (tmp_path / "journeys.yaml").write_text(JOURNEYS)
    lake = Lake(root=str(tmp_path / "lake"))
    days = [DAY + timedelta(days=number) for number in range(40)]
    for day in days:
        sizes = pl.DataFrame({"segment_id": [f"s{number}" for number in range(2000)]}).with_columns(
            pl.lit(day).alias("date"),
            *(
                pl.int_range(2000).mul(7919 * day.day).mod(5000).alias(name)
                for name in ("customers", "entered", "left", "served", "served_most")
            ),
            journey_id=pl.format("j{}", pl.int_range(2000).mul(day.day).mod(30)),
        )
        lake.write("segment_matrix", day, sizes.select(*SEGMENT_MATRIX.schema).cast(SEGMENT_MATRIX.schema))

    shown = dict(picture_of(lake, load_portfolio(tmp_path / "journeys.yaml"), days))
    assert kept(shown) < MOST_KEPT
    assert "the 200 largest of 2,000" in Path(lake.root, "segment_matrix", "picture.svg").read_text()
    assert "| and 1,950 more |" in shown["micro_segments"].value


def test_tables_speak_in_words() -> None:
    """No column is called after the function that made it."""
    messages = planned(("email", None, []), ("email", "no_consent", ["email:no_consent"]))
    deliveries = pl.DataFrame(
        {"channel": ["email"], "status": ["failed"], "reason": ["no"], "sent_at": [datetime(2026, 3, 2, 12, tzinfo=UTC)], "attempts": [1]}
    )
    answers = pl.DataFrame({"journey_id": ["welcome", None], "decision": ["start", "none"]})
    shown = [
        *facts_of("outbound_messages", messages).values(),
        *facts_of("activation", deliveries).values(),
        *facts_of("journey_assignments", answers).values(),
        *facts_of("raw_events", events(["a"])).values(),
    ]
    headers = [one.value.splitlines()[0] for one in shown if isinstance(one, dg.MarkdownMetadataValue)]
    assert headers == [
        "|  | email | all | share |",
        "| hour | messages |  |",
        "| channel | reason | passed_over |",
        "| channel | status | messages |",
        "| channel | hour_utc | status | messages | again |",
        "| channel | status | reason | messages |",
        "| journey | none | start |",
        "| event | events |  |",
    ]


def planned(*rows: tuple[str, str | None, list[str]]) -> pl.DataFrame:
    """Return messages by channel, why they are withheld and what was passed over: due at 7 in the evening in Berlin."""
    frame = pl.DataFrame(rows, schema={"channel": pl.String, "withheld": pl.String, "tried": pl.List(pl.String)}, orient="row")
    at = pl.lit(datetime(2026, 3, 5, 18, tzinfo=UTC))
    return frame.with_columns(send_at=at, zone=pl.lit("Europe/Berlin"), zone_from=pl.lit("calendar"))


def test_messages_are_shown_from_due_to_sent() -> None:
    """Reason by reason in the order tested, channel by channel; the local hours, and how often a channel was passed over, and why."""
    rows = [("app", None, ["email:no_consent"])] * 2 + [("app", None, []), ("email", "guardrail:banned", ["email:guardrail:banned"])]
    rows += [("email", "no_address", ["email:no_address"])]
    facts = facts_of("outbound_messages", planned(*rows))
    assert (facts["due"], facts["to_send"], facts["in_the_calendars_zone"]) == (5, 3, 3)
    cells = [[cell.strip() for cell in line.split("|")[1:-2]] for line in facts["waterfall"].value.splitlines()]
    assert cells == [
        ["", "app", "email", "all"],
        ["---", "---:", "---:", "---:"],
        ["due", "3", "2", "5"],
        ["no_address", "0", "1", "1"],
        ["guardrail:banned", "0", "1", "1"],
        ["to send", "3", "0", "3"],
    ]
    assert [line.split("|")[1:3] for line in facts["local_hours"].value.splitlines()[2:]] == [[" 19 ", " 3 "]]
    assert "| email | no_consent | 2 |" in facts["tried"].value
    assert facts_of("outbound_messages", planned()) == {"dagster/row_count": 0, "to_send": 0}


def test_headers_of_tables_are_text_too() -> None:
    """A column of customer_activity is called after an event."""
    assert markdown_table(pl.DataFrame({"goal.![x](/y) | <b>": [1]})).value.splitlines()[0] == r"| goal.!\[x\](/y) &#124; \<b\> |"


def test_markdown_is_made_in_few_places() -> None:
    """Tables in one, where cells are text; besides it the pictures' own addresses, the ids that Dagster gave its runs, and the reports of a
    plan and of proof, which escape their texts themselves."""
    makes = [
        path.name
        for path in sorted((ROOT / "assets").rglob("*.py"))
        if re.search(r"MetadataValue\.md\(|MarkdownMetadataValue\(", path.read_text())
    ]
    assert set(makes) <= {"additions.py", "erasure.py", "facts.py", "matrix.py", "previews.py", "proof.py"}


def test_keys_of_numbers_are_text_too() -> None:
    """A micro-segment of an older journeys.yaml may be called anything."""
    members = pl.DataFrame(
        {"date": DAY, "segment_id": ATTACKS, "customer_id": "c1", "member_since": DAY}, schema=MICRO_SEGMENT_MEMBERSHIPS.schema
    )
    keys = list(facts_of("micro_segment_memberships", members))
    assert not ACTING.search(" ".join(keys))
    assert max(map(len, keys)) < 300


def test_what_journeys_yaml_says_of_columns_is_text(tmp_path: Path) -> None:
    """The catalog shows a trait's definition, condition included, beside its column: as Markdown."""
    where = ", where: \"city = '![x](/attack.png) <b>'\"}"
    (tmp_path / "journeys.yaml").write_text(JOURNEYS.replace("orders: {count: Order Completed}", "orders: {count: Order Completed" + where))
    table = customer_profiles(load_portfolio(tmp_path / "journeys.yaml"))
    [orders] = [column.meaning for column in table.columns if column.name == "orders"]
    assert orders == r"count of Order Completed where city = '!\[x\](/attack.png) \<b\>'"


def test_failures_are_text(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be read is called like an attack: the run and the terminal say which it is, and nothing of its name acts."""
    environment = make_world(tmp_path)
    folder = Path(environment["ATC_HOME"], "landing", str(DAY))
    (folder / "a\x1b[31m\u202e\n![x](y).ndjson.gz").write_bytes(gzip.compress(b"{}" * 1000)[:20])
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, DAY, DAY, instance=instance, job="ingest_events", must_succeed=False)
    [failed] = [event for event in result.all_events if event.is_step_failure]
    said = failed.step_failure_data.user_failure_data.description
    assert r"a\x1b[31m\u202e" in said
    assert not ACTING.search(said.replace("\n", "\x0b"))  # one line
    assert not ACTING.search("".join(capfd.readouterr()))


# --- The terminal ----------------------------------------------------------------------------------------------------

HOSTILE = JOURNEYS.replace("- id: welcome\n", '- id: welcome\n    name: "Hello \\u001b[2J\\u202e\\nCustomer c02 is not known"\n')


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A day of customers who are called like attacks, in a journey that is, too."""
    (tmp_path / "journeys.yaml").write_text(HOSTILE)
    monkeypatch.setenv("ATC_HOME", str(tmp_path))
    monkeypatch.setenv("ATC_JOURNEYS", str(tmp_path / "journeys.yaml"))
    lake = Lake(root=str(tmp_path / "lake"))
    rows = [
        {"date": DAY, "customer_id": one, "decision": "start", "journey_id": "welcome", "arm": "treated", "entered_on": DAY, "day_index": 1}
        for one in ATTACKS
    ]
    answers = pl.DataFrame(rows, schema=JOURNEY_ASSIGNMENTS.schema)
    lake.write("journey_assignments", DAY, answers)
    lake.write(
        "micro_segment_memberships",
        DAY,
        pl.DataFrame(
            {"date": DAY, "segment_id": "buyers", "customer_id": ATTACKS, "member_since": DAY}, schema=MICRO_SEGMENT_MEMBERSHIPS.schema
        ),
    )
    lake.write(
        "customer_activity", DAY, pl.DataFrame({"date": DAY, "customer_id": ATTACKS, "event_date": DAY, "events": [1] * len(ATTACKS)})
    )
    profiles = pl.DataFrame(
        {"date": DAY, "customer_id": ATTACKS, "first_seen_on": DAY, "timezone": None, "last_city": ATTACKS, "state": None}
    )
    lake.write("customer_profiles", DAY, profiles.cast({"timezone": pl.String}))
    options = [
        {
            "date": DAY,
            "customer_id": one,
            "journey_id": "welcome",
            "mandatory": False,
            "ruling": "chosen",
            "failed_gates": [],
            "rank": 1,
            "score": 1.0,
            "priority": 0.0,
            "is_queued": True,
            "is_incumbent": False,
        }
        for one in ATTACKS
    ]
    lake.write("scored_candidates", DAY, pl.DataFrame(options, schema=SCORED_CANDIDATES.schema))
    lake.write("journey_state", DAY, pl.DataFrame(schema=JOURNEY_STATE.schema))
    return lake


def printed(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> str:
    """What a command writes to the terminal."""
    main(list(arguments))
    return b"".join(capfdbinary.readouterr()).decode()


@pytest.mark.parametrize("name", [name for name in ATTACKS if "\x00" not in name])
def test_no_command_writes_what_acts_on_a_terminal(lake: Lake, capfdbinary: pytest.CaptureFixture[bytes], name: str) -> None:
    """No escape sequence, bell, carriage return or mark of direction; and no line that is the name's, not ours."""
    assert lake.has("journey_assignments", DAY)
    for command in ("explain", "journey"):
        text = printed(capfdbinary, command, name)
        assert not ACTING.search(text)
        assert not any(line.startswith(("lines", "more", "Customer c02")) for line in text.splitlines())
        assert len(text.splitlines()[0]) < 300
    assert not ACTING.search(printed(capfdbinary, "explain", f"{name} not"))


def test_answers_of_queries_and_errors_are_text(lake: Lake, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Values, names of columns, and what DuckDB quotes of a query that fails; one row is one line."""
    text = printed(capfdbinary, "sql", "select customer_id, [customer_id] as listed from journey_assignments")
    assert lake.has("journey_assignments", DAY)
    assert not ACTING.search(text)
    assert r"esc \x1b[31mred" in text
    for query in ("select '\x1b[31m' as \"a\x1bb\"", "selec \x1b[31m \x07"):
        assert not ACTING.search(printed(capfdbinary, "sql", query))


def test_answers_of_many_rows_show_the_first_and_the_last(lake: Lake, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """As Polars does, and only those are looked at."""
    assert lake.has("journey_assignments", DAY)
    lines = printed(capfdbinary, "sql", "select 'r' || range as r from range(5000)").splitlines()
    assert len(lines) < 1010
    assert {"r0", "r499", "r4500", "r4999"} <= {line.strip("│ ") for line in lines}
