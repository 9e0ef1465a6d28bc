"""Erasing a person: which ids are theirs, and which rows and lines are about them (GDPR article 17).

An event is the person's where it carries their user id, or no user and an anonymous id that is theirs, or names one of their
ids as the previous one. On a shared device that leaves the others' events alone: an event is whose user id it carries.

What belongs here: matching, of rows by their columns and of lines by their fields. What does not: where rows and lines are
kept and how files are rewritten (``resources.traces``), and how the ids are remembered (``resources.tombstones``).
"""

import codecs
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import msgspec
import polars as pl
from polars.datatypes import DataTypeClass

from atc_pipeline import rules

Kind = Literal["theirs", "shared", "elsewhere"]
"""What a row or line has to do with the person: it is about them (and goes), it is somebody else's on a device they shared (and
stays), or it has the same text somewhere else (and somebody must say what that means)."""

FEW = 1000
"""Names up to which Polars can hold their pattern (10 MB compiled); of more, text that has one anywhere is looked at closely."""

_CUSTOMERS = re.compile(r"(.+_)?customer_id|(.+_)?absorbed|(.+_)?survivor")
"""Columns whose text is a customer, in any table: those of today and those to come."""
_FIELDS = {"userId": "user_id", "anonymousId": "anonymous_id", "previousId": "previous_id"}
_BLOCKED = re.compile(rules.BLOCKED_IDENTITY)


@dataclass(frozen=True)
class Person:
    """All ids of one person: as a user, and as an anonymous visitor."""

    users: frozenset[str]
    visitors: frozenset[str] = frozenset()

    @cached_property
    def customers(self) -> frozenset[str]:
        """Every customer id the person has, or ever had."""
        return self.users | {f"{rules.VISITOR}{one}" for one in self.visitors}

    @cached_property
    def names(self) -> frozenset[str]:
        """Every text that stands for the person."""
        return self.customers | self.visitors

    @cached_property
    def fingerprints(self) -> list[str]:
        """SHA-256 of every id, in hexadecimal: enough to know the person again, too little to contact them.

        A visitor's name counts as a user's id too: it may come back as one from where we sent it.
        """
        ids = [f"user:{one}" for one in self.customers] + [f"anonymous:{one}" for one in self.visitors]
        return sorted(hashlib.sha256(one.encode()).hexdigest() for one in ids)

    @cached_property
    def pattern(self) -> str:
        """A regular expression that finds every whole JSON or text value that is a name; it may find a little more."""
        return rf"(?:^|[\"\s:,\[\\])(?:{'|'.join(re.escape(one) for one in sorted(self.names))})(?:$|[\"\s,}}\]\\])"

    @cached_property
    def escapes(self) -> str:
        """A regular expression that finds JSON text in which a name may be spelled otherwise."""
        return (
            r"\\" if any(json_text[1:-1] != one for one in self.names if (json_text := json.dumps(one, ensure_ascii=False))) else r"\\[u/]"
        )


def identify(customer_id: str, identity_map: pl.LazyFrame | None) -> tuple[Person, bool]:
    """Find all ids of a customer, who may be given by an absorbed id too; and whether the map knows them.

    ``identity_map``: of the latest day; None where a lake has none: then the id stands for itself.
    Raises ValueError for an id that identifies nobody.
    """
    visitor = customer_id.removeprefix(rules.VISITOR)
    is_visitor = visitor != customer_id
    if not is_identity(visitor):
        raise ValueError("customer_id identifies nobody: it is blank, null, -1, anonymous, or only zeros and dashes (SPEC 2)")
    own = Person(frozenset(), frozenset({visitor})) if is_visitor else Person(frozenset({customer_id}))
    if identity_map is None:
        return own, False
    is_asked = (pl.col("id_type") == ("anonymous" if is_visitor else "user")) & (pl.col("id") == visitor)
    rows = identity_map.select("id_type", "id", "customer_id")
    asked = rows.filter(is_asked | (pl.col("customer_id") == customer_id)).select("customer_id").unique()
    ids = rows.join(asked, on="customer_id", how="semi").collect()
    users, visitors = (frozenset(ids.filter(pl.col("id_type") == kind)["id"]) for kind in ("user", "anonymous"))
    return Person(own.users | users, own.visitors | visitors), not ids.is_empty()


