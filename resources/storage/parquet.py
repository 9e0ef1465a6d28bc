"""Parquet files as the JSON lines they stand for: what each type of a column means, or that it means nothing here.

What belongs here: types, and how many rows are read at a time. What does not: which files there are (``landing``), and what a
line means (``atc_pipeline.events.ingest``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from zoneinfo import available_timezones

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.datatypes import DataTypeClass

from atc_pipeline.events.lines import without_lone_surrogates

BLOCK = 16 * 2**20
"""Bytes that the rows read, or written, at a time take, but for a row that takes more by itself."""
ROWS = 2**14
"""Rows that are read at a time, at the most."""
DEEPEST = 32
"""Levels of nesting: events have some six; Polars runs out of stack, and the process with it, somewhere between 100 and 400."""
LEAST_ROW = 256
"""Bytes that a row counts for at least, where a file is held against the most that it may unpack to."""
LEAST_VALUE = 16
"""Bytes of memory that a value of a list takes at least, however small it is packed."""
LONG = 2**16
"""Bytes of text from which on a row is cut before it is written: it is twice too large for a line."""

Type = pl.DataType | DataTypeClass
"""As Polars types its own nested types."""

IDS = ("messageId", "userId", "anonymousId", "previousId", "message_id", "user_id", "anonymous_id", "previous_id")
DOCUMENTS = ("properties", "traits", "context")

_PARQUET_TYPES = ("None", "String", "Enum", "JSON", "UUID", "Decimal", "Date", "Time", "Timestamp", "Int", "Null", "Float16")
"""What columns of the format may be; the others are Interval, BSON, Variant, Geometry and Geography."""
_EXTENSIONS = {"arrow.uuid", "arrow.json", "arrow.bool8"}
_ZONES = {None, *available_timezones(), *(f"{hours:+03}:00" for hours in range(-12, 15))}
"""Time zones that Polars knows; with any other it panics."""
_MARK = "\x01"
"""Begins the text of a decimal number on its way into JSON: Polars would leave it a text, or make it a double."""
_MARKED = r'"\\u0001(-?[0-9]+(?:\.[0-9]+)?)"'


class RefusedFileError(Exception):
    """A file is whole, but not one that can be read here."""


def read_rows(path: Path, largest: int) -> Iterator[list[bytes]]:
    """Yield the rows of a file as JSON, some at a time.

    Raises RefusedFileError before the first row where the file is nested too deeply, unpacks to more than ``largest`` bytes,
    or has a column whose type means nothing here, or whose bytes are no text: the column is named.
    """
    schema, metadata = _open(path)
    _check_names(schema.names, "column ")
    for field in schema:
        _check(field.type, field.name, 1)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    if sum(map(_weight, groups)) > largest:
        raise RefusedFileError(
            f"{metadata.num_rows:,} rows unpack to more than {largest:,} bytes from {path.stat().st_size:,}: split it, if that is right"
        )
    table = pl.scan_parquet(path.absolute(), hive_partitioning=False, glob=False)
    try:  # no row is read yet: whatever fails here is about types, not about damage
        dtypes = table.collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as problem:
        raise _unreadable(problem) from problem
    columns = [
        replace(_column(pl.nth(at), field.type, dtypes[field.name], is_id=field.name in IDS), name=field.name)
        for at, field in enumerate(schema)
    ]
    stretches = list(_stretches(groups))
    _check_bytes(table, [column for column in columns if column.is_bytes], stretches)
    for first, number in stretches:
        rows = table.slice(first, number).collect().select(column.value.alias(column.name) for column in columns)
        yield from _lines(rows, has_decimals=any(column.is_decimal for column in columns))


def _open(path: Path) -> tuple[pa.Schema, pq.FileMetaData]:
    """Read what the file says of itself. PyArrow counts levels before it goes down, where Polars does not."""
    with path.open("rb") as file:
        try:
            opened = pq.ParquetFile(file)
            schema = opened.schema_arrow
        except pa.ArrowNotImplementedError as problem:
            raise _unreadable(problem) from problem
        except OSError as problem:
            if "too deeply nested" in str(problem):
                raise _too_deep("a column") from problem
            raise
        if not opened.schema:
            raise RefusedFileError("it has no columns")
        for column in map(opened.schema.column, range(len(opened.schema))):
            kind = "Interval" if column.converted_type == "INTERVAL" else str(column.logical_type).split("(")[0]
            if kind not in _PARQUET_TYPES:
                raise _meaningless(column.path, kind)
        return schema, opened.metadata


def _check(kind: pa.DataType, name: str, level: int) -> None:
    """Raise RefusedFileError where a type, or one nested in it, means nothing here."""
    if level > DEEPEST:
        raise _too_deep(f"column {name.partition('.')[0]}")
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name not in _EXTENSIONS:
            raise _meaningless(name, kind.extension_name)
    elif pa.types.is_decimal(kind):
        if pa.types.is_decimal256(kind):  # more digits than Polars has, at times
            raise _meaningless(name, kind)
    elif pa.types.is_struct(kind):
        _check_names([field.name for field in kind], f"column {name}.")
        for field in kind:
            _check(field.type, f"{name}.{field.name}", level + 1)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        _check(kind.value_type, f"{name}[]", level + 1)
    elif pa.types.is_map(kind):
        if not _is_key(kind.key_type):
            raise _meaningless(f"{name}.key", kind.key_type)
        _check(kind.key_type, f"{name}.key", level + 1)
        _check(kind.item_type, f"{name}.value", level + 1)
    elif pa.types.is_dictionary(kind):
        _check(kind.value_type, name, level + 1)
    elif pa.types.is_timestamp(kind) and kind.tz not in _ZONES:
        raise RefusedFileError(f"column {name} is of type {kind}, a time zone that cannot be read: export it in UTC")
    elif pa.types.is_nested(kind):  # views of lists, unions
        raise _meaningless(name, kind)
    # Every other type of a Parquet file is a number, a truth value, a time, a text or bytes.


def _check_names(names: Sequence[str], prefix: str) -> None:
    """Raise RefusedFileError where two of them are the same: nobody could tell which is meant."""
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise RefusedFileError(f"{prefix}{twice} is there twice: leave one out, or give it another name")


def _is_key(kind: pa.DataType) -> bool:
    """True where a value says something as a name in a JSON object."""
    return not (pa.types.is_nested(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind) or pa.types.is_floating(kind))


def _too_deep(what: str) -> RefusedFileError:
    return RefusedFileError(f"{what} is nested more than {DEEPEST} levels deep: export it flatter, or as JSON text")


def _unreadable(problem: BaseException) -> RefusedFileError:
    return RefusedFileError(f"a column has a type that cannot be read ({problem}): export it as a text or a number")


def _meaningless(name: str, kind: object) -> RefusedFileError:
    return RefusedFileError(f"column {name} is of type {kind}, which means nothing here: export it as a text or a number, or leave it out")


def _weight(group: pq.RowGroupMetaData) -> int:
    """Return about how many bytes of memory the rows of a group take, without having read them."""
    columns = [group.column(number) for number in range(group.num_columns)]
    unpacked: int = sum(column.total_uncompressed_size for column in columns)
    values: int = sum(max(0, column.num_values - group.num_rows) for column in columns)
    rows: int = group.num_rows
    return max(unpacked, rows * LEAST_ROW) + values * LEAST_VALUE


def _stretches(groups: Sequence[pq.RowGroupMetaData]) -> Iterator[tuple[int, int]]:
    """Divide the rows into those that are read at a time: the first, and how many."""
    start = 0
    for group in groups:
        step = max(1, min(ROWS, BLOCK * group.num_rows // max(1, _weight(group))))
        for first in range(0, group.num_rows, step):
            yield start + first, min(step, group.num_rows - first)
        start += group.num_rows


def _check_bytes(table: pl.LazyFrame, columns: Sequence["_Column"], stretches: Sequence[tuple[int, int]]) -> None:
    """Raise RefusedFileError where bytes are no UTF-8. All of them are looked at first: a file is read whole, or not at all."""
    for column in columns:
        for first, number in stretches:
            try:
                table.select(column.value).slice(first, number).collect()
            except pl.exceptions.PolarsError as problem:
                raise _meaningless(column.name, "binary, and not all of it UTF-8") from problem


@dataclass(frozen=True)
class _Column:
    """What a column means: its values as JSON can have them, and their type; whether bytes or decimals are among them."""

    value: pl.Expr
    dtype: Type
    is_bytes: bool = False
    is_decimal: bool = False
    is_same: bool = False
    name: str = ""

    def within(self, value: pl.Expr, dtype: Type) -> "_Column":
        return _Column(value, dtype, self.is_bytes, self.is_decimal)


def _column(value: pl.Expr, kind: pa.DataType, dtype: Type, *, is_id: bool = False) -> _Column:
    """Tell what a column means: times as ISO 8601, without a zone = UTC; decimals as numbers, digit by digit."""
    match dtype:
        case pl.Binary() if isinstance(kind, pa.UuidType):
            digits = value.bin.encode("hex")
            parts = [digits.str.slice(first, length) for first, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
            return _Column(pl.concat_str(parts, separator="-"), pl.String())
        case pl.Binary():
            return _Column(value.cast(pl.String), pl.String(), is_bytes=True)
        case pl.Decimal():
            digits = value.cast(pl.String)
            whole = digits.str.replace(r"\.0+$", "") if is_id else digits
            return _Column(pl.concat_str(pl.lit(_MARK), whole), pl.String(), is_decimal=True)
        case pl.Datetime():
            is_date = pa.types.is_date(kind)  # of a date in milliseconds Polars makes a time
            return _Column(value.cast(pl.Date), pl.Date()) if is_date else _Column(value.dt.to_string("iso:strict"), pl.String())
        case pl.Categorical() | pl.Enum():
            # A cast would write out every one of them: 16 GB for a text of a megabyte in 16,384 rows.
            return _Column(value.cat.slice(0), pl.String())
        case pl.List():
            inner = _column(pl.element(), kind.value_type, dtype.inner)
            return _same(value, dtype) if inner.is_same else inner.within(value.list.eval(inner.value), pl.List(inner.dtype))
        case pl.Array():
            return _column(value.arr.to_list(), kind, pl.List(dtype.inner))
        case pl.Struct():
            return _structure(value, kind, dtype)
        case pl.Map():
            return _map(value, kind, dtype)
        case pl.BaseExtension():
            storage = value.ext.storage()
            return _Column(storage.cast(pl.Boolean), pl.Boolean()) if dtype.ext_name() == "arrow.bool8" else _Column(storage, pl.String())
        case _:
            return _same(value, dtype)


def _same(value: pl.Expr, dtype: Type) -> _Column:
    return _Column(value, dtype, is_same=True)


def _structure(value: pl.Expr, kind: pa.StructType, dtype: pl.Struct) -> _Column:
    fields = [_column(field_value, kind.field(at).type, field.dtype) for at, (field_value, field) in enumerate(_fields(value, dtype))]
    if all(field.is_same for field in fields):
        return _same(value, dtype)
    names = [field.name for field in dtype.fields]
    built = pl.struct(field.value.alias(name) for name, field in zip(names, fields, strict=True))
    return _Column(
        pl.when(value.is_not_null()).then(built),
        pl.Struct([pl.Field(name, field.dtype) for name, field in zip(names, fields, strict=True)]),
        is_bytes=any(field.is_bytes for field in fields),
        is_decimal=any(field.is_decimal for field in fields),
    )


def _fields(value: pl.Expr, dtype: pl.Struct) -> Iterator[tuple[pl.Expr, pl.Field]]:
    """Return the fields of a structure, whatever they are called: Polars takes some names for patterns."""
    numbered = value.struct.rename_fields([str(at) for at in range(len(dtype.fields))])
    return ((numbered.struct.field(str(at)), field) for at, field in enumerate(dtype.fields))


def _map(value: pl.Expr, kind: pa.MapType, dtype: pl.Map) -> _Column:
    key, inner = (
        _column(pl.element().struct[at], type_, nested)
        for at, type_, nested in ((0, kind.key_type, dtype.key), (1, kind.item_type, dtype.value))
    )
    name = key.value.cast(pl.String).str.strip_prefix(_MARK)
    entries = value.map.entries().list.eval(pl.struct(name.alias("key"), inner.value.alias("value")))
    made = pl.Map(pl.String(), inner.dtype)
    return _Column(entries.cast(made), made, is_bytes=key.is_bytes or inner.is_bytes, is_decimal=inner.is_decimal)


def _lines(rows: pl.DataFrame, *, has_decimals: bool) -> Iterator[list[bytes]]:
    """Write rows as JSON, as many at a time as have ``BLOCK`` bytes of text.

    Columns ``context_*`` are one object, as they were before a warehouse made columns of it, unless there is a ``context``.
    """
    flat = [name for name in rows.columns if name.startswith("context_")]
    if flat and "context" not in rows.columns:
        context = pl.struct(pl.col(name).alias(name.removeprefix("context_")) for name in flat)
        rows = rows.with_columns(context=context).drop(flat)
    sizes = rows.select(pl.sum_horizontal(_size(pl.nth(at), dtype) for at, dtype in enumerate(rows.dtypes)).alias("size"))["size"]
    part = (sizes.cum_sum() - 1) // BLOCK
    starts = [*(part != part.shift(fill_value=-1)).arg_true(), rows.height]
    for first, until in pairwise(starts):
        piece = rows.slice(first, until - first)
        if (sizes.slice(first, until - first) > LONG).any():
            texts = [pl.nth(at) for at, dtype in enumerate(rows.dtypes) if dtype == pl.String]
            piece = piece.with_columns(pl.when(text.str.len_bytes() > LONG).then(text.str.head(LONG)).otherwise(text) for text in texts)
        yield [line.encode() for line in _written(piece, has_decimals=has_decimals)]


def _size(value: pl.Expr, dtype: Type) -> pl.Expr:
    """Return the bytes of text in each value, and some for whatever is no text."""
    match dtype:
        case pl.String():
            return value.str.len_bytes().cast(pl.Int64).fill_null(0) + LEAST_VALUE
        case pl.List():
            return value.list.eval(_size(pl.element(), dtype.inner)).list.sum().cast(pl.Int64).fill_null(0) + LEAST_VALUE
        case pl.Struct():
            return pl.sum_horizontal(_size(field_value, field.dtype) for field_value, field in _fields(value, dtype))
        case pl.Map():
            return _size(value.map.entries(), pl.List(pl.Struct({"key": dtype.key, "value": dtype.value})))
        case _:
            return pl.lit(LEAST_VALUE, pl.Int64)


def _written(rows: pl.DataFrame, *, has_decimals: bool) -> Iterator[str]:
    """Write rows as JSON objects; a document that is JSON text as that document."""
    line = pl.struct(pl.all()).struct.json_encode()
    line = line.str.replace_all(_MARKED, "${1}") if has_decimals else line
    documents = [name for name in DOCUMENTS if rows.schema.get(name) == pl.String]
    for row in rows.select(*documents, line=line).iter_rows():
        # Of two fields with one name the last counts: the document, after the text it is in.
        embedded = [f',"{name}":{text}' for name, text in zip(documents, row[:-1], strict=True) if text is not None and _is_document(text)]
        yield "".join([row[-1][:-1], *(document.replace("\n", " ") for document in embedded), "}"])


def _is_document(text: str) -> bool:
    try:
        return type(msgspec.json.decode(without_lone_surrogates(text.encode()), type=dict[str, msgspec.Raw])) is dict
    except (msgspec.DecodeError, RecursionError):
        return False
