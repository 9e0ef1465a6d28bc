"""Erasing a person from every kind of file: what is theirs goes, what is others' stays, and whatever is killed is finished."""

import gzip
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from atc_pipeline.identity.erasure import Person, identify
from resources.delivery.ledger import Ledger
from resources.erasure.erasing import NotErasedError, erase, search
from resources.erasure.tombstones import Tombstones
from resources.erasure.traces import Keeper, Trace, keepers, latest_map
from resources.storage import kept
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.outbox import Outbox

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 1)
NEXT = date(2026, 3, 2)
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
IDS = ("ann", "ann-maiden", "phone")
"""Two users who are one person, and her phone, which Bob borrowed once."""
HERS = [
    {"userId": "ann", "anonymousId": "phone", "event": "Order Completed", "properties": {"revenue": 3}},
    {"anonymousId": "phone", "event": "Viewed"},
    {"type": "alias", "previousId": "ann-maiden", "userId": "ann"},
    {"user_id": "\u0061nn", "event": "Viewed"},
]
OTHERS = [
    {"userId": "bob", "anonymousId": "phone", "event": "Viewed"},
    {"userId": "anna", "event": "Viewed", "properties": {"text": "not annie"}},
    {"anonymousId": "tablet", "event": "Viewed"},
]


class World:
    """All kinds of files, in the folder of a test."""

    def __init__(self, home: Path) -> None:
        """Point at the folder."""
        self.home = home
        self.lake = Lake(root=str(home / "lake"))
        self.landing = LandingZone(root=str(home / "landing"))
        self.ledger = Ledger.from_environment(str(home), os.environ)
        self.tombstones = Tombstones(home=str(home))

    def keepers(self) -> list[Keeper]:
        """Everything that may have traces."""
        return list(keepers(self.lake, self.landing, Outbox(self.home / "outbox"), self.ledger))

    def person(self, asked: str = "ann") -> Person:
        """All ids of a person."""
        return identify(asked, latest_map(self.lake))[0]

    def erase(self, asked: str = "ann", *, ours: tuple[str, ...] = ()) -> list[Trace]:
        """Erase a person, as the job does."""
        person = self.person(asked)
        found = search(self.keepers(), person)
        return erase(person, self.keepers, found, self.tombstones, reference="request 7", ours=ours, now=lambda: NOON)

    def files(self) -> dict[str, bytes]:
        """Every file by path, as bytes; the ledger as the text of its rows."""
        found = {path.relative_to(self.home).as_posix(): path.read_bytes() for path in self.home.rglob("*") if path.is_file()}
        return found | {"ledger.duckdb": repr(self.deliveries()).encode()}

    def deliveries(self) -> list[tuple[Any, ...]]:
        """All rows of the ledger."""
        return self.ledger.search([""]).drop("first_attempt_at", "last_attempt_at").sort("idempotency_key").rows()


def json_lines(*lines: Mapping[str, Any]) -> bytes:
    """One JSON object a line."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def write_landing(folder: Path) -> None:
    """Hers and others' lines, in every format."""
    folder.mkdir(parents=True)
    mixed = json_lines(HERS[0], OTHERS[0], HERS[1], OTHERS[1], OTHERS[2], HERS[2])
    (folder / "plain.ndjson").write_bytes(b"\xef\xbb\xbf" + mixed + b'{"userId": "ann", broken\n{broken\n\n' + json_lines(HERS[3]).strip())
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(mixed))
    (folder / "packed.ndjson.zst").write_bytes(zstandard.compress(mixed))
    (folder / "deeper").mkdir()
    columns = {"userId": ["ann", "bob", None, None], "anonymousId": [None, "phone", "phone", "tablet"], "properties": ["{}"] * 4}
    pl.DataFrame(columns).write_parquet(folder / "deeper" / "export.parquet")
    (folder / "untouched.ndjson").write_bytes(json_lines(*OTHERS))


