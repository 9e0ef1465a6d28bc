"""What people see of customers and micro-segments: the commands, the picture in the catalog, and the facts of a day.

The lake is written by hand: a path needs the tables it is told from, and nothing that made them.
"""

import base64
import json
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.shown.facts import facts_of
from atc_pipeline.__main__ import main
from atc_pipeline.customers.purchases import PurchaseModels
from atc_pipeline.customers.tables import FEATURE_COVERAGE, MICRO_SEGMENT_MEMBERSHIPS
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS
from atc_pipeline.definitions import build_definitions
from resources.storage.lake import Lake
from tests.graph.small_world import JOURNEYS, make_world

DAYS = [date(2026, 3, 1) + timedelta(days=number) for number in range(4)]
MERGED = DAYS[2]
IDENTITY = {"date": pl.Date, "id_type": pl.String, "id": pl.String, "customer_id": pl.String, "valid_from": pl.Date}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Two customers and a visitor, who turns out to be one of them on the third day; the commands are pointed at it."""
    (tmp_path / "journeys.yaml").write_text(JOURNEYS)
    monkeypatch.setenv("ATC_HOME", str(tmp_path))
    monkeypatch.setenv("ATC_JOURNEYS", str(tmp_path / "journeys.yaml"))
    lake = Lake(root=str(tmp_path / "lake"))
    for number, day in enumerate(DAYS):
        customers = ["anon:v", "c01", "c02"] if day < MERGED else ["c01", "c02"]
        rows = [
            {"date": day, "customer_id": one, "decision": "start" if number == 0 else "continue", "journey_id": "welcome", "arm": "treated"}
            | {"entered_on": DAYS[0]}
            for one in customers
        ]
        lake.write("journey_assignments", day, pl.DataFrame(rows, schema=JOURNEY_ASSIGNMENTS.schema))
        segments = [{"date": day, "segment_id": "newcomers", "customer_id": one, "member_since": DAYS[0]} for one in customers]
        segments += [{"date": day, "segment_id": "buyers", "customer_id": "c01", "member_since": MERGED}] if day >= MERGED else []
        lake.write(
            "micro_segment_memberships",
            day,
            pl.DataFrame(segments, schema=MICRO_SEGMENT_MEMBERSHIPS.schema).sort("segment_id", "customer_id"),
        )
        orders = {"customer_id": ["c01"], "event_date": [day], "events": [2]} | ({"goal.Order Completed": [2]} if number else {})
        lake.write("customer_activity", day, pl.DataFrame(orders).with_columns(date=day))
    return lake


def identify(lake: Lake) -> None:
    """Write the dated identity map: visitor v is c01 from the third day on."""
    for day in DAYS:
        who, since = ("c01", MERGED) if day >= MERGED else ("anon:v", DAYS[0])
        rows = [(day, "anonymous", "v", who, since), (day, "user", "c01", "c01", DAYS[0]), (day, "user", "c02", "c02", DAYS[0])]
        lake.write("identity_map", day, pl.DataFrame(rows, schema=IDENTITY, orient="row"))


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and what it said."""
    code = main(list(arguments))
    captured = capsys.readouterr()
    assert not (captured.err if code == 0 else captured.out)
    return code, captured.out + captured.err


def test_a_path_is_told_from_the_lake(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """All days there are; a goal that a day's rollup does not know yet did not happen on it, and messages may not be written yet."""
    assert lake.days("journey_assignments") == DAYS
    code, text = told(capsys, "journey", "c01")
    rows = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line}
    assert code == 0
    assert "Customer c01, 1 March to 4 March 2026" in text
    assert (rows["newcomers"], rows["buyers"], rows["journey"], rows["Order"]) == ("████", "··██", "AAAA", "·222")


