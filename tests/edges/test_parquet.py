"""Every type that a column of a Parquet file can have: it means something, nested alike, or the file is refused and the column named."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atc_pipeline.events.ingest import Ingested, ingest
from resources.storage import parquet
from resources.storage.landing import LandingZone, PassedOver, UnreadableFileError
from resources.storage.parquet import RefusedFileError, read_rows

TODAY = date(2026, 1, 10)
AT = datetime(2026, 1, 10, 10)  # noqa: DTZ001  # a zoneless time of a file
UUID = uuid.UUID("12345678-1234-1234-1234-123456789abc")
MONEY = Decimal("19.90")
EXACT = Decimal("12345678901234567890.12")

SIMPLE: dict[str, tuple[pa.Array, Any]] = {
    "null": (pa.nulls(1), None),
    "boolean": (pa.array([True]), True),
    **{
        f"{kind}": (pa.array([7], kind), 7)
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    },
    "largest uint64": (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    "halffloat": (pa.array([1.5], pa.float16()), 1.5),
    "float": (pa.array([19.9], pa.float32()), 19.9),
    "double": (pa.array([19.9]), 19.9),
    "nan": (pa.array([float("nan")]), None),
    **{f"{kind}": (pa.array([MONEY], kind), "19.90") for kind in (pa.decimal32(9, 2), pa.decimal64(18, 2), pa.decimal128(38, 2))},
    "exact decimal": (pa.array([EXACT], pa.decimal128(38, 2)), "12345678901234567890.12"),
    "whole decimal": (pa.array([Decimal(-42)], pa.decimal128(38, 0)), -42),
    **{f"{kind}": (pa.array(["é"], kind), "é") for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{f"{kind}": (pa.array(["é".encode()], kind), "é") for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2))},
    "uuid": (pa.array([UUID.bytes], pa.uuid()), str(UUID)),
    "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}'])), '{"a":1}'),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8())), True),
    **{f"{kind}": (pa.array([TODAY], kind), "2026-01-10") for kind in (pa.date32(), pa.date64())},
    **{f"{kind}": (pa.array([time(10)], kind), "10:00:00") for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))},
    **{
        f"{kind}": (pa.array([AT], kind), AT.replace(tzinfo=UTC if kind.tz else None))
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "Europe/Berlin", "+02:00")
        for kind in [pa.timestamp(unit, zone)]
    },
    **{f"{kind}": (pa.array([timedelta(hours=1)], kind), "PT3600S") for unit in ("s", "ms", "us", "ns") for kind in [pa.duration(unit)]},
    "dictionary": (pa.array(["a"]).dictionary_encode(), "a"),
    "dictionary of decimals": (pa.array([MONEY]).dictionary_encode(), "19.90"),
}
NESTED: dict[str, tuple[Callable[[pa.Array], pa.Array], Callable[[Any], Any]]] = {
    "top": (lambda values: values, lambda value: value),
    "list": (lambda values: pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), values), lambda value: [value]),
    "large list": (lambda values: pa.LargeListArray.from_arrays(pa.array([0, 1]), values), lambda value: [value]),
    "array": (lambda values: pa.FixedSizeListArray.from_arrays(values, 1), lambda value: [value]),
    "struct": (lambda values: pa.StructArray.from_arrays([values], ["x"]), lambda value: {"x": value}),
    "map": (lambda values: pa.MapArray.from_arrays([0, 1], pa.array(["k"]), values), lambda value: {"k": value}),
    "list of structs of lists": (
        lambda values: NESTED["list"][0](NESTED["struct"][0](NESTED["list"][0](values))),
        lambda value: [{"x": [value]}],
    ),
}


def rows(path: Path) -> list[bytes]:
    """Read all rows of a file."""
    return [line for some in read_rows(path, 2**40) for line in some]


def plain(value: Any) -> Any:
    """Read times as times."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if not isinstance(value, str) or not value.startswith("2026-01-10T"):
        return value
    moment = datetime.fromisoformat(value)
    return moment.astimezone(UTC) if moment.tzinfo else moment