def write_lake(lake: Lake, days: Sequence[date]) -> None:
    """Tables with ids in every way that tables have them, one that nobody has thought of yet, and one without."""
    for day in days:
        ids = [("anonymous", "phone", "ann"), ("anonymous", "tablet", "anon:tablet"), ("user", "ann", "ann")]
        ids += [("user", "ann-maiden", "ann" if day == NEXT else "ann-maiden"), ("user", "anna", "anna"), ("user", "bob", "bob")]
        lake.write("identity_map", day, dated(day, [dict(zip(("id_type", "id", "customer_id"), one, strict=True)) for one in ids]))
        lake.write("identity_changes", day, dated(day, [{"absorbed": "ann-maiden", "customer_id": "ann", "absorbed_rows": 1}]))
        events = [
            {"user_id": line.get("userId"), "anonymous_id": line.get("anonymousId"), "previous_id": line.get("previousId"), "line": number}
            for number, line in enumerate([*HERS, *OTHERS])
        ]
        events[3]["user_id"] = "ann"
        lake.write("raw_events", day, dated(day, events))
        rejected = [json.dumps(line | {"type": "?"}) for line in (HERS[0], OTHERS[0])] + ['{"userId": "ann", broken', "{broken"]
        lake.write("rejected_events", day, dated(day, [{"line": number, "raw": raw} for number, raw in enumerate(rejected)]))
        people = [("ann", [3.0]), ("anna", []), ("anon:tablet", []), ("bob", [1.0, 2.0])] + ([("ann-maiden", [])] if day == DAY else [])
        profiles = [{"customer_id": who, "state": {"weights": weights, "word": who.upper()}} for who, weights in people]
        lake.write("customer_profiles", day, dated(day, profiles), {"spend": "as of today"})
        lake.write("still_to_come", day, dated(day, [{"best_customer_id": "ann", "n": 1}, {"best_customer_id": "bob", "n": 2}]))
        lake.write("purchase_models", day, dated(day, [{"model": "phoned", "alpha": 0.5}]))


def messages(*customers: str) -> pl.DataFrame:
    """One message a customer, as the ledger takes them."""
    return pl.DataFrame({"idempotency_key": [f"key of {len(who)} {who[0]}" for who in customers], "customer_id": customers}).with_columns(
        date=DAY, journey_id=pl.lit("welcome"), channel=pl.lit("app"), decision=pl.struct("customer_id").struct.json_encode()
    )


def dated(day: date, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A table of a day."""
    return pl.DataFrame(rows, infer_schema_length=None).select(pl.lit(day).alias("date"), pl.all())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two days of everything, all of it knowing Ann, and Bob."""
    return make_world(tmp_path / "home", DAY, NEXT)


def make_world(home: Path, *days: date) -> World:
    """Write a landing zone, a lake, an outbox and a ledger."""
    world = World(home)
    for day in days:
        write_landing(Path(world.landing.root) / str(day))
    write_lake(world.lake, days)
    outbox = world.home / "outbox" / f"date={days[0]}"
    outbox.mkdir(parents=True)
    sent = messages("ann", "bob", "anon:phone")
    (outbox / "welcome.ndjson").write_bytes(json_lines(*sent.select("idempotency_key", "customer_id").rows(named=True)))
    world.ledger.claim(sent, NOON)
    world.ledger.settle(sent.select("idempotency_key", status=pl.lit("delivered")))
    (world.home / "lake" / "raw_events" / f"date={days[0]}" / ".part.parquet.4711").write_bytes(b"half a file of ann")
    (world.home / "lake" / ".spill-killed").mkdir()
    (world.home / "lake" / ".spill-killed" / "0.parquet").write_bytes(b"PAR1, and then ann was killed")
    (outbox / ".welcome.ndjson.part").write_bytes(b'{"customer_id":"ann"')
    return world


def contents(path: Path) -> Iterator[str]:
    """All values of a file, as JSON text, by means that share nothing with what is tested."""
    data = path.read_bytes()
    if path.suffix == ".parquet" and ".spill-" not in path.parent.name:
        for row in pl.read_parquet(path, hive_partitioning=False).iter_rows():
            yield json.dumps(row, default=str).replace("\\", "")
    else:
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data) if path.suffix == ".zst" else data
        yield from data.decode(errors="replace").replace("\\", "").splitlines()


