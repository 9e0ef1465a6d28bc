"""Ingest: what a line must be, that every line is accounted for, and that it matters to nobody how a day is cut into blocks."""

import gzip
import hashlib
import json
import random
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from atc_pipeline.customers.activity import roll_up
from atc_pipeline.events import ingest as ingesting
from atc_pipeline.events.ingest import Ingested, ingest
from atc_pipeline.events.lines import MOST_NAMES, Lines, parse_time, read_times
from atc_pipeline.events.tables import TYPES
from atc_pipeline.identity.erasure import Person
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.landing import LandingZone, UnreadableFileError
from resources.storage.spill import Spill

TODAY = date(2026, 1, 10)
GOOD = {"messageId": "m", "type": "track", "event": "E", "userId": "c", "timestamp": "2026-01-10T10:00:00Z"}


def block(*lines: dict[str, Any] | bytes, first: int = 1, name: str = "a.ndjson") -> list[Lines]:
    """Return lines of one file."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return [Lines(name, first, b"".join(line + b"\n" for line in raw))]


def ingested(*lines: dict[str, Any] | bytes, recent: Iterable[str] = (), erased: Iterable[str] = ()) -> Ingested:
    """Ingest lines of one file; ``erased`` are ids as ``user:<id>`` or ``anonymous:<id>``."""
    hashes = pl.Series([hashlib.sha256(one.encode()).hexdigest() for one in erased], dtype=pl.String)
    seen = pl.Series(list(recent), dtype=pl.String)
    done = ingest([block(*lines)], seen, arrival=TODAY, timezone="Europe/Berlin", erased=hashes)
    assert done.lines == done.accepted.height + done.rejected.height + done.duplicates + done.erased
    return done


def test_lines_that_name_nobody_are_rejected_whatever_the_case() -> None:
    """SPEC 2's values and those of ``identity.blocked`` are no identity: a line with nothing else is ``missing_identity``."""
    nobody = ["undefined", "NULL", "None", "[object Object]", " guest ", "-1", "000", "Kiosk 7", "anon:undefined"]
    lines = [{"type": "page", "timestamp": "2026-01-10T10:00:00Z", "messageId": one, "userId": one, "anonymousId": "nil"} for one in nobody]
    known = {**lines[0], "messageId": "visitor", "anonymousId": "a"}
    blocks = [block(*lines, known, {**known, "messageId": "user", "userId": "undefined behaviour"})]
    done = ingest(blocks, pl.Series(dtype=pl.String), arrival=TODAY, timezone="UTC", blocked=["kiosk 7"])
    assert sorted(done.accepted["message_id"]) == ["user", "visitor"]
    assert done.rejected["reason"].to_list() == ["missing_identity"] * len(nobody)


def test_lines_that_name_an_erased_id_leave_their_count_only() -> None:
    """As user, previous id, or anonymous visitor without a user, accepted, rejected or repeated; others on the same device and
    namesakes stay."""
    by = {**GOOD, "anonymousId": "phone"}
    lines = (
        {**GOOD, "userId": "gone"},
        {**GOOD, "userId": "gone"},
        {**GOOD, "userId": "gone", "type": "trak"},
        {**GOOD, "userId": "gone", "properties": {"long": "x" * 33_000}},
        {**by, "messageId": "p", "userId": None},
        {**by, "messageId": "q", "userId": "-1"},
        {**by, "messageId": "c"},
        {**GOOD, "type": "alias", "previousId": "gone", "messageId": "n"},
        {**GOOD, "type": "alias", "previousId": "phone", "messageId": "n"},
        {**GOOD, "userId": 7},
        {"user_id": "gone", "type": "track"},
        {**GOOD, "anonymousId": "gone", "messageId": "a"},
        {**GOOD, "userId": "phone", "messageId": "b"},
        b'{"userId": "gone"',
    )
    done = ingested(*lines, erased=("user:gone", "anonymous:phone", "user:7"))
    assert done.erased == 10
    assert done.accepted["message_id"].to_list() == ["a", "b", "c"]
    assert done.rejected["reason"].to_list() == ["malformed_json"]


