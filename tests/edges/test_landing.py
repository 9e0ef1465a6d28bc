"""The landing zone against what people and attackers put there: names, links, packings, sizes; nothing is passed over in silence."""

import gzip
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import zstandard

from atc_pipeline.events.ingest import Ingested, ingest
from atc_pipeline.events.lines import LARGEST_LINE
from resources.storage import landing
from resources.storage.lake import Lake
from resources.storage.landing import Frames, LandingZone, PassedOver, UnreadableFileError
from resources.storage.spill import Spill

TODAY = date(2026, 1, 10)
GOOD = {"type": "track", "event": "E", "userId": "c", "timestamp": "2026-01-10T10:00:00Z"}


def good(name: str) -> bytes:
    """Return a line that is accepted."""
    return json.dumps({**GOOD, "messageId": name}).encode() + b"\n"


def land(folder: Path, name: str, data: bytes) -> Path:
    """Write a file into the landing zone."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read(folder: Path) -> tuple[Ingested, list[PassedOver]]:
    """Ingest the day; also return the files refused."""
    refused: list[PassedOver] = []
    blocks = LandingZone(root=str(folder)).read(TODAY, refused)
    done = ingest(blocks, pl.Series(dtype=pl.String), arrival=TODAY, timezone="UTC")
    assert done.lines == done.accepted.height + done.rejected.height + done.duplicates
    return done, refused


NAMES = {
    "events.ndjson": bytes,
    "events.jsonl": bytes,
    "events.json": bytes,
    "EVENTS.NDJSON": bytes,
    "Events.Json.Gz": gzip.compress,
    "1795168800000.4a0f3c1e.1-2-3.gz": gzip.compress,
    "1795168800.src1.9939afc4.json.gz": gzip.compress,
    "part-0000.zst": zstandard.compress,
    "hour=10/deeper/x.jsonl.ZST": zstandard.compress,
    "export[1].ndjson": bytes,
    "ex*.ndjson": bytes,
    "what?.{a,b}.ndjson": bytes,
    "%20 ~ $HOME\n.ndjson": bytes,
    "é日本.ndjson": bytes,
}


@pytest.mark.parametrize("form", ["{}", "date={}"])
def test_event_files_are_told_by_the_end_of_their_name(tmp_path: Path, form: str) -> None:
    """In any case, whatever stands before it, in both forms of the day's folder and in folders below; nothing else is named."""
    for name, pack in NAMES.items():
        land(tmp_path / form.format(TODAY), name, pack(good(name)))
    zone = LandingZone(root=str(tmp_path))
    done, refused = read(tmp_path)
    assert sorted(done.accepted["message_id"]) == sorted(NAMES)
    assert (refused, zone.passed_over(TODAY), zone.strangers(), zone.days()) == ([], [], [], [TODAY])


def test_both_forms_of_a_day_are_one_day(tmp_path: Path) -> None:
    """Files of either folder are read, and a change in either is news."""
    land(tmp_path, f"{TODAY}/a.ndjson", good("1"))
    zone = LandingZone(root=str(tmp_path))
    before = zone.signature(TODAY)
    late = land(tmp_path, f"date={TODAY}/sub/a.json", good("2"))
    assert read(tmp_path)[0].accepted["message_id"].to_list() == ["1", "2"]
    with_both = zone.signature(TODAY)
    late.write_bytes(good("2") + good("3"))
    assert len({before, with_both, zone.signature(TODAY)}) == 3