def lines_that_name(home: Path, name: str) -> list[str]:
    """Every line or row of every file that has the id in quotes."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [line for path in files for line in contents(path) if f'"{name}"' in line or f'"anon:{name}"' in line]


def test_nothing_of_hers_is_left_anywhere(world: World) -> None:
    """Searched byte by byte and row by row: no file has her user ids, and her phone is named only in events that carry Bob's."""
    assert all(len(lines_that_name(world.home, name)) > 5 for name in IDS)
    assert b"anon:phone" in (world.home / "ledger.duckdb").read_bytes()
    world.erase()
    assert [lines_that_name(world.home, name) for name in ("ann", "ann-maiden")] == [[], []]
    assert lines_that_name(world.home, "phone")
    assert all('"bob"' in line for line in lines_that_name(world.home, "phone"))
    assert b"anon:phone" not in (world.home / "ledger.duckdb").read_bytes()
    assert not [path for path in world.home.rglob(".*") if path.is_file() and path.name not in {".replaced.json", ".ledger.lock"}]


def lines_of(landing: LandingZone, day: date) -> pl.DataFrame:
    """One row per line that is not blank, as ingest reads the day."""
    parts = [part for block in landing.read(day) for part in block]
    rows = [
        (part.source_file, number, raw)
        for part in parts
        for number, raw in enumerate(bytes(part.data).split(b"\n"), part.first)
        if raw.strip()
    ]
    return pl.DataFrame(rows, schema=["source_file", "line", "raw"], orient="row")


def test_the_rows_of_others_stay_as_they_are(world: World) -> None:
    """In every table and landing file exactly hers are missing; files without any are not even written again."""
    tables = {path: pl.read_parquet(path, hive_partitioning=False) for path in Path(world.lake.root).rglob("part.parquet")}
    landed = {day: lines_of(world.landing, day) for day in (DAY, NEXT)}
    untouched = {name: data for name, data in world.files().items() if "purchase_models" in name or "untouched" in name}
    deliveries = world.deliveries()
    world.erase()
    hers = pl.any_horizontal(pl.col("^(customer_id|user_id|absorbed|best_customer_id)$").is_in(["ann", "ann-maiden", "anon:phone"]))
    for path, table in tables.items():
        match path.parent.parent.name:
            case "raw_events":
                is_hers = pl.col("line") < len(HERS)
            case "rejected_events":
                is_hers = pl.col("raw").str.contains('"ann"')
            case "purchase_models":
                is_hers = pl.lit(value=False)
            case _:
                is_hers = hers
        assert pl.read_parquet(path, hive_partitioning=False).equals(table.filter(~is_hers)), path
    assert world.lake.definitions("customer_profiles", DAY) == {"spend": "as of today"}
    for day, lines in landed.items():
        is_hers = pl.col("raw").bin.contains(b'"ann"') | (pl.col("raw").bin.contains(b"phone") & ~pl.col("raw").bin.contains(b"bob"))
        kept = lines.filter(~is_hers)
        after = lines_of(world.landing, day)
        in_place = ~pl.col("source_file").str.ends_with(".parquet")
        assert after.select("source_file", "raw").equals(kept.select("source_file", "raw"))
        assert after.filter(in_place).equals(kept.filter(in_place))
    assert world.deliveries() == [row for row in deliveries if row[2] == "bob"]
    assert world.ledger.claim(messages("bob"), NOON).is_empty()  # delivered before, and still known to be
    assert len(untouched) == 4
    assert untouched.items() <= world.files().items()