def test_an_erased_user_does_not_come_back_in_another_field() -> None:
    """As an anonymous id, as our own name for one, as that again, as previous id; a user with the id of a device stays, and whoever
    only borrows the device or is written otherwise is somebody else."""
    erased = Person(frozenset({"42"}), frozenset({"phone"})).fingerprints
    nobody = {**GOOD, "userId": None}
    lines = (
        {**GOOD, "userId": 42},
        {**GOOD, "userId": "anon:42"},
        {**GOOD, "userId": "anon:phone"},
        {**nobody, "anonymousId": "42"},
        {**nobody, "anonymousId": "anon:42"},
        {**nobody, "anonymousId": "anon:phone"},
        {**nobody, "userId": "-1", "anonymousId": 42},
        *({**GOOD, "type": "alias", "previousId": one} for one in ("42", "anon:42", "phone", "anon:phone", "anon:anon:42")),
        {**GOOD, "messageId": "a", "anonymousId": "42"},
        {**GOOD, "messageId": "b", "userId": "phone"},
        {**GOOD, "messageId": "c", "userId": "042"},
        {**GOOD, "messageId": "d", "userId": "42 "},
        {**nobody, "messageId": "e", "anonymousId": "4.2"},
    )
    seen = pl.Series(dtype=pl.String)
    done = ingest([block(*lines)], seen, arrival=TODAY, timezone="Europe/Berlin", erased=pl.Series(erased))
    assert done.accepted["message_id"].to_list() == ["a", "b", "c", "d", "e"]
    assert (done.erased, done.rejected.height) == (12, 0)


def test_fields_that_the_spec_does_not_know_are_kept() -> None:
    """As one JSON object by name, whatever the line is like otherwise; nulls say nothing, and without any there is none."""
    odd = {'"': 1, "\\": 2, "a\nb": 3, "": 4}
    many = {f"k{number:02}": number for number in range(MOST_NAMES + 1)}
    lines = (
        {**GOOD, "messageId": "1"},
        {**GOOD, "messageId": "2", "version": 2, "groupId": "g", "integrations": {"All": True}, "nothing": None},
        {**GOOD, "messageId": "3", "name": "é\n"},
        {**GOOD, "messageId": "4", **odd},
        {**GOOD, "messageId": "5", **many},
        {**GOOD, "messageId": "6", "event": [1], "type": "page", "name": "Tea"},
        {**GOOD, "messageId": "7", "nothing": None},
    )
    extra = [None if text is None else json.loads(text) for text in ingested(*lines).accepted["extra"]]
    assert extra == [None, {"groupId": "g", "integrations": {"All": True}, "version": 2}, {"name": "é\n"}, odd, many, {"name": "Tea"}, None]