def test_whatever_else_is_there_is_named(tmp_path: Path) -> None:
    """Other files, links, pipes and names that are no text, with what to do; hidden ones are left alone, and the day goes on."""
    outside = tmp_path / "outside"
    zone = tmp_path / "landing"
    day = zone / str(TODAY)
    secret = land(outside, "secret.ndjson", good("secret"))
    kept = land(day, "kept.ndjson", good("kept"))
    for name in ("notes.txt", "events.csv", "noend", "ndjson", "sub/upload.ndjson.tmp", "rows.parquet.gz", "mail.zip"):
        land(day, name, good(name))
    for name in (".half.ndjson", "_SUCCESS", "_delta_log/0.json", ".git/x.json", "sub/.crc.ndjson"):
        land(day, name, good(name))
    for name in (
        "loose.ndjson",
        "20260110/a.ndjson",
        "2026-W02-6/a.ndjson",
        "2026/01/10/a.ndjson",
        "date=2026-1-10/a.ndjson",
        "_tmp/a.json",
    ):
        land(zone, name, good(name))
    (day / "out.ndjson").symlink_to(secret)
    (day / "nowhere.ndjson").symlink_to(outside / "none")
    (day / "folder").symlink_to(outside)
    (day / "round").symlink_to(day)
    (day / "itself.ndjson").symlink_to("itself.ndjson")
    (day / "endless.ndjson").symlink_to("x" * 300)
    (day / "again.ndjson").symlink_to(kept)
    (zone / "2026-01-11").symlink_to(outside)
    os.mkfifo(day / "pipe.ndjson")
    (Path(os.fsdecode(os.fsencode(day) + b"/caf\xe9.ndjson"))).write_bytes(good("latin"))

    found = LandingZone(root=str(zone))
    done, refused = read(zone)
    assert (done.accepted["message_id"].to_list(), done.duplicates, refused) == (["kept"], 1, [])
    named = {each.name.removeprefix(f"{TODAY}/"): each.why for each in found.passed_over(TODAY)}
    assert {name: why.split(":")[0][:22] for name, why in named.items()} == {
        **dict.fromkeys(("notes.txt", "events.csv", "noend", "ndjson", "sub/upload.ndjson.tmp", "mail.zip"), "its name does not end "),
        "rows.parquet.gz": "it is Parquet in a pac",
        **dict.fromkeys(("out.ndjson", "nowhere.ndjson", "folder", "round", "itself.ndjson", "endless.ndjson"), "it is a link to a fold"),
        "pipe.ndjson": "it is no regular file",
        "caf\\xe9.ndjson": "its name is not UTF-8",
    }
    assert [each.name for each in found.strangers()] == ["2026", "2026-01-11", "2026-W02-6", "20260110", "date=2026-1-10", "loose.ndjson"]
    assert found.days() == [TODAY]
    assert found.signature(TODAY)


def test_a_root_with_brackets_is_a_name(tmp_path: Path) -> None:
    """Landing zone, lake and spilled tables under a folder that looks like a pattern."""
    home = tmp_path / "[prod]" / "ex*"
    land(home / "landing", f"{TODAY}/export[1].parquet", b"")
    pl.DataFrame([{**GOOD, "messageId": "p"}]).write_parquet(home / "landing" / str(TODAY) / "export[1].parquet")
    done, _ = read(home / "landing")
    lake = Lake(root=str(home / "lake"))
    with Spill(home / "lake") as spill:
        lake.write("raw_events", TODAY, spill.park(done.accepted))
    assert lake.days("raw_events") == [TODAY]
    assert lake.rows("raw_events", TODAY) == lake.read("raw_events", TODAY).height == 1
    scanned = lake.scan("raw_events", [TODAY])
    assert scanned is not None
    assert scanned.collect().height == 1


def test_a_byte_order_mark_is_dropped_from_any_line(tmp_path: Path) -> None:
    """As in files that were joined; the line is the same as without it, and one with nothing else is blank."""
    mark = b"\xef\xbb\xbf"
    line = json.dumps(GOOD).encode()
    largest = json.dumps({**GOOD, "properties": {"a": "@"}}).encode()
    largest = largest.replace(b"@", b"x" * (LARGEST_LINE - len(largest) + 1))
    land(tmp_path, f"{TODAY}/a.ndjson", mark + line + b"\n" + mark + b"\n" + line + b"\n" + mark + line + b"\n" + mark + largest + b"\n")
    done, _ = read(tmp_path)
    assert (done.lines, done.duplicates, done.accepted["line"].sort().to_list()) == (4, 2, [1, 5])