def test_the_landing_zone_looks_unchanged_to_the_sensor_until_somebody_else_writes(world: World) -> None:
    """A day's signature survives one erasure and another, of anybody, and changes with the next real change."""
    before = [world.landing.signature(day) for day in (DAY, NEXT)]
    world.erase()
    assert [world.landing.signature(day) for day in (DAY, NEXT)] == before
    world.erase("bob")
    assert [world.landing.signature(day) for day in (DAY, NEXT)] == before
    with (Path(world.landing.root) / str(DAY) / "plain.ndjson").open("ab") as file:
        file.write(b"{}\n")
    assert world.landing.signature(DAY) != before[0]
    assert world.landing.signature(NEXT) == before[1]


def test_the_tombstone_tells_what_was_removed_and_names_nobody(world: World) -> None:
    """Hashes of her ids, the reference, rows by place, and when it was proved; a second request is added to it."""
    world.erase()
    (path,) = (world.home / "tombstones").glob("*.json")
    tombstone = json.loads(path.read_text())
    assert tombstone["fingerprints"] == sorted(Person(frozenset(IDS[:2]), frozenset(IDS[2:])).fingerprints)
    assert world.tombstones.fingerprints().to_list() == tombstone["fingerprints"]
    (erasure,) = tombstone["erasures"]
    assert (erasure["reference"], erasure["begun_at"], erasure["proved_at"]) == ("request 7", NOON.isoformat(), NOON.isoformat())
    assert erasure["rows_found"] == {
        "customer_profiles": 3,
        "identity_changes": 2,
        "identity_map": 6,
        "landing": 2 * (5 + 3 + 3 + 2),
        "ledger": 2,
        "outbox": 2,
        "raw_events": 8,
        "rejected_events": 4,
        "still_to_come": 2,
        "unfinished files": 3,
    }
    assert not any(name in path.read_text() for name in IDS)
    assert world.tombstones.has(["x", tombstone["fingerprints"][0]])
    assert not world.tombstones.has(["x"])


def test_an_old_day_that_comes_back_from_a_backup_is_erased_again(world: World) -> None:
    """Asked for once more by any id the tombstone stays one file with two entries, and the files are clean again."""
    backup = {path: path.read_bytes() for path in Path(world.lake.root).rglob("part.parquet")}
    world.erase()
    for path, data in backup.items():
        path.write_bytes(data)
    world.erase("anon:phone")
    assert lines_that_name(world.home, "ann") == []
    (path,) = (world.home / "tombstones").glob("*.json")
    assert len(json.loads(path.read_text())["erasures"]) == 2


class Killed(BaseException):
    """What a test does in place of SIGKILL: nothing catches it, and nothing is cleaned up."""


def dies_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the process die at its n-th rename, half of them before it and half after."""
    renames = [0]
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        renames[0] += 1
        if renames[0] == moment and moment % 2:
            raise Killed
        done = rename(self, target)
        if renames[0] == moment:
            raise Killed
        return done

    monkeypatch.setattr(Path, "replace", replace)
    return renames


def test_killed_at_any_rename_and_run_again_the_same_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before or after any rename: her ids are known to the last, and one more run ends as if nothing had happened."""
    original = make_world(tmp_path / "original", NEXT)
    shutil.copytree(original.home, tmp_path / "calm")
    calm = World(tmp_path / "calm")
    calm.erase()
    expected = comparable(calm)
    assert len(expected) > 10
    moment, is_over = 0, False
    while not is_over:
        moment += 1
        killed = World(tmp_path / f"killed_at_{moment}")
        shutil.copytree(original.home, killed.home)
        with monkeypatch.context() as patch:
            renames = dies_at(moment, patch)
            try:
                killed.erase()
            except Killed:
                assert len(killed.tombstones.fingerprints()) in {0, 14}
            is_over = renames[0] < moment
        killed.erase()
        assert comparable(killed) == expected, moment
    assert moment > 15


def comparable(world: World) -> dict[str, object]:
    """All files but the tombstone, which counts its runs, and the notes of when landing files were written."""
    return {name: data for name, data in world.files().items() if not name.startswith("tombstones/") and "/." not in name}