def test_a_block_is_read_the_same_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names met late, fields that only some parts need, constants of all lines and of some: nothing depends on where a part ends."""
    clock = {
        "timestamp": None,
        "originalTimestamp": "2026-01-10T09:00:00Z",
        "sent_at": "2026-01-10T09:00:30Z",
        "receivedAt": GOOD["timestamp"],
    }
    further: list[dict[str, Any]] = [
        {},
        {},
        {},
        {"name": "Tea"},
        {},
        clock,
        {"channel": "app"},
        {"event": [1], "type": "page"},
        {"user_id": "u"},
    ]
    lines: list[dict[str, Any] | bytes] = [
        {**GOOD, "messageId": f"{number:02}", "integrations": {"All": True}, **more} for number, more in enumerate([*further, *further[:4]])
    ]
    at_once = ingested(*lines, b"{", b"").accepted
    assert [json.loads(text) for text in at_once["extra"]][:4] == [{"integrations": {"All": True}}] * 3 + [
        {"integrations": {"All": True}, "name": "Tea"}
    ]
    assert at_once["timestamp"][5] == datetime(2026, 1, 10, 9, 59, 30, tzinfo=UTC)
    for part in (1, 2, 3, 5):
        monkeypatch.setattr("atc_pipeline.events.lines.PART", part)
        assert_frame_equal(ingested(*lines, b"{", b"").accepted, at_once)
    all_alike = ingested(*({**GOOD, "messageId": f"{number}", "integrations": {}} for number in range(9))).accepted
    assert all_alike["extra"].to_list() == ['{"integrations":{}}'] * 9


def test_of_lines_with_one_id_the_first_by_time_then_by_hash_is_kept() -> None:
    """Whatever their order, and among other ids."""
    lines = [
        {**GOOD, "messageId": name, "timestamp": f"2026-01-10T0{hour}:00:00Z", "userId": user}
        for name in "bca"
        for hour in (2, 1)
        for user in "xy"
    ]
    done, turned = ingested(*lines), ingested(*reversed(lines))
    assert done.accepted["message_id"].to_list() == ["a", "b", "c"]
    assert set(done.accepted["timestamp"]) == {datetime(2026, 1, 10, 1, tzinfo=UTC)}
    assert done.duplicates == 9
    assert_frame_equal(done.accepted.drop("line"), turned.accepted.drop("line"))


def test_names_of_warehouse_exports_are_read_like_those_of_the_api() -> None:
    """``user_id`` is ``userId``; where a line has both, the API's wins, and neither is left over."""
    exported = {
        "message_id": "w", "type": "alias", "user_id": 7, "anonymous_id": "a", "previous_id": "p",
        "original_timestamp": "2026-01-10 08:00:00", "sent_at": "2026-01-10 08:00:30", "received_at": "2026-01-10 10:00:00",
    }  # fmt: skip
    done = ingested(
        GOOD, exported, {**GOOD, "messageId": "x", "message_id": "y", "user_id": "no"}, {**exported, "message_id": "z", "sent_at": {}}
    )
    rows = {row["message_id"]: row for row in done.accepted.iter_rows(named=True)}
    assert set(rows) == {"m", "w", "x"}
    assert {rows["w"][name] for name in ("user_id", "anonymous_id", "previous_id")} == {"7", "a", "p"}
    assert rows["w"]["timestamp"] == datetime(2026, 1, 10, 9, 59, 30, tzinfo=UTC)
    assert rows["w"]["received_at"] == datetime(2026, 1, 10, 10, tzinfo=UTC)
    assert (rows["x"]["user_id"], rows["x"]["extra"]) == ("c", None)
    assert done.rejected["reason"].to_list() == ["bad_timestamp"]


def test_a_value_over_two_lines_and_two_values_on_one_are_no_events() -> None:
    """The decoder takes a newline for a blank; here a line is a line, also among good ones."""
    split = json.dumps({**GOOD, "messageId": "s"}).encode()
    lines = (
        {**GOOD, "messageId": "1"},
        split[:20],
        split[20:],
        split + split,
        {**GOOD, "messageId": "2"},
        b'{"type": {}',
        b'{"a": 1}}',
    )
    done = ingested(*lines)
    assert done.accepted["message_id"].to_list() == ["1", "2"]
    assert done.rejected["line"].to_list() == [2, 3, 4, 6, 7]
    assert set(done.rejected["reason"]) == {"malformed_json"}


def test_blank_lines_are_no_lines_but_keep_their_number() -> None:
    """Blanks of any kind between lines, and around a line's JSON."""
    done = ingested(b"", GOOD, b" \t\r", b" " + json.dumps({**GOOD, "messageId": "n"}).encode() + b"\r", b"\x0b", b"\xc2\xa0")
    assert done.lines == 3
    assert dict(done.accepted.select("message_id", "line").iter_rows()) == {"m": 2, "n": 4}
    assert done.rejected.select("line", "raw").rows() == [(6, "\xa0")]


