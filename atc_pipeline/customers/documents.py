"""JSON objects to typed columns: only the fields that are asked for, each value as it is meant or not at all.

Fields that nobody asks for are skipped while decoding (msgspec, in C): a third of the time of decoding whole objects. A name
with dots reaches into objects, ``shipping.address.city``, unless a field is called exactly so.

An array or object that was written as text is read as what it says, and so is a number (SPEC 1). What cannot be read is
told, by its shape and not by its value, which may name somebody.

What belongs here: decoding, and what counts as a number, a text, a truth value, a date, a word about consent. What does not:
which fields.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl

from atc_pipeline.rules.numbers import LARGEST_VALUE

Field = tuple[str, pl.DataType]
"""Name and type that a field is read as."""

CONSENT = pl.Int8()
"""Read as this type, a value is a word about consent: 1 grants, 0 withdraws."""


def column(name: str, dtype: pl.DataType) -> str:
    """Name the column of a field read as this type: the same field may be wanted as two."""
    return f"{name}:{dtype}"


def unread(name: str, dtype: pl.DataType) -> str:
    """Name the column that tells of values of a field that cannot be read as this type what they look like.

    It is there only if there is such a value.
    """
    return f"{column(name, dtype)}!"


def read_fields(texts: pl.Series, wanted: Iterable[Field]) -> list[pl.Series]:
    """Read fields of JSON objects: a column for each wanted; null where missing, of another type, or no object at all.

    Beside it, where there is a value of another type, a column that tells what it looks like (``unread``).
    """
    fields = sorted(wanted, key=str)
    keys = _keys(fields)
    decode = _decoder(keys)
    rows = [decode(text) for text in texts] if keys else []
    return _columns(fields, keys, rows)


@dataclass(frozen=True)
class Items:
    """The items of an array in some texts: row of the text, place in the array, and columns as of ``read_fields``.

    ``unread``: row of the text and shape of what is no item that could be read, or no array.
    """

    owners: pl.Series
    places: pl.Series
    columns: list[pl.Series]
    unread: list[tuple[int, str]]


def read_items(texts: pl.Series, each: str, wanted: Iterable[Field]) -> Items:
    """Read fields of the objects in the array ``each`` of JSON objects."""
    fields = sorted(wanted, key=str)
    keys = _keys(fields)
    decode = _item_decoder(each, keys)
    owners: list[int] = []
    places: list[int] = []
    rows: list[msgspec.Struct] = []
    unread_items: list[tuple[int, str]] = []
    for owner, text in enumerate(texts):
        for place, item in decode(text):
            if isinstance(item, str):
                unread_items.append((owner, item))
                continue
            owners.append(owner)
            places.append(place)
            rows.append(item)
    columns = _columns(fields, keys, rows)
    return Items(pl.Series(owners, dtype=pl.UInt32), pl.Series(places, dtype=pl.Int64), columns, unread_items)


def _keys(fields: Sequence[Field]) -> tuple[str, ...]:
    """Name the fields of the object that are needed: a dotted name's own, and the object that it may reach into."""
    return tuple(sorted({key for name, _ in fields for key in (name, name.split(".")[0])}))


def _columns(fields: Sequence[Field], keys: Sequence[str], rows: Sequence[msgspec.Struct]) -> list[pl.Series]:
    values: dict[str, list[object]] = {key: list(map(attrgetter(f"f{number}"), rows)) for number, key in enumerate(keys)}
    for name in {name for name, _ in fields if "." in name}:
        first, *rest = name.split(".")
        values[name] = [_reach(base, rest) if value is None else value for value, base in zip(values[name], values[first], strict=True)]
    return [series for name, dtype in fields for series in _read_typed(name, values[name], dtype)]