@pytest.mark.parametrize("nesting", NESTED)
@pytest.mark.parametrize("name", SIMPLE)
def test_every_type_means_the_same_at_the_top_and_nested(tmp_path: Path, name: str, nesting: str) -> None:
    """A row with a value and one without, of each type that Arrow writes to Parquet."""
    values, meant = SIMPLE[name]
    nest, meant_nested = NESTED[nesting]
    column = pa.concat_arrays([nest(values), pa.nulls(1, nest(values).type)])
    pq.write_table(pa.table({"c": column}), tmp_path / "t.parquet")
    first, *others = rows(tmp_path / "t.parquet")
    is_decimal = "decimal" in name
    read = json.loads(first, parse_float=str) if is_decimal else json.loads(first)
    assert plain(read["c"]) == meant_nested(meant)
    assert [json.loads(line) for line in others] == [{"c": None}]


REFUSED: dict[str, tuple[pa.Array, str]] = {
    **{f"{kind}": (pa.array([MONEY], kind), "column c is of type decimal256") for kind in (pa.decimal256(38, 2), pa.decimal256(60, 2))},
    "bytes": (pa.array([b"\xff\xfe"]), "column c is of type binary"),
    "bytes below": (pa.array([[{"x": b"\xff\xfe"}]]), "column c is of type binary"),
    "fixed bytes": (pa.array([UUID.bytes], pa.binary(16)), "column c is of type binary"),
    "list view": (pa.array([[1]], pa.list_view(pa.int64())), "column c is of type list_view"),
    "list view below": (
        pa.array([{"x": [1]}], pa.struct([("x", pa.large_list_view(pa.int64()))])),
        r"column c\.x is of type large_list_view",
    ),
    "keys that are lists": (pa.array([[([1], 1)]], pa.map_(pa.list_(pa.int64()), pa.int64())), r"column c\.key is of type list"),
    "keys that are times": (pa.array([[(time(1), 1)]], pa.map_(pa.time64("us"), pa.int64())), r"column c\.key is of type time64"),
    "a name twice below": (pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), r"column c\.x is there twice"),
    "a zone of half an hour": (pa.array([AT], pa.timestamp("us", "+05:30")), r"column c is of type timestamp\[us, tz=\+05:30\]"),
    "no zone below": (
        pa.array([[AT]], pa.list_(pa.timestamp("ms", "Mars/Phobos"))),
        r"column c\[\] is of type timestamp\[ms, tz=Mars/Phobos\]",
    ),
    "opaque": (pa.ExtensionArray.from_storage(pa.opaque(pa.int64(), "money", "acme"), pa.array([1])), "column c is of type arrow.opaque"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_type_that_means_nothing_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Before the first row is given out, with the column, its type, and what to do."""
    values, told = REFUSED[name]
    pq.write_table(pa.table({"a": pa.array([1]), "c": values}), tmp_path / "t.parquet")
    with pytest.raises(RefusedFileError, match=told):
        next(read_rows(tmp_path / "t.parquet", 2**40))


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """A join writes them; which of the two was meant, nobody can tell."""
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["userId", "userId"]), tmp_path / "t.parquet")
    with pytest.raises(RefusedFileError, match="column userId is there twice: leave one out"):
        next(read_rows(tmp_path / "t.parquet", 2**40))


def test_what_duckdb_writes_is_read_or_refused(tmp_path: Path) -> None:
    """UUID, DECIMAL, HUGEINT, ENUM, JSON, BIT, TIMESTAMP_NS, MAP without Arrow's word for them; INTERVAL is refused."""
    path = tmp_path / "t.parquet"
    duckdb.sql(
        f"copy (select '{UUID}'::uuid u, 19.90 d, 5::hugeint h, 'a'::enum('a', 'b') e, '{{\"a\":1}}'::json properties, '101'::bit b, "
        "timestamp_ns '2026-01-10 10:00:00' t, map{'a': 1.50} m, {'x': [1.50], 'u': uuid '" + str(UUID) + f"'}} s) to '{path}'"
    )
    (line,) = rows(path)
    assert json.loads(line, parse_float=str) == {
        "u": str(UUID), "d": "19.90", "h": "5.0", "e": "a", "properties": {"a": 1}, "b": "101", "t": "2026-01-10T10:00:00.000000000",
        "m": {"a": "1.50"}, "s": {"x": ["1.50"], "u": str(UUID)},
    }  # fmt: skip
    duckdb.sql(f"copy (select interval 1 month as i) to '{path}'")
    with pytest.raises(RefusedFileError, match="column i is of type Interval"):
        next(read_rows(path, 2**40))


def test_what_polars_and_spark_write_is_read_or_refused(tmp_path: Path) -> None:
    """Categories, enumerations, arrays, 96-bit times; an integer of 128 bits is refused."""
    path = tmp_path / "t.parquet"
    frame = pl.DataFrame({"c": ["a", None], "e": ["b", None], "l": [["a"], None]})
    cast = {"c": pl.Categorical, "e": pl.Enum(["a", "b"]), "l": pl.List(pl.Categorical)}
    frame.cast(cast).write_parquet(path)  # type: ignore[arg-type]
    assert [json.loads(line) for line in rows(path)] == [{"c": "a", "e": "b", "l": ["a"]}, {"c": None, "e": None, "l": None}]
    pq.write_table(pa.table({"t": pa.array([AT])}), path, use_deprecated_int96_timestamps=True)
    assert json.loads(rows(path)[0]) == {"t": "2026-01-10T10:00:00.000000"}
    pl.DataFrame({"i": pl.Series([2**100], dtype=pl.Int128)}).write_parquet(path)
    with pytest.raises(RefusedFileError, match="64 bits"):
        next(read_rows(path, 2**40))


def test_columns_of_any_name_are_read(tmp_path: Path) -> None:
    """Also names that look like patterns, or like JSON, on every level."""
    odd = {"^.*$": MONEY, "*": MONEY, 'a"b\\\n': MONEY, "": MONEY}
    pq.write_table(pa.table({name: pa.array([value]) for name, value in odd.items()} | {"s": pa.array([odd])}), tmp_path / "t.parquet")
    read = json.loads(rows(tmp_path / "t.parquet")[0], parse_float=str)
    assert read == {**dict.fromkeys(odd, "19.90"), "s": dict.fromkeys(odd, "19.90")}


@pytest.mark.parametrize("levels", [40, 90, 400])
@pytest.mark.parametrize("kind", ["struct", "list"])
def test_deep_nesting_is_refused_and_the_process_lives(tmp_path: Path, kind: str, levels: int) -> None:
    """Polars ran out of stack at 400."""
    values = pa.array([1])
    for _ in range(levels):
        values = NESTED[kind][0](values)
    pq.write_table(pa.table({"deep": values}), tmp_path / "t.parquet")
    with pytest.raises(RefusedFileError, match="nested more than 32 levels"):
        next(read_rows(tmp_path / "t.parquet", 2**40))


def land(folder: Path, **columns: Any) -> tuple[Ingested, list[PassedOver]]:
    """Ingest one file of tracks of today, of these columns and what they lack."""
    length = len(next(iter(columns.values())))
    missing = {"type": ["track"] * length, "event": ["E"] * length, "timestamp": ["2026-01-10T10:00:00Z"] * length}
    (folder / str(TODAY)).mkdir(exist_ok=True)
    pq.write_table(pa.table(missing | columns), folder / str(TODAY) / "t.parquet")
    refused: list[PassedOver] = []
    blocks = LandingZone(root=str(folder)).read(TODAY, refused)
    return ingest(blocks, pl.Series(dtype=pl.String), arrival=TODAY, timezone="UTC"), refused


def test_ids_are_the_same_whatever_they_are_written_as(tmp_path: Path) -> None:
    """Integers, floats beside nulls, decimals with and without places, UUIDs; what is no whole number stays what it is."""
    for name, values in {
        "integers": pa.array([42, None]),
        "floats": pa.array([42.0, None]),
        "single floats": pa.array([42.0, None], pa.float32()),
        "decimals": pa.array([Decimal("42.000"), None], pa.decimal128(18, 3)),
        "texts": pa.array(["42", None]),
        "bytes": pa.array([b"42", None]),
    }.items():
        for column in ("userId", "user_id"):
            done, refused = land(tmp_path, **{column: values, "anonymousId": pa.array([None, 7.0])})
            assert done.accepted.sort("line")["user_id"].to_list() == ["42", None], name
            assert done.accepted.sort("line")["anonymous_id"].to_list() == [None, "7"], name
            assert not refused
    done, _ = land(tmp_path, userId=pa.array([Decimal("12345678901234567890123456.0"), Decimal("1.5")], pa.decimal128(38, 1)))
    assert sorted(done.accepted["user_id"]) == ["1.5", "12345678901234567890123456"]
    done, _ = land(tmp_path, userId=pa.array([UUID.bytes], pa.uuid()), messageId=pa.array([UUID.bytes], pa.uuid()))
    assert done.accepted.select("user_id", "message_id").row(0) == (str(UUID), str(UUID))


def test_a_refused_file_is_told_and_the_day_goes_on(tmp_path: Path) -> None:
    """Nothing of it is read, as it is refused before its first row; a damaged one stops the day."""
    (tmp_path / str(TODAY)).mkdir()
    line = b'{"type": "page", "userId": "u", "timestamp": "2026-01-10T10:00:00Z"}\n'
    (tmp_path / str(TODAY) / "z.ndjson").write_bytes(line)
    done, (refused,) = land(tmp_path, userId=["a"] * 40, blob=pa.array([b"text"] * 39 + [b"\xff"]))
    assert (done.lines, done.accepted["user_id"].to_list()) == (1, ["u"])
    assert refused.name == f"{TODAY}/t.parquet"
    assert "column blob is of type binary" in refused.why
    path = tmp_path / str(TODAY) / "t.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnreadableFileError, match=r"t\.parquet.*Is its upload complete"):
        list(LandingZone(root=str(tmp_path)).read(TODAY))


def test_how_many_rows_are_read_at_a_time_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows and by bytes, over row groups; a text that is too large among others is cut, and its row is a line that is too large."""
    texts = ["x" * size for size in (0, 10, 70_000, 40_000, 5, 33_000, 0, 1)]
    columns = {"userId": [f"u{number}" for number in range(8)], "properties": [{"t": text, "d": MONEY} for text in texts]}
    (tmp_path / str(TODAY)).mkdir()
    done, _ = land(tmp_path, **columns)
    assert done.rejected.select("line", "reason").rows() == [(line, "too_large") for line in (3, 4, 6)]
    assert done.accepted.sort("line")["line"].to_list() == [1, 2, 5, 7, 8]
    for rows_, block in ((1, 2**24), (3, 100), (5, 50_000)):
        monkeypatch.setattr(parquet, "ROWS", rows_)
        monkeypatch.setattr(parquet, "BLOCK", block)
        again, _ = land(tmp_path, **columns)
        assert again.accepted.equals(done.accepted)
        assert again.rejected.equals(done.rejected)


def test_rows_beyond_measure_are_refused_by_what_the_file_says_of_itself(tmp_path: Path) -> None:
    """Ten million of one tiny value are read in passing; lists of a million each are not."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0] * 10**6, pa.int32()), ["v"])}), path)
    assert sum(len(some) for some in read_rows(path, 2**40)) == 10**6
    with pytest.raises(RefusedFileError, match="unpack to more than"):
        next(read_rows(path, 2**20))
    pq.write_table(pa.table({"a": pa.array([[0] * 10**6])}), path)
    with pytest.raises(RefusedFileError, match="unpack to more than"):
        next(read_rows(path, 10**7))