@given(
    st.one_of(st.datetimes(timezones=st.just(UTC)), st.datetimes()), st.sampled_from(["milliseconds", "seconds", "microseconds", "minutes"])
)
def test_usual_times_are_read_as_any_others(moment: datetime, precision: str) -> None:
    """What JavaScript and Python write in UTC takes a shorter way to the same time."""
    written = moment.isoformat(timespec=precision)
    texts = pl.Series("text", [written, written.replace("+00:00", "Z"), written[:-1], f"{written}0"])
    assert_frame_equal(read_times(texts).to_frame(), texts.to_frame().select(parse_time("text").alias("text")))


@pytest.mark.parametrize(
    "text",
    ["2026-02-29T10:00:00Z", "2026-01-10T24:00:00.000Z", "2026-01-10T23:59:60Z", "2026-01-10T10:60:00Z", "0999-01-01T00:00:00Z", "é"],
)
def test_times_that_are_none_are_none(text: str) -> None:
    """The shorter way takes no more than the longer one does."""
    texts = pl.Series("text", [text])
    assert_frame_equal(read_times(texts).to_frame(), texts.to_frame().select(parse_time("text").alias("text")))


WAREHOUSES = {
    "2026-01-10 10:00:00 UTC": "10:00:00",
    "2026-01-10 10:00:00.123456 UTC": "10:00:00.123456",
    "2026-01-10T10:00:00 gmt": "10:00:00",
    "2026-01-10 10:00:00UTC": "10:00:00",
    "2026-01-10 10:00:00 Z": "10:00:00",
    "2026-01-10 10:00:00+00": "10:00:00",
    "2026-01-10 10:00:00.5 +0000": "10:00:00.500000",
    "2026-01-10 10:00:00 -0330": "13:30:00",
    "2026-01-10 23:59:00+14:00": "09:59:00",
    "2026-01-10": "00:00:00",
}
NO_TIMES = (
    *(
        f"2026-01-10T10:00:00{offset}"
        for offset in ("+99:99", "+24:00", "-12:75", "+0060", "+14:01", "-15", "-14:30", "+5", "UTC+1", " CET", "+٠٢:00", "+0२")
    ),
    *("UTC", "2026-01-10 10:00:00 UTC UTC", "1999-12-31T23:59:59.999Z", "1970-01-01T00:00:00Z", "2000-01-01T00:00:00+00:01", "1768039200"),
)


@pytest.mark.parametrize(("text", "expected"), WAREHOUSES.items())
def test_times_are_read_as_warehouses_write_them(text: str, expected: str) -> None:
    """BigQuery, Snowflake, Redshift and Postgres: a zone's name, a short offset, a blank before it."""
    timestamps = ingested({**GOOD, "timestamp": text}).accepted["timestamp"]
    assert timestamps.to_list() == [datetime.fromisoformat(f"2026-01-10T{expected}+00:00")]


@pytest.mark.parametrize("text", NO_TIMES)
def test_offsets_that_no_clock_has_and_clocks_that_were_never_set_are_bad_timestamps(text: str) -> None:
    """Beyond 14 hours, of 60 minutes and more, before the year 2000; the first moment of that year is one."""
    done = ingested({**GOOD, "timestamp": text}, {**GOOD, "messageId": "n", "timestamp": "2000-01-01T00:00:00Z"})
    assert done.rejected["reason"].to_list() == ["bad_timestamp"]
    assert done.accepted["message_id"].to_list() == ["n"]