@pytest.mark.parametrize("block", [64, 2**15, 2**24])
def test_only_the_head_of_a_line_that_is_too_large_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Whatever it is read by, at its place among others, and never in the middle of a character; the largest that is allowed is whole."""
    monkeypatch.setattr("resources.storage.landing.BLOCK", block)
    monkeypatch.setattr("resources.storage.landing.CHUNK", block)
    empty = json.dumps({**GOOD, "messageId": "fits", "properties": {"a": ""}}).encode()
    fits = empty.replace(b'""', b'"' + b"x" * (LARGEST_LINE - len(empty)) + b'"')
    sizes = [LARGEST_LINE + 1, LARGEST_LINE + 3, LARGEST_LINE + 4, LARGEST_LINE + 5, LARGEST_LINE + 8, 3 * LARGEST_LINE]
    long = [("é" * size).encode()[1 : size + 1] for size in sizes]
    text = b"\n".join([good("0").strip(), *long, fits, b"", good("1").strip(), *(b"y" + b"x" * size for size in sizes)])
    land(tmp_path, f"{TODAY}/a.jsonl", text)
    land(tmp_path, f"{TODAY}/b.jsonl.zst", zstandard.compress(text))
    done, _ = read(tmp_path)
    rejected = done.rejected.filter(pl.col("source_file").str.ends_with("a.jsonl"))
    assert (done.accepted["message_id"].sort().to_list(), done.duplicates) == (["0", "1", "fits"], 3)
    assert rejected["line"].to_list() == [2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15, 16]
    assert set(done.rejected["reason"]) == {"too_large"}
    assert done.rejected["raw"].str.len_bytes().max() <= LARGEST_LINE + 10
    assert not any("\ufffd" in raw[1:-1] for raw in rejected["raw"][6:])
    other = done.rejected.filter(pl.col("source_file").str.ends_with(".zst"))
    assert other["raw"].to_list() == rejected["raw"].to_list()


def test_a_line_too_large_of_an_erased_person_leaves_its_count_only(tmp_path: Path) -> None:
    """It was cut while it was read and is no JSON any more: its ids are found in its text."""
    for name, who in (("a", '"userId": "gone"'), ("b", '"user_id":"gone"'), ("c", '"anonymousId": "gone"'), ("d", '"userId": "here"')):
        land(tmp_path, f"{TODAY}/{name}.ndjson", f'{{{who}, "properties": "{"x" * 10**6}"}}\n'.encode())
    gone = pl.DataFrame({"text": ["user:gone", "anonymous:gone"]}).select(pl.col("text").chash.sha2_256()).to_series()
    blocks = LandingZone(root=str(tmp_path)).read(TODAY)
    done = ingest(blocks, pl.Series(dtype=pl.String), arrival=TODAY, timezone="UTC", erased=gone)
    assert (done.lines, done.erased, done.rejected["source_file"].to_list()) == (4, 3, [f"{TODAY}/d.ndjson"])


def test_what_unpacks_beyond_measure_is_read_so_far_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By bytes or by lines, in any packing; the files after it are read, and what was read before counts."""
    monkeypatch.setattr(landing, "UNPACKED", 2**20)
    monkeypatch.setattr(landing, "RATIO", 10)
    monkeypatch.setattr(landing, "CHUNK", 2**16)
    bomb = good("before") + b"x" * 2**22 + b"\n" + good("behind")
    land(tmp_path, f"{TODAY}/a.ndjson.gz", gzip.compress(bomb))
    land(tmp_path, f"{TODAY}/b.ndjson.zst", zstandard.compress(bomb))
    land(tmp_path, f"{TODAY}/c.zst", zstandard.compress(b"\n" * 10**5))
    land(tmp_path, f"{TODAY}/d.ndjson", good("after"))
    pl.DataFrame({"a": [1] * 10**5}).write_parquet(tmp_path / str(TODAY) / "e.parquet")
    done, refused = read(tmp_path)
    assert done.accepted["message_id"].to_list() == ["after", "before"]
    assert done.duplicates == 1
    assert [each.name.removeprefix(f"{TODAY}/") for each in refused] == ["a.ndjson.gz", "b.ndjson.zst", "c.zst", "e.parquet"]
    assert "its first 1 lines were read" in refused[0].why
    assert "split it" in refused[3].why