def test_the_same_text_in_others_rows_stops_the_erasure_before_it_begins(world: World) -> None:
    """Every place is told with its rows; said to mean something else it is left, and told as left."""
    world.lake.write(
        "journey_queues", DAY, dated(DAY, [{"customer_id": "bob", "journey_id": "ann"}, {"customer_id": "ann", "journey_id": "b"}])
    )
    invited = json_lines({"userId": "bob", "properties": {"invited_by": "ann"}})
    (Path(world.landing.root) / str(DAY) / "invited.ndjson").write_bytes(invited)
    before = world.files()
    with pytest.raises(
        NotErasedError, match=r"Nothing was removed.* in journey_queues.journey_id \(1 rows\), landing.line \(1 rows\)\..*same_text"
    ):
        world.erase()
    assert world.files() == before
    left = world.erase(ours=("journey_queues.journey_id", "landing.line"))
    assert {(one.place, one.theirs, tuple(one.elsewhere.items())) for one in left if one.elsewhere} == {
        ("journey_queues", 0, (("journey_queues.journey_id", 1),)),
        ("landing", 0, (("landing.line", 1),)),
    }
    assert world.lake.read("journey_queues", DAY)["customer_id"].to_list() == ["bob"]


def test_a_file_that_is_none_of_ours_is_searched_and_named(world: World) -> None:
    """Notes and uploads under way are nobody's to rewrite: the erasure says which file to see to."""
    (Path(world.landing.root) / "notes.txt").write_text('call "ann" back\n')
    with pytest.raises(NotErasedError, match=r"in landing/notes\.txt \(1 rows\)"):
        world.erase()
    (Path(world.landing.root) / "notes.txt").unlink()
    world.erase()


def test_a_compressed_file_that_is_none_of_ours_is_searched_too(world: World) -> None:
    """What ingest leaves alone may be a copy of what it reads."""
    (Path(world.landing.root) / "old.json.gz").write_bytes(gzip.compress(json_lines({"userId": "ann"})))
    with pytest.raises(NotErasedError, match=r"in landing/old\.json\.gz \(1 rows\)"):
        world.erase()