def is_identity(text: str | None) -> bool:
    """True where the text names somebody; ``rules.is_identity`` for one value."""
    return text is not None and _BLOCKED.fullmatch(text) is None


def is_about(schema: Mapping[str, pl.DataType], person: Person) -> pl.Expr:
    """True for rows about the person, told by the columns a table has; false everywhere in a table without ids."""
    named = [_FIELDS.get(column, column) for column in schema]
    columns = {
        name: pl.col(column).cast(pl.String) for name, column in zip(named, schema, strict=True) if _is_text_or_number(schema[column])
    }
    tests = [column.is_in(sorted(person.customers)) for name, column in columns.items() if _CUSTOMERS.fullmatch(name)]
    if "user_id" in columns:
        tests.append(columns["user_id"].is_in(sorted(person.customers)))
    if "anonymous_id" in columns:
        tests.append(_is_nobody(columns) & columns["anonymous_id"].is_in(sorted(person.visitors)))
    if "previous_id" in columns:
        tests.append(columns["previous_id"].is_in(sorted(person.names)))
    if "id_type" in columns and "id" in columns:
        for kind, ids in (("user", person.users), ("anonymous", person.visitors)):
            tests.append((columns["id_type"] == kind) & columns["id"].is_in(sorted(ids)))
    return pl.any_horizontal(pl.lit(value=False), *(test.fill_null(value=False) for test in tests))


def find_rows(rows: pl.LazyFrame, person: Person) -> pl.DataFrame:
    """One row per row that names the person: ``row`` (from 0), ``kind``, and for ``elsewhere`` the ``column``.

    Text is searched in every column, nested ones included: as the whole text, and as a whole value of the JSON it may hold.
    ``raw`` is a line as it arrived, which ``kind_of_line`` reads.
    """
    schema = rows.collect_schema()
    searched = [name for name, dtype in schema.items() if _holds_text(dtype)]
    may_name = [_may_name(pl.col(name), schema[name], person) for name in searched]
    candidates = (
        rows.select(*dict.fromkeys([*searched, *(name for name, dtype in schema.items() if _is_text_or_number(dtype))]))
        .with_row_index("row:")
        .with_columns(is_about(schema, person).alias("about:"))
        .filter(pl.any_horizontal("about:", *may_name))
        .collect(engine="streaming")
        .sort("row:")
    )
    found: list[tuple[int, Kind, str | None]] = []
    for row in candidates.iter_rows(named=True):
        found += [(row["row:"], kind, column) for kind, column in _kinds_of_row(row, searched, person)]
    return pl.DataFrame(found, schema={"row": pl.UInt32, "kind": pl.String, "column": pl.String}, orient="row")


def find_lines(lines: Iterable[bytes], person: Person) -> pl.DataFrame:
    """One row per line that names the person: ``row`` (from 0) and ``kind``; as ``find_rows``, for JSON lines."""
    raw = list(lines)
    text = pl.Series("text", [line.decode(errors="replace") for line in raw], dtype=pl.String)
    candidates = text.to_frame().select(pl.arg_where(_may_name(pl.col("text"), pl.String(), person))).to_series()
    kinds = [(row, kind) for row in candidates if (kind := kind_of_line(raw[row], person)) is not None]
    return pl.DataFrame(kinds, schema={"row": pl.UInt32, "kind": pl.String}, orient="row")


def kind_of_line(line: bytes, person: Person) -> Kind | None:
    """Read whose line it is; None where it does not name the person. A line that is nobody's is theirs if it names them."""
    try:
        document = _TOP_LEVEL.decode(line.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, RecursionError):
        return "theirs" if re.search(person.pattern, _unescaped(line.decode(errors="replace"))) else None
    user, visitor, previous, customer = (_id(document, names) for names in _IDS)
    if (
        user in person.customers
        or previous in person.names
        or (not is_identity(user) and visitor in person.visitors)
        or (user is visitor is None and customer in person.customers)
    ):
        return "theirs"
    found = {name for key, raw in document.items() for name in (key, *_named(_decoded(bytes(raw)), person)) if name in person.names}
    if not found:
        return None
    if not any(is_identity(one) for one in (user, visitor, customer)):
        return "theirs"
    return "shared" if is_identity(user) and found <= person.visitors else "elsewhere"