def test_a_window_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    """Of two frames, the second with a window of a gigabyte: the first is read, the file is named."""
    wide = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=30)).compressobj()
    land(tmp_path, f"{TODAY}/a.zst", zstandard.compress(good("1")) + wide.compress(good("2")) + wide.flush())
    _, (refused,) = read(tmp_path)
    assert "128 MiB" in refused.why


def test_frames_follow_each_other_and_the_last_is_whole(tmp_path: Path) -> None:
    """Skippable ones among them, each unpacked a little at a time; a file that ends within one is not whole."""
    skippable = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"
    packed = zstandard.compress(b"a" * 100) + skippable + zstandard.compress(b"b" * 100)
    path = land(tmp_path, "x.zst", packed)
    with path.open("rb") as file:
        frames = Frames(file)
        assert b"".join(iter(lambda: frames.read(7), b"")) == b"a" * 100 + b"b" * 100
    for cut in (1, 9, len(packed) - 5):
        land(tmp_path, f"{TODAY}/x.zst", packed[:-cut])
        with pytest.raises(UnreadableFileError, match="Is its upload complete"):
            read(tmp_path)


def test_lines_without_end_come_in_blocks_of_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row takes memory however short its line is; numbers of lines go on from block to block, and over files."""
    monkeypatch.setattr("resources.storage.landing.LINES", 100)
    land(tmp_path, f"{TODAY}/a.ndjson", b"x\n" * 1234)
    for number in range(250):
        land(tmp_path, f"{TODAY}/b/{number:03}.ndjson", b"y")
    blocks = list(LandingZone(root=str(tmp_path)).read(TODAY))
    counts = [sum(bytes(part.data).count(b"\n") for part in block) for block in blocks]
    assert (sum(counts), max(counts)) == (1484, 100)
    done, _ = read(tmp_path)
    assert done.rejected["line"].to_list() == [*range(1, 1235), *[1] * 250]


LIMITED = """
import sys, polars as pl
from datetime import date
from atc_pipeline.events.ingest import ingest
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
day, refused = date(2026, 1, 10), []
lake = Lake(root=sys.argv[1] + "/lake")
with lake.spill() as spill:
    blocks = LandingZone(root=sys.argv[1]).read(day, refused)
    done = ingest(blocks, pl.Series(dtype=pl.String), arrival=day, timezone="UTC", park=spill.park)
    lake.write("rejected_events", day, done.rejected)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(done.lines, refused, peak // 1024)
"""


def peak(folder: Path) -> tuple[str, int]:
    """Ingest the day in a process of its own; return its counts, and the most MiB it ever had."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(folder)], capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr[-2000:]
    told, _, most = done.stdout.strip().rpartition(" ")
    return told, int(most)


@pytest.mark.slow
def test_a_line_of_three_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    """Packed into a tenth of a megabyte, with good ones around it."""
    packer = zstandard.ZstdCompressor().compressobj()
    path = land(tmp_path, f"{TODAY}/bomb.ndjson.zst", b"")
    with path.open("wb") as file:
        file.write(packer.compress(good("1")))
        for _ in range(3 * 2**10):
            file.write(packer.compress(b"x" * 2**20))
        file.write(packer.compress(b"\n" + good("2")) + packer.flush())
    told, most = peak(tmp_path)
    assert told == "3 []"
    assert most < 400


@pytest.mark.slow
def test_a_megabyte_of_text_in_each_row_of_a_parquet_file_takes_little_memory(tmp_path: Path) -> None:
    """Once as a dictionary of one text in every row, and once row by row: three gigabytes each."""
    folder = tmp_path / str(TODAY)
    folder.mkdir()
    for dtype in (pl.Categorical, pl.String):
        texts = pl.Series(["x" * 2**20], dtype=dtype).new_from_index(0, 3_000)
        pl.DataFrame({"properties": texts}).write_parquet(folder / f"{dtype}.parquet")
    told, most = peak(tmp_path)
    assert told == "6000 []"
    assert most < 1500