def test_a_clock_that_was_never_set_is_corrected_or_refused() -> None:
    """Both of its times are of 1970, and the delay between them is right; what is corrected to before 2000 is refused."""
    device = {**GOOD, "timestamp": None, "originalTimestamp": "1970-01-01T00:00:10Z", "sentAt": "1970-01-01T00:00:40Z"}
    done = ingested({**device, "receivedAt": "2026-01-10T10:00:00Z"}, {**device, "messageId": "n", "receivedAt": "1970-01-01T00:01:00Z"})
    assert done.accepted["timestamp"].to_list() == [datetime(2026, 1, 10, 9, 59, 30, tzinfo=UTC)]
    assert done.rejected["reason"].to_list() == ["bad_timestamp"]


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    """In documents, names, ids, events and fields nobody knows, among bad lines; whole pairs and backslashes stay. It is counted."""
    half, other = "\ud83d", "\ude00"
    lines = (
        {**GOOD, "messageId": "1", "properties": {"revenue": 20, "title": f"Mug {half}", "n": {other: [half]}}},
        {**GOOD, "messageId": f"2{half}", "userId": f"u{other}", "event": half},
        {**GOOD, "messageId": "3", half: other, "name": 1},
        {**GOOD, "messageId": "4", "properties": {"a": f"\U0001f600 \\ud83d {half}A {half}{half}{other} {other}{half}"}},
        {**GOOD, "messageId": "5", "event": {half: 1}, "type": "page"},
        {**GOOD, "messageId": "6", "properties": {"a": "\U0001f600 \\ud83d"}},
        json.dumps({**GOOD, "name": half}).encode()[:-1],
        json.dumps({**GOOD, "userId": "@"}).encode().replace(b"@", b"\xed\xa0\x80"),
    )
    done = ingested(*lines)
    rows = {row["message_id"]: row for row in done.accepted.iter_rows(named=True)}
    assert sorted(rows) == ["1", "2\ufffd", "3", "4", "5", "6"]
    assert json.loads(rows["1"]["properties"]) == {"revenue": 20, "title": "Mug \ufffd", "n": {"\ufffd": ["\ufffd"]}}
    assert (rows["2\ufffd"]["user_id"], rows["2\ufffd"]["event"]) == ("u\ufffd", "\ufffd")
    assert json.loads(rows["3"]["extra"]) == {"\ufffd": "\ufffd", "name": 1}
    assert json.loads(rows["4"]["properties"]) == {"a": "\U0001f600 \\ud83d \ufffdA \ufffd\U0001f600 \ufffd\ufffd"}
    assert json.loads(rows["6"]["properties"]) == {"a": "\U0001f600 \\ud83d"}
    assert done.rejected["reason"].to_list() == ["malformed_json", "malformed_json"]
    assert done.mended == 5


def test_a_whole_number_with_a_point_is_the_same_id() -> None:
    """As pandas writes integers beside nulls; zeros identify nobody, and what is no whole number stays as it is."""
    users = (42, 42.0, "42", 4.2e1, 1.5, 0.0, 1e300)
    done = ingested(*({**GOOD, "messageId": f"{number}", "userId": user} for number, user in enumerate(users)))
    assert done.accepted.sort("message_id")["user_id"].to_list() == ["42", "42", "42", "42", "1.5", "1e300"]
    assert done.rejected["reason"].to_list() == ["missing_identity"]