def _kinds_of_row(row: Mapping[str, object], searched: list[str], person: Person) -> Iterator[tuple[Kind, str | None]]:
    if row["about:"]:
        yield "theirs", None
        return
    raw = row.get("raw")
    if isinstance(raw, str | bytes) and (kind := kind_of_line(raw.encode() if isinstance(raw, str) else raw, person)) is not None:
        yield kind, None if kind != "elsewhere" else "raw"
        return
    user = row.get("user_id", row.get("userId"))
    is_anothers = is_identity(None if user is None else str(user))
    for column in searched:
        found = set(_named(row[column], person))
        if found:
            is_shared = is_anothers and found <= person.visitors
            yield ("shared", None) if is_shared else ("elsewhere", column)


def _is_nobody(columns: Mapping[str, pl.Expr]) -> pl.Expr:
    user = columns.get("user_id")
    return pl.lit(value=True) if user is None else user.is_null() | user.str.contains(rules.BLOCKED_IDENTITY).fill_null(value=True)


def _is_text_or_number(dtype: pl.DataType) -> bool:
    return dtype == pl.String or dtype.is_integer() or isinstance(dtype, pl.Categorical | pl.Enum)


def _holds_text(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        return _holds_text(_type(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return any(_holds_text(_type(field.dtype)) for field in dtype.fields)
    return isinstance(dtype, pl.String | pl.Binary | pl.Categorical | pl.Enum)


def _type(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _may_name(value: pl.Expr, dtype: pl.DataType, person: Person) -> pl.Expr:
    """True where a value could hold one of the names; what is escaped cannot be excluded without decoding it."""
    if isinstance(dtype, pl.List | pl.Array):
        listed = value.arr.to_list() if isinstance(dtype, pl.Array) else value
        return listed.list.eval(_may_name(pl.element(), _type(dtype.inner), person)).list.any().fill_null(value=False)
    if isinstance(dtype, pl.Struct):
        held = [field for field in dtype.fields if _holds_text(_type(field.dtype))]
        return pl.any_horizontal(_may_name(value.struct.field(field.name), _type(field.dtype), person) for field in held)
    if dtype == pl.Binary:
        return value.is_not_null()
    text = value.cast(pl.String)
    is_few = len(person.names) <= FEW
    named = text.str.contains(person.pattern) if is_few else text.str.contains_any(sorted(person.names))
    return (named | text.str.contains(person.escapes)).fill_null(value=False)


_TOP_LEVEL = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANYTHING = msgspec.json.Decoder(float_hook=str)
_IDS = (("userId", "user_id"), ("anonymousId", "anonymous_id"), ("previousId", "previous_id"), ("customer_id",))


def _id(document: Mapping[str, msgspec.Raw], names: Iterable[str]) -> str | None:
    """Read an id as ingest does: text, or a number written as text."""
    values = (_decoded(bytes(document[name])) for name in names if name in document)
    return next((str(value) for value in values if type(value) in (str, int, float)), None)


def _decoded(text: str | bytes) -> object:
    """Decode JSON; what is none is returned as the text it is."""
    try:
        return _ANYTHING.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text if isinstance(text, str) else text.decode(errors="replace")


def _named(value: object, person: Person) -> Iterator[str]:
    """Yield the names that are whole values anywhere in this one: in lists and objects, and in JSON held as text."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        if value in person.names:
            yield value
        elif value.lstrip()[:1] in tuple('{["'):
            inner = _decoded(value)
            if inner != value:
                yield from _named(inner, person)
            elif re.search(person.pattern, _unescaped(value)):
                yield from person.names  # broken JSON: it cannot be told which
    elif isinstance(value, dict):
        for key, held in value.items():
            yield from _named(key, person)
            yield from _named(held, person)
    elif isinstance(value, list):
        for held in value:
            yield from _named(held, person)
    elif isinstance(value, int | float) and str(value) in person.names:
        yield str(value)


def _unescaped(text: str) -> str:
    """Undo JSON's escapes in text that is no JSON."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda escape: chr(int(escape[1], 16)), text).replace("\\/", "/")