def _reach(value: object, path: Sequence[str]) -> object:
    if value is _UNREADABLE:
        return value
    for key in path:
        value = _open(value)
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _open(value: object) -> object:
    """Return the array or object that a text says, or the value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        document = _decode(value)
        return document if isinstance(document, dict | list) else value
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
    decode, nothing, unreadable = msgspec.json.Decoder(struct).decode, struct(), struct(*[_UNREADABLE] * len(keys))

    def decoded(text: str | None) -> msgspec.Struct:
        if text is None:
            return nothing
        if is_plain:
            try:
                return decode(text)  # type: ignore[no-any-return]
            except (msgspec.DecodeError, RecursionError):
                pass
        document = _object(text)
        return unreadable if document is None else struct(*(document.get(key) for key in keys))

    return decoded


@cache
def _item_decoder(each: str, keys: tuple[str, ...]) -> Callable[[str | None], Iterable[tuple[int, msgspec.Struct | str]]]:
    struct, is_plain = _struct(keys), _are_plain(each, *keys) and "." not in each
    fields = [("items", list[struct] | None, None)]  # type: ignore[valid-type]
    decode = msgspec.json.Decoder(msgspec.defstruct("Items", fields, rename={"items": each} if is_plain else None, gc=False)).decode

    def decoded(text: str | None) -> Iterable[tuple[int, msgspec.Struct | str]]:
        if text is None:
            return ()
        if is_plain:
            try:
                return enumerate(decode(text).items or ())  # type: ignore[attr-defined]
            except (msgspec.DecodeError, RecursionError):
                pass
        document = _object(text)
        if document is None:
            return [(0, _shape(_UNREADABLE))]
        array = document.get(each)
        array = _reach(document, each.split(".")) if array is None else array
        items = _list_items(array)
        if items is None:
            return () if array is None else [(0, f"{_shape(array)} in the place of a list")]
        return [
            (place, struct(*(item.get(key) for key in keys)) if isinstance(item, dict) else f"{_shape(item)} in the place of an object")
            for place, item in enumerate(map(_open, items))
            if item is not None
        ]

    return decoded


def _list_items(value: object) -> Sequence[object] | None:
    """Return the items of an array, of one written as text, or as PHP writes one with a hole: an object of numbered fields."""
    array = _open(value)
    if isinstance(array, dict) and array and all(key.isascii() and key.isdigit() for key in array):
        return [array[key] for key in sorted(array, key=lambda key: (len(key), key))]
    return array if isinstance(array, list) else None


_UNREADABLE: dict[str, Any] = {}
"""Stands, itself and no equal of it, for every field of what is no object."""
_ANY = msgspec.json.Decoder()
_LENIENT = msgspec.json.Decoder(float_hook=float)  # 1e999 is well-formed JSON, but no number of ours


def _object(text: str) -> dict[str, Any] | None:
    """Decode a JSON object, or one written as text, or as PHP writes an empty one; None for anything else."""
    document = _decode(text)
    if isinstance(document, str):  # warehouse exports store the object as text
        document = _decode(document)
    return document if isinstance(document, dict) else {} if document == [] else None


def _decode(text: str) -> object:
    for decoder in (_ANY, _LENIENT):
        try:
            return decoder.decode(text)
        except (msgspec.DecodeError, RecursionError):
            continue
    return None


def _read_typed(name: str, values: list[Any], dtype: pl.DataType) -> Iterable[pl.Series]:
    """Read values as one type; missing and wrongly typed ones are null, and of those that are wrongly typed, the shapes."""
    series = _as_type(column(name, dtype), values, dtype)
    yield series
    if series.null_count() > values.count(None):
        shapes = [None if value is None or is_read else _shape(value) for value, is_read in zip(values, series.is_not_null(), strict=True)]
        yield pl.Series(unread(name, dtype), shapes, dtype=pl.String)


def _as_type(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    if dtype == pl.String():
        try:
            return pl.Series(name, values, dtype=pl.String)  # twice as fast where all are text already
        except TypeError:
            pass
    read = _READERS[type(dtype)]
    series = pl.Series(name, [None if value is None else read(value) for value in values], dtype=_READ_AS.get(type(dtype), dtype))
    return series.str.to_date("%Y-%m-%d", strict=False) if dtype == pl.Date() else series


def _shape(value: object) -> str:
    """Say what a value looks like, and not what it is: it may name somebody, and what is told cannot be taken back."""
    if value is _UNREADABLE:
        return "no object, or one that cannot be read"
    match value:
        case bool():
            return "true or false"
        case str():
            return f"text of {len(value)} characters"
        case list():
            return f"list of {len(value)}"
        case dict():
            return f"object of {len(value)} fields"
    return "number of 1e11 or more" if abs(value) >= LARGEST_VALUE else "number"  # type: ignore[arg-type]


_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)")


def _number(value: object) -> float | None:
    if isinstance(value, str):
        value = float(value) if _DECIMAL.fullmatch(value) else None
    # bool is an int in Python, not in JSON
    return round(float(value), 6) if type(value) in (int, float) and abs(value) < LARGEST_VALUE else None  # type: ignore[arg-type]


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


def _consent(value: object) -> int | None:
    """Read generously against us: what withdraws in any spelling, what grants only exactly (SPEC 3)."""
    if isinstance(value, str):
        return 1 if value == "true" else 0 if value.strip().lower() in _WITHDRAWALS else None
    return int(value) if isinstance(value, int | float) and value in (0, 1) else None


_WITHDRAWALS = ("false", "0", "no", "off")


def spelled_as(texts: pl.Series, names: Sequence[str]) -> pl.Series:
    """Return JSON objects with these fields, words about consent, called so (in lower case) where the case of a name is another.

    If an object has a field twice then, what withdraws counts.
    """
    if not names:
        return texts
    anyhow, exactly = (rf"{how}\b(?:{'|'.join(map(re.escape, names))})\b" for how in ("(?i)", ""))
    odd = (texts.str.count_matches(anyhow) != texts.str.count_matches(exactly)).fill_null(value=False).arg_true()
    if odd.is_empty():
        return texts
    return texts.clone().scatter(odd, [_spelled_as(text, names) for text in texts[odd]])


def _spelled_as(text: str, names: Sequence[str]) -> str:
    document: dict[str, Any] = {}
    for key, value in (_object(text) or {}).items():
        name = key.lower() if key.lower() in names else key
        if name not in document or name not in names or _consent(value) == 0 or _consent(document[name]) is None:
            document[name] = value
    return msgspec.json.encode(document).decode()


_READERS: dict[type[pl.DataType], Callable[[object], Any]] = {
    pl.Float64: _number,
    pl.String: _text,
    pl.Boolean: _truth,
    pl.Date: _day,
    pl.Int8: _consent,
}
_READ_AS: dict[type[pl.DataType], pl.DataType] = {pl.Date: pl.String()}