def test_short_lines_are_parked_by_how_many_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of a rejected line takes memory though the line has one character: rejects are held no longer than events."""
    monkeypatch.setattr(ingesting, "HELD", 1000 * ingesting.ROW)
    blocks = [[Lines("a.ndjson", 1 + first, b"x\n" * 100)] for first in range(0, 2500, 100)]
    parked: list[int] = []
    with Spill(tmp_path) as spill:
        done = ingest(
            blocks,
            pl.Series(dtype=pl.String),
            arrival=TODAY,
            timezone="UTC",
            park=lambda table: (parked.append(table.height), spill.park(table))[1],
        )
        assert done.rejected.collect()["line"].to_list() == list(range(1, 2501))
        assert done.accepted.collect().is_empty()
    assert (done.lines, done.duplicates, max(parked)) == (2500, 0, 1000)


# --- A day as files, and as one that is too large ---------------------------------------------------------------------


def land(folder: Path, name: str, data: bytes) -> None:
    """Write a file of the day."""
    path = folder / str(TODAY) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def read(folder: Path) -> Ingested:
    """Ingest the files of the day."""
    return ingest(LandingZone(root=str(folder)).read(TODAY), pl.Series(dtype=pl.String), arrival=TODAY, timezone="Europe/Berlin")


def test_a_file_is_the_same_in_every_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain, .gz, .zst and Parquet, read in pieces smaller than a line: the same events at the same lines."""
    monkeypatch.setattr("resources.storage.landing.BLOCK", 50)
    monkeypatch.setattr("resources.storage.parquet.ROWS", 2)
    lines = [{**GOOD, "messageId": f"m{number}", "properties": {"n": number}, "context": {"timezone": "Asia/Tokyo"}} for number in range(7)]
    data = b"\xef\xbb\xbf" + "\n".join(json.dumps(line, separators=(",", ":")) for line in lines).encode()
    packed = {
        "plain.ndjson": data,
        "gz.jsonl.gz": gzip.compress(data),
        "zst.ndjson.zst": zstandard.compress(data[:200]) + zstandard.compress(data[200:]),
    }
    tables = []
    for name, content in packed.items():
        land(tmp_path / name, name, content)
        tables.append(read(tmp_path / name).accepted.drop("source_file"))
    (tmp_path / "parquet" / str(TODAY)).mkdir(parents=True)
    pl.DataFrame(lines).write_parquet(tmp_path / "parquet" / str(TODAY) / "p.parquet")
    tables.append(read(tmp_path / "parquet").accepted.drop("source_file"))
    for table in tables[1:]:
        assert_frame_equal(table, tables[0])
    assert tables[0]["line"].to_list() == [1, 2, 3, 4, 5, 6, 7]