def test_some_days_of_a_path(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """--from and --to, both included."""
    assert lake.days("journey_assignments") == DAYS
    assert "Customer c02, 2 March to 3 March 2026" in told(capsys, "journey", "c02", "--from", str(DAYS[1]), "--to", str(DAYS[2]))[1]
    assert "since 1 March 2026" in told(capsys, "journey", "c02", "--from", str(DAYS[1]))[1]


def test_who_was_merged_is_followed(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """The visitor's days go on as the customer they turned out to be, by the identity map of each day."""
    identify(lake)
    code, text = told(capsys, "journey", "anon:v")
    assert code == 0
    assert "Customer anon:v, 1 March to 4 March 2026" in text
    assert "Recognised as another customer: c01 from 3 March 2026 on" in text
    assert "journey               AAAA" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["journey", "c0"], "customer 'c0' is not known on 2026-03-04; did you mean"),
        (["journey", "c01", "--from", "2026-02-01"], "no data for 2026-02-01: the lake has 2026-03-01 to 2026-03-04, nearest 2026-03-01"),
        (["journey", "c01", "--to", "soon"], "--to soon: expected a day such as 2026-03-04"),
        (["journey", "c01", "--from", "2026-03-03", "--to", "2026-03-02"], "--from 2026-03-03 is after --to 2026-03-02"),
        (["journey", "c01", "--svg", "no/such/folder.svg"], "--svg no/such/folder.svg: No such file or directory"),
        (["segments"], "segment_matrix is not in"),
    ],
)
def test_a_path_that_cannot_be_told_says_why(lake: Lake, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    """Unknown customers, days that are not there and files that cannot be written end with code 1 and what to do."""
    assert lake.days("journey_assignments") == DAYS
    code, text = told(capsys, *arguments)
    assert code == 1
    assert said in text


def test_a_path_is_drawn_into_the_file_asked_for(lake: Lake, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """--svg writes the picture, and only it; the lake is left as it is."""
    before = {path: path.stat().st_mtime_ns for path in Path(lake.root).rglob("*")}
    assert told(capsys, "journey", "c01", "--svg", str(tmp_path / "c01.svg")) == (0, f"drawn into {tmp_path / 'c01.svg'}\n")
    assert (tmp_path / "c01.svg").read_text().startswith("<svg ")
    assert {path: path.stat().st_mtime_ns for path in Path(lake.root).rglob("*")} == before


def materialized(lake: Lake, tmp_path: Path, first: date, last: date) -> list[dg.AssetMaterialization]:
    """Materialize segment_matrix for a stretch of days; return what was recorded."""
    definitions = build_definitions({"ATC_HOME": str(tmp_path), "ATC_JOURNEYS": str(tmp_path / "journeys.yaml")}, lake=lake)
    tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, tags=tags, asset_selection=[dg.AssetKey("segment_matrix")]
        )
    assert all(check.passed for check in result.get_asset_check_evaluations())
    return result.asset_materializations_for_node("segment_matrix")


@pytest.mark.slow
def test_the_segment_matrix_is_made_and_seen(lake: Lake, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A row per micro-segment and day; the last day of the run carries the picture, which is the file's and the command's."""
    recorded = materialized(lake, tmp_path, DAYS[0], DAYS[-1])
    assert [one.partition for one in recorded if "picture" in one.metadata] == [str(DAYS[-1])]
    assert lake.read("segment_matrix", MERGED).drop("date").rows() == [
        ("buyers", 1, 1, 0, 1, "welcome", 1),
        ("newcomers", 2, 0, 1, 2, "welcome", 2),
    ]

    shown = recorded[-1].metadata["picture"].value
    assert isinstance(shown, str)
    drawn = base64.b64decode(shown.split("base64,")[1].removesuffix(")"))
    capsys.readouterr()  # what the run has logged
    assert told(capsys, "segments", "--svg", str(tmp_path / "segments.svg"))[0] == 0
    assert drawn == Path(lake.root, "segment_matrix", "picture.svg").read_bytes() == (tmp_path / "segments.svg").read_bytes()

    code, text = told(capsys, "segments", "--from", str(DAYS[1]))
    assert code == 0
    newcomers = next(line for line in text.splitlines() if "newcomers" in line)
    assert newcomers.split()[1::2] == ["newcomers", "2", "0", "1", "█▆▆", "welcome"]


@pytest.mark.slow
def test_the_segment_matrix_is_the_same_day_by_day(lake: Lake, tmp_path: Path) -> None:
    """One run per day and one for all days give the same bytes, picture included."""

    def files() -> dict[str, bytes]:
        folder = Path(lake.root, "segment_matrix")
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    materialized(lake, tmp_path, DAYS[0], DAYS[-1])
    at_once = files()
    for day in DAYS:
        materialized(lake, tmp_path, day, day)
    assert files() == at_once


# --- Facts of a day --------------------------------------------------------------------------------------------------


def facts_by_row(table: object) -> dict[str, list[str]]:
    """The rows of a table shown as Markdown, by their first cell."""
    assert isinstance(table, dg.MarkdownMetadataValue)
    assert table.value is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.value.splitlines()]
    return {row[0]: row[1:] for row in rows[2:]}


def test_memberships_tell_who_came_and_went_and_how_segments_overlap() -> None:
    """Two of three buyers are new, and half of the new are buyers; sizes are numbers, to be plotted over days."""

    def members(day: date, **segments: str) -> pl.DataFrame:
        rows = [(day, segment, one, DAYS[1] if one in "de" else DAYS[0]) for segment, many in segments.items() for one in many]
        return pl.DataFrame(rows, schema=MICRO_SEGMENT_MEMBERSHIPS.schema, orient="row")

    facts = facts_of(
        "micro_segment_memberships", members(DAYS[1], buyers="abc", new="bcde"), members(DAYS[0], buyers="abcf", new="bc").lazy()
    )

    segments = facts_by_row(facts["segments"])
    assert segments["buyers"][:3] == ["3", "+0", "-1"]
    assert segments["new"][:3] == ["4", "+2", "-0"]
    assert facts_by_row(facts["overlap_of_the_largest"]) == {"1 new": ["", "50%"], "2 buyers": ["67%", ""]}
    assert {number: row[0] for number, row in facts_by_row(facts["segments_per_customer"]).items()} == {"1": "60.0%", "2": "40.0%"}
    assert {name: facts[name] for name in ("size/buyers", "size/new", "entered_today", "left_today")} == {
        "size/buyers": 3,
        "size/new": 4,
        "entered_today": 2,
        "left_today": 1,
    }


def test_profiles_tell_how_far_columns_are_filled_and_how_values_are_spread() -> None:
    """Numbers by their least, median, ninth decile and largest value, words by the most frequent one; empty columns too."""
    profiles = pl.DataFrame(
        {
            "date": [DAYS[0]] * 10,
            "customer_id": [f"c{number}" for number in range(10)],
            "first_seen_on": [DAYS[0]] + [date(2026, 1, 1)] * 9,
            "spend": [float(number) for number in range(1, 10)] + [None],
            "city": ["Bonn"] * 3 + ["Kiel", "Ulm|Neu"] + [None] * 5,
            "consent": [True] * 6 + [False] * 4,
            "never": pl.Series([None] * 10, dtype=pl.Int64),
            "liked": [["tea"]] * 10,
            "state": [{"n": 1}] * 10,
        }
    )
    facts = facts_of("customer_profiles", profiles)

    numbers, words = facts_by_row(facts["numbers"]), facts_by_row(facts["words"])
    assert numbers["spend"][0] == "90.0%"
    assert numbers["spend"][2:] == ["1", "5", "9", "9"]
    assert numbers["never"][0] == "0.0%"
    assert words["city"][0] == "50.0%"
    assert words["city"][2:] == ["Bonn", "60%", "3"]
    assert words["consent"][2:] == ["True", "60%", "2"]
    assert {name: facts[name] for name in facts if name.startswith("filled/")} == {
        "filled/spend": 0.9,
        "filled/city": 0.5,
        "filled/never": 0,
    }
    assert facts["new_customers"] == 1


def test_a_word_that_one_customer_has_is_not_told() -> None:
    """It may be an address, and what Dagster was told of a person cannot be erased."""
    day = {"date": [DAYS[0]] * 3, "first_seen_on": [DAYS[0]] * 3, "email": ["ann@example.com", "bob@example.com", None]}
    facts = facts_of("customer_profiles", pl.DataFrame(day))
    assert facts_by_row(facts["words"])["email"][2:] == ["", "", "2"]


@pytest.mark.parametrize("table", ["customer_profiles", "micro_segment_memberships"])
def test_a_day_without_customers_has_facts_too(table: str) -> None:
    """Nobody there yet: nothing is divided by nothing, and what is told can be recorded."""
    empty = pl.DataFrame(schema=MICRO_SEGMENT_MEMBERSHIPS.schema | {"first_seen_on": pl.Date})
    facts = facts_of(table, empty)
    assert facts["dagster/row_count"] == 0
    assert json.dumps([value for value in facts.values() if isinstance(value, int | float)])


def test_everything_in_the_ui_has_words(tmp_path: Path) -> None:
    """Jobs, sensors and schedules say what they are for, checks what holds and what to do where it does not."""
    repository = build_definitions(make_world(tmp_path)).get_repository_def()
    named = [*repository.sensor_defs, *repository.schedule_defs]
    named += [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    assert [one.name for one in named if not one.description] == []
    checks = {key: repository.asset_graph.get_check_spec(key) for key in repository.asset_graph.asset_check_keys}
    do = ("run ", "look ", "make ", "rename,", "correct ", "see the reasons")
    silent = [str(key) for key, check in checks.items() if not any(word in str(check.description).lower() for word in do)]
    assert (len(checks) > 20, silent) == (True, [])


def test_a_day_of_coverage_and_of_models_is_told() -> None:
    """How much each feature matched, once for all the events it names; what the models were fitted on, and why not."""
    rows = [("orders", 1, "Bought"), ("reads", 1, "Read"), ("reads", 1, "Seen"), ("reads", 2, "Read")]
    found = pl.DataFrame(rows, schema=["feature", "part", "event"], orient="row").with_columns(date=pl.lit(DAYS[0]), matched=3)
    coverage = pl.DataFrame(found.to_dicts(), schema=FEATURE_COVERAGE.schema).with_columns(pl.col("read", "skipped").fill_null(0))
    told = facts_of("feature_coverage", coverage)
    assert "| reads | 6 |" in told["matched_by_feature"].value
    assert "| orders | 3 |" in told["matched_by_feature"].value
    models = PurchaseModels().row(DAYS[0], is_refitted=False, note="too few customers")
    assert "too few customers" in facts_of("purchase_models", models)["models"].value