def test_whatever_ingest_reads_is_rewritten(world: World) -> None:
    """Any name that ends as those of events do, in any case, in folders called date=, packed or not; what it leaves alone is named."""
    folder = Path(world.landing.root) / f"date={DAY}" / "deep"
    folder.mkdir(parents=True)
    mixed = json_lines(HERS[0], OTHERS[0], HERS[1])
    files = {"A.JSON": mixed, "b.log.GZ": gzip.compress(mixed), "c.anything.zst": zstandard.compress(mixed)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    world.erase()
    unpacked = {
        "A.JSON": (folder / "A.JSON").read_bytes(),
        "b.log.GZ": gzip.decompress((folder / "b.log.GZ").read_bytes()),
        "c.anything.zst": zstandard.ZstdDecompressor().decompressobj().decompress((folder / "c.anything.zst").read_bytes()),
    }
    assert unpacked == dict.fromkeys(files, b"\n" + json_lines(OTHERS[0]) + b"\n")
    (folder / "_hidden.ndjson").write_bytes(mixed)
    with pytest.raises(NotErasedError, match=rf"Nothing was removed.* in landing/date={DAY}/deep/_hidden\.ndjson \(1 rows\)"):
        world.erase()


def test_ids_of_a_parquet_file_are_read_as_ingest_reads_them(world: World) -> None:
    """A number is an id as text, a whole float as an integer, a decimal without its zeros, a UUID as its text: rows of theirs go."""
    name = uuid.UUID("0b6e5d3c-7f4a-4c1e-9d2b-000000000042")
    columns: dict[str, pa.Array] = {
        "float": pa.array([42.0, 43.0, None]),
        "integer": pa.array([42, 43, None]),
        "decimal": pa.array([Decimal("42.00"), Decimal("43.00"), None]),
        "uuid": pa.array([name.bytes, uuid.uuid4().bytes, None], pa.uuid()),
    }
    for kind, ids in columns.items():
        table = pa.table({"userId": ids, "event": ["hers", "another's", "nobody's"]})
        pq.write_table(table, Path(world.landing.root) / str(DAY) / f"{kind}.parquet")
    world.erase("42")
    world.erase(str(name))
    for kind in columns:
        left = pq.read_table(Path(world.landing.root) / str(DAY) / f"{kind}.parquet")
        assert left["event"].to_pylist() == ["another's", "nobody's"], kind


def test_a_file_that_ingest_refuses_is_named(world: World) -> None:
    """Nested so deeply that Polars would die of it: nobody can say whom it names, and nothing is removed."""
    deep = pa.array([1])
    for _ in range(60):
        deep = pa.StructArray.from_arrays([deep], names=["a"])
    pq.write_table(pa.table({"userId": ["ann"], "properties": deep}), Path(world.landing.root) / str(DAY) / "deep.parquet")
    with pytest.raises(NotErasedError, match=r"deep\.parquet: cannot be read"):
        world.erase()
    assert not (world.home / "tombstones").exists()


def test_names_of_files_and_files_of_the_home_are_searched(world: World) -> None:
    """An export that is called after her, and notes beside the lake: they are told, and whoever put them there sees to them."""
    (Path(world.landing.root) / str(DAY) / "export-ann-1.ndjson").write_bytes(b"{}\n")
    (world.home / "notes.md").write_text("ANN called\n")
    with pytest.raises(NotErasedError, match=r"Nothing was removed.* in home/notes\.md \(1 rows\), landing file names \(1 rows\)\."):
        world.erase()


@pytest.mark.parametrize("name", ["late.ndjson.gz", "late.ndjson.zst", "late.parquet"])
def test_a_half_uploaded_file_is_named(world: World, name: str) -> None:
    """What cannot be read cannot be searched: nothing is removed, and the file and the remedy are told."""
    whole = world.home.with_name(name)
    pl.DataFrame({"userId": ["ann"]}).write_parquet(whole)
    packed = {".gz": gzip.compress, ".zst": zstandard.compress, ".parquet": bytes}[whole.suffix](whole.read_bytes())
    (Path(world.landing.root) / str(DAY) / name).write_bytes(packed[:-20])
    with pytest.raises(NotErasedError, match=rf"{name}: cannot be read.*Is its upload complete"):
        world.erase()
    assert not (world.home / "tombstones").exists()


def test_lines_that_arrive_meanwhile_are_found_by_the_proof(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second search sees files that the first did not: it fails, names them, and the next run removes them."""
    late = Path(world.landing.root) / str(NEXT) / "late.ndjson"
    lay = Tombstones.lay

    def while_something_arrives(self: Tombstones, *args: Any, **kwargs: Any) -> Path:
        late.write_bytes(json_lines({"userId": "ann"}, {"userId": "bob"}))
        return lay(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Tombstones, "lay", while_something_arrives)
        with pytest.raises(NotErasedError, match=rf"Run this again.* in landing {NEXT}/late\.ndjson \(1 rows\)"):
            world.erase()
    world.erase()
    assert late.read_bytes() == b"\n" + json_lines({"userId": "bob"})


def test_an_empty_home_has_nothing_of_anybody(tmp_path: Path) -> None:
    """Without lake, landing zone and ledger the tombstone is laid all the same, and nothing else is made."""
    world = World(tmp_path / "home")
    assert world.erase("zoe") == []
    assert [path.name for path in world.home.iterdir()] == ["tombstones"]


def test_a_file_is_searched_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few lines are held at once, the same is found and removed."""
    monkeypatch.setattr(kept, "BATCH", 1)
    world.erase()
    assert lines_that_name(world.home, "ann") == []
    assert len(lines_that_name(world.home, "bob")) > 10