def test_parquet_of_a_warehouse_is_read_in_each_of_its_shapes(tmp_path: Path) -> None:
    """Documents as structures, as JSON text or as ``context_*`` columns; typed columns; columns nobody knows."""
    at = datetime(2026, 1, 10, 10, tzinfo=UTC)
    common = {"type": "track", "event": "E", "user_id": 7, "timestamp": at}
    shapes = {
        "structures": {"message_id": "1", "properties": {"n": 1}, "context": {"timezone": "Asia/Tokyo"}},
        "texts": {"message_id": "2", "properties": '{"n":\n 1}', "context": '{"timezone":"Asia/Tokyo"}', "uuid_ts": at, "raw": b"/w=="},
        "columns": {"message_id": "3", "properties": "none", "context_timezone": "Asia/Tokyo", "revenue": 1.5, "on": date(2026, 1, 1)},
    }
    (tmp_path / str(TODAY)).mkdir()
    for name, row in shapes.items():
        pl.DataFrame([common | row]).write_parquet(tmp_path / str(TODAY) / f"{name}.parquet")
    done = read(tmp_path)
    assert done.rejected.is_empty()
    assert [json.loads(text) for text in done.accepted["context"]] == [{"timezone": "Asia/Tokyo"}] * 3
    assert [json.loads(text) for text in done.accepted["properties"]] == [{"n": 1}, {"n": 1}, "none"]
    assert set(done.accepted["timestamp"]) == {at}
    extra = [None if text is None else json.loads(text) for text in done.accepted["extra"]]
    assert extra == [None, {"raw": "/w==", "uuid_ts": "2026-01-10T10:00:00.000000+00:00"}, {"on": "2026-01-01", "revenue": 1.5}]


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst", "a.parquet"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    """Whatever was read of it before, the day stops with the file's path."""
    (tmp_path / "whole.parquet").parent.mkdir(exist_ok=True)
    pl.DataFrame([GOOD] * 50).write_parquet(tmp_path / "whole.parquet")
    data = json.dumps(GOOD).encode() * 50
    whole = {"gz": gzip.compress(data), "zst": zstandard.compress(data), "parquet": (tmp_path / "whole.parquet").read_bytes()}
    packed = whole[name.rpartition(".")[2]]
    for kept in (len(packed) - 4, len(packed) // 2):
        land(tmp_path, name, packed[:kept])
        with pytest.raises(UnreadableFileError, match=name):
            read(tmp_path)


def drawn(chance: random.Random, number: int) -> list[bytes]:
    """Return well-formed lines, with repeated ids."""
    kinds = [{"type": kind, "event": "Order Completed"} for kind in TYPES]
    return [
        json.dumps(
            {
                **GOOD,
                **chance.choice(kinds),
                "messageId": f"m{chance.randrange(number)}",
                "userId": f"u{chance.randrange(20)}",
                "timestamp": f"2026-01-10T10:{chance.randrange(60):02}:00Z",
                "properties": {"revenue": chance.random() * 100, "products": [{"category": "tea", "price": 3, "quantity": 2}]},
                "traits": {"city": "Köln"},
                "context": {"timezone": "Europe/Berlin"},
            }
        ).encode()
        for _ in range(number)
    ]


def test_a_day_larger_than_memory_is_the_same_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parked in many runs and merged by ranges: the same events and duplicates as at once, and no more bytes in flight at a time."""
    chance = random.Random(4)  # noqa: S311
    blocks = [block(*drawn(chance, 40), b"{", first=number * 100) for number in range(50)]
    recent = pl.Series([f"m{number}" for number in range(5)])
    at_once = ingest(blocks, recent, arrival=TODAY, timezone="Europe/Berlin")
    monkeypatch.setattr(ingesting, "HELD", 4 * len(blocks[0][0].data))
    monkeypatch.setattr(ingesting, "STEP", 2_000)
    monkeypatch.setattr(ingesting, "RANGE", 4)
    merged: list[int] = []
    settle = ingesting._settle
    monkeypatch.setattr(ingesting, "_settle", lambda fit, seen: (merged.append(fit.height), settle(fit, seen))[1])
    parked: list[int] = []
    with Spill(tmp_path) as spill:
        done = ingest(
            blocks, recent, arrival=TODAY, timezone="Europe/Berlin", park=lambda table: (parked.append(table.height), spill.park(table))[1]
        )
        assert isinstance(done.accepted, pl.LazyFrame)
        for _ in range(2):  # counted anew whenever it is read
            assert_frame_equal(done.accepted.collect(), at_once.accepted)
            assert (done.lines, done.duplicates) == (at_once.lines, at_once.duplicates)
        assert_frame_equal(done.rejected.collect(), at_once.rejected)
        assert done.accepted.head(3).collect().height == 3
    assert max(parked) <= 5 * 41
    assert max(merged) <= 5 * 41
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("held", [2**30, 1])
def test_a_line_that_is_lost_is_no_duplicate(held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours, in memory or beside it: an accepted line that is dropped on the way is missing in the account."""
    settle = ingesting._settle
    monkeypatch.setattr(ingesting, "HELD", held)
    monkeypatch.setattr(ingesting, "_settle", lambda fit, seen: settle(fit, seen).head(-1))
    blocks = [block(*drawn(random.Random(5), 10), first=number * 100) for number in range(3)]  # noqa: S311
    with Spill(tmp_path) as spill:
        done = ingest(blocks, pl.Series(["m1"]), arrival=TODAY, timezone="Europe/Berlin", park=spill.park)
        accepted = done.accepted.lazy().collect().height
        assert done.lines > accepted + done.rejected.lazy().collect().height + done.duplicates


def test_what_a_killed_run_has_parked_is_removed_by_the_next(tmp_path: Path) -> None:
    """Its folder is there and nobody holds its lock; that of a run at work is left alone."""
    (tmp_path / ".spill-killed").mkdir()
    (tmp_path / ".spill-killed" / "0.parquet").touch()
    with Spill(tmp_path) as working:
        rows = working.park(pl.DataFrame({"a": [1]}))
        with Spill(tmp_path):
            assert rows.collect().height == 1
        assert len(list(tmp_path.iterdir())) == 1
        working.clear()
        assert not list(tmp_path.rglob("*.parquet"))


# --- Anything at all --------------------------------------------------------------------------------------------------

NASTY = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\r", b"\x0b", b"\t", b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"-",
    b"1e999", b"-0", b"9" * 5000, b"NaN", b"Infinity", b"null", b"true", b"[" * 2000, b'{"a":' * 2000, b'"userId":{},', b'"type":[1],',
    b'"timestamp":1e300,', b'"properties":"[[[",', b'"user_id":null,', b'"messageId":"",', "\U0001f600".encode(), b"\xef\xbb\xbf",
)  # fmt: skip


