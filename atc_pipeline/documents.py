"""JSON objects to typed columns: only the fields that are asked for, each value as it is meant or not at all.

Fields that nobody asks for are skipped while decoding (msgspec, in C): a third of the time of decoding whole objects. A name
with dots reaches into objects, ``shipping.address.city``, unless a field is called exactly so.

What belongs here: decoding, and what counts as a number, a text, a truth value, a date. What does not: which fields.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import isfinite
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl

from atc_pipeline import rules

Field = tuple[str, pl.DataType]
"""Name and type that a field is read as."""


def column(name: str, dtype: pl.DataType) -> str:
    """Name the column of a field read as this type: the same field may be wanted as two."""
    return f"{name}:{dtype}"


def read_fields(texts: pl.Series, wanted: Iterable[Field]) -> list[pl.Series]:
    """Read fields of JSON objects: a column for each wanted; null where missing, of another type, or no object at all."""
    fields = sorted(wanted, key=str)
    keys = _keys(fields)
    decode = _decoder(keys)
    rows = [decode(text) for text in texts] if keys else []
    return _columns(fields, keys, rows)


def read_items(texts: pl.Series, each: str, wanted: Iterable[Field]) -> tuple[pl.Series, pl.Series, list[pl.Series]]:
    """Read fields of the objects in the array ``each`` of JSON objects: row of the text, place in the array, a column for each wanted."""
    fields = sorted(wanted, key=str)
    keys = _keys(fields)
    decode = _item_decoder(each, keys)
    owners: list[int] = []
    places: list[int] = []
    rows: list[msgspec.Struct] = []
    for owner, text in enumerate(texts):
        for place, item in decode(text):
            owners.append(owner)
            places.append(place)
            rows.append(item)
    return pl.Series(owners, dtype=pl.UInt32), pl.Series(places, dtype=pl.Int64), _columns(fields, keys, rows)


def _keys(fields: Sequence[Field]) -> tuple[str, ...]:
    """Name the fields of the object that are needed: a dotted name's own, and the object that it may reach into."""
    return tuple(sorted({key for name, _ in fields for key in (name, name.split(".")[0])}))


def _columns(fields: Sequence[Field], keys: Sequence[str], rows: Sequence[msgspec.Struct]) -> list[pl.Series]:
    values: dict[str, list[object]] = {key: list(map(attrgetter(f"f{number}"), rows)) for number, key in enumerate(keys)}
    for name in {name for name, _ in fields if "." in name}:
        first, *rest = name.split(".")
        values[name] = [_reach(base, rest) if value is None else value for value, base in zip(values[name], values[first], strict=True)]
    return [_typed(column(name, dtype), values[name], dtype) for name, dtype in fields]


def _reach(value: object, path: Sequence[str]) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


@cache
def _struct(keys: tuple[str, ...]) -> Callable[..., msgspec.Struct]:
    names = {f"f{number}": key for number, key in enumerate(keys)}
    return msgspec.defstruct("Fields", [(name, Any, None) for name in names], rename=names if _are_plain(*keys) else None, gc=False)


def _are_plain(*keys: str) -> bool:
    """True where msgspec can name the fields of a struct so: no name is written with an escape in JSON."""
    return not any(character in '"\\' or character < " " for character in "".join(keys))


@cache
def _decoder(keys: tuple[str, ...]) -> Callable[[str | None], msgspec.Struct]:
    struct, is_plain = _struct(keys), _are_plain(*keys)
    decode, nothing = msgspec.json.Decoder(struct).decode, struct()

    def decoded(text: str | None) -> msgspec.Struct:
        if text is None:
            return nothing
        if is_plain:
            try:
                return decode(text)  # type: ignore[no-any-return]
            except (msgspec.DecodeError, RecursionError):
                pass
        document = decode_object(text)
        return struct(*(document.get(key) for key in keys))

    return decoded


@cache
def _item_decoder(each: str, keys: tuple[str, ...]) -> Callable[[str | None], Iterable[tuple[int, msgspec.Struct]]]:
    struct, is_plain = _struct(keys), _are_plain(each, *keys) and "." not in each
    fields = [("items", list[struct] | None, None)]  # type: ignore[valid-type]
    decode = msgspec.json.Decoder(msgspec.defstruct("Items", fields, rename={"items": each} if is_plain else None, gc=False)).decode

    def decoded(text: str | None) -> Iterable[tuple[int, msgspec.Struct]]:
        if text is None:
            return ()
        if is_plain:
            try:
                return enumerate(decode(text).items or ())  # type: ignore[attr-defined]
            except (msgspec.DecodeError, RecursionError):
                pass
        document = decode_object(text)
        array = document.get(each)
        array = _reach(document, each.split(".")) if array is None else array
        found = enumerate(array) if isinstance(array, list) else ()
        return [(place, struct(*(one.get(key) for key in keys))) for place, one in found if isinstance(one, dict)]

    return decoded


_ANY = msgspec.json.Decoder()
_LENIENT = msgspec.json.Decoder(float_hook=float)  # 1e999 is well-formed JSON, but no number of ours


def decode_object(text: str) -> dict[str, Any]:
    """Decode a JSON object; what is no object, or cannot be represented (an integer of 5,000 digits), has no fields."""
    document = _decoded(text)
    if isinstance(document, str):  # warehouse exports store the object as text
        document = _decoded(document)
    return document if isinstance(document, dict) else {}


def _decoded(text: str) -> object:
    for decoder in (_ANY, _LENIENT):
        try:
            return decoder.decode(text)
        except (msgspec.DecodeError, RecursionError):
            continue
    return None


def _typed(name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """Read values as one type; missing and wrongly typed ones are null."""
    if dtype == pl.String():
        try:
            return pl.Series(name, values, dtype=pl.String)  # twice as fast where all are text already
        except TypeError:
            pass
    read = _READERS[type(dtype)]
    series = pl.Series(name, [None if value is None else read(value) for value in values], dtype=_READ_AS.get(type(dtype), dtype))
    return series.str.to_date("%Y-%m-%d", strict=False) if dtype == pl.Date() else series


def _number(value: object) -> float | None:
    # bool is an int in Python, not in JSON
    return round(float(value), 6) if type(value) in (int, float) and abs(value) < rules.LARGEST_VALUE else None  # type: ignore[arg-type]


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, int):  # true and false among them
        return str(value).lower()
    return msgspec.json.encode(value).decode() if isinstance(value, float) and isfinite(value) else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _day(value: object) -> str | None:
    return value[:10] if isinstance(value, str) else None


_READERS: dict[type[pl.DataType], Callable[[object], Any]] = {
    pl.Float64: _number,
    pl.String: _text,
    pl.Boolean: _truth,
    pl.Date: _day,
}
_READ_AS: dict[type[pl.DataType], pl.DataType] = {pl.Date: pl.String()}