def mutate(chance: random.Random, line: bytes) -> bytes:
    """Change a line somewhere: bytes lost, replaced, put in, doubled, or another line's end."""
    for _ in range(chance.randrange(1, 4)):
        at, until = sorted(chance.randrange(len(line) + 1) for _ in range(2))
        match chance.randrange(6):
            case 0:
                line = line[:at] + line[min(until, at + 9) :]
            case 1:
                line = line[:at] + bytes([chance.randrange(256)]) + line[at + 1 :]
            case 2 | 3:
                line = line[:at] + chance.choice(NASTY) + line[at:]
            case 4:
                line = line[:until] + line[at:]
            case _:
                line = chance.choice(NASTY) + line[at:]
    return line.replace(b"\n", b" ")


JOURNEYS = """
version: "1"
calendar: {timezone: Europe/Berlin, starts_on: 2026-01-01}
channels: {email: {consent: opt_in}}
traits:
  orders: {count: Order Completed}
  spend: {sum: revenue, of: Order Completed}
  teas: {sum: price, of: Order Completed, each: products, where: "category = 'tea'"}
  city: {profile: city, type: string}
"""


def test_ten_thousand_mutated_lines_crash_nothing_and_none_is_lost(tmp_path: Path) -> None:
    """Broken JSON, encodings, numbers, nesting: accepted, repeated or rejected with its text, and what is accepted can be rolled up."""
    chance = random.Random(10_000)  # noqa: S311
    lines = [mutate(chance, line) for line in drawn(chance, 10_000)]
    blocks = [block(*lines[at : at + 1000], first=at + 1) for at in range(0, len(lines), 1000)]
    done = ingest(blocks, pl.Series(dtype=pl.String), arrival=TODAY, timezone="Europe/Berlin")
    assert done.lines == sum(bool(line.strip()) for line in lines)
    assert done.lines == done.accepted.height + done.rejected.height + done.duplicates
    assert {row["line"]: row["raw"] for row in done.rejected.iter_rows(named=True)} == {
        number: lines[number - 1].removeprefix(b"\xef\xbb\xbf").decode(errors="replace") for number in done.rejected["line"]
    }
    assert set(done.rejected["reason"]) >= {"malformed_json", "unknown_type", "missing_identity", "missing_event_name", "bad_timestamp"}
    assert done.accepted.height > 500
    for name in ("properties", "traits", "context", "extra"):
        for text in done.accepted[name].drop_nulls():
            assert isinstance(msgspec.json.decode(text, type=msgspec.Raw), msgspec.Raw)
    (tmp_path / "journeys.yaml").write_text(JOURNEYS)
    rolled = roll_up(done.accepted, load_portfolio(tmp_path / "journeys.yaml"), arrival=TODAY).activity
    assert rolled["events"].sum() == done.accepted.height
