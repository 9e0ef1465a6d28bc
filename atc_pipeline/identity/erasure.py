"""Erasing a person: which ids are theirs, and which rows and lines are about them (GDPR article 17).

An event is the person's where it carries their user id, or no user and an anonymous id that is theirs, or names one of their
ids as the previous one. On a shared device that leaves the others' events alone: an event is whose user id it carries.

Whoever types an id may type it otherwise: in capitals, with a blank, escaped for an address, in the middle of a sentence. Such text
is found, and never taken for theirs: it is told, and somebody must say what it means.

What belongs here: matching, of rows by their columns and of lines by their fields. What does not: where rows and lines are
kept and how files are rewritten (``resources.erasure.traces``), and how the ids are remembered (``resources.erasure.tombstones``).
"""

import codecs
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import msgspec
import polars as pl
from polars.datatypes import DataTypeClass

from atc_pipeline.rules.people import BLOCKED_IDENTITY, VISITOR, erasure_hash, id_of, name_of_visitor

Kind = Literal["theirs", "shared", "elsewhere"]
"""What a row or line has to do with the person: it is about them (and goes), it is somebody else's on a device they shared (and
stays), or it has the same text somewhere else, or one that may be meant for it (and somebody must say what that means)."""

FEW = 1000
"""Names up to which Polars can hold their pattern (10 MB compiled); of more, text that has one anywhere is looked at closely."""

MOST_SPELLED = 100
"""Long ids up to which a blank is looked for between their letters, too."""
MOST_WRITTEN = 80
"""Characters shown of a text that may be meant for the person."""
MOST_VALUES = 200_000
"""Values that are looked at closely at a time."""
_VALUE = ("row", "column", "field", "text")

_CUSTOMERS = re.compile(r"(.+_)?customer_id|(.+_)?absorbed|(.+_)?survivor|known_as")
"""Columns whose text is a customer, in any table: those of today and those to come."""
_FIELDS = {"userId": "user_id", "anonymousId": "anonymous_id", "previousId": "previous_id"}
_BLOCKED = re.compile(BLOCKED_IDENTITY)


_LETTERS = [chr(code) for code in range(0x21, 0x7F)]
_DIGITS = {
    letter: str(unicodedata.decimal(letter)) for letter in map(chr, range(0x80, 0x1FC00)) if unicodedata.decimal(letter, None) is not None
}
_WIDE = {chr(ord(letter) + 0xFEE0): letter for letter in _LETTERS}
_HIDDEN = dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", "") | dict.fromkeys(" \t\n\u00a0", " ")
_TAGGED = r"\+[^@\s\"'<>&,;]*@"
_CODE = r"%(?:25)*[0-9a-f]{2}|\\u00[0-9a-f]{2}|\\[nrtbf]"
"""A code of some other letter, in front of an id."""


class Spellings:
    """All the ways in which the same ids may be written by people, browsers and exports; they are compared as ``plain`` text.

    Text matches where an id stands in it as a word; one of eight characters or more that is no word, number or address, anywhere. A
    number matches with leading zeros and with ``.0``, and not where it is a part of another number, of a date or of a time.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        """Learn the letters of these ids, which may be coded."""
        ids = sorted(ids)
        forms = {
            form
            for text in ids
            for kind in ("NFC", "NFD")
            for form in unicodedata.normalize(kind, text)
            if not "\ud800" <= form <= "\udfff"
        }
        letters = {letter: letter for form in forms for letter in (*form.lower(), *form.upper())}
        undone = letters | {letter: letter for letter in _LETTERS} | _WIDE | _DIGITS | _HIDDEN
        # The last is what keeps an address from being a link (``escaping.markdown``).
        self._codes = _DIGITS | {code: meant.lower() for letter, meant in undone.items() for code in _codes(letter)} | {"`@`": "@"}
        self._coded = ""
        self.plain_ids = sorted({plain_id for plain_id in self.plain(pl.Series(ids, dtype=pl.String)) if plain_id})
        self._coded = self._coded_pattern(letters)
        parts = [plain_id for plain_id in self.plain_ids if _is_unmistakable(plain_id)]
        self._many = parts if len(parts) > MOST_SPELLED else []
        few = sorted({*self.plain_ids} - {*self._many})
        self._pattern = "|".join(filter(None, (_as_numbers(few), _as_words(few), *map(_allow_blanks, {*parts} - {*self._many}))))

    def plain(self, texts: pl.Series) -> pl.Series:
        """Write text without capitals, codes, what takes no room, blanks around it, and what follows a + in front of an @.

        Text in which no letter of the ids is coded is left alone but for its capitals: most text is, and it takes a tenth of the time.
        """
        low = texts.str.to_lowercase()
        odd = low.str.contains(self._coded).fill_null(value=False).arg_true()
        if odd.len():
            coded = low.gather(odd)
            for _ in range(2):  # one code may be written in the other
                coded = coded.str.replace_all(r"%(?:25)+", "%").str.replace_all(r"(?:\\+|%)u", r"\u")
                coded = coded.str.replace_many(list(self._codes), list(self._codes.values()), ascii_case_insensitive=True)
            coded = coded.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\p{DI}", "").str.replace_all("ß", "ss")
            coded = coded.str.replace_all(r"\\+[nrtbf]", " ").str.replace_all(r"\\+", "").str.replace_all(r"[\s\p{Z}]+", " ")
            low = low.scatter(odd, coded.str.replace_all(_TAGGED, "@"))
        return low.str.strip_chars()

    def are_in(self, texts: pl.Series) -> pl.Series:
        """True for text that may be meant for one of the ids."""
        plain = self.plain(texts)
        is_meant = plain.str.contains(self._pattern) if self._pattern else pl.repeat(value=False, n=texts.len(), eager=True)
        if self._many:
            is_meant |= plain.str.contains_any(self._many)
        return is_meant.fill_null(value=False).alias(texts.name)

    def _coded_pattern(self, letters: Iterable[str]) -> str:
        """A regular expression that finds text in which something would have to be undone to see one of the ids in it."""
        theirs = {*letters, *"".join(self.plain_ids)}
        lookalikes = "".join(letter for letter, meant in _lookalikes().items() if not theirs.isdisjoint(meant))
        hidden = [code for letter in _HIDDEN if _HIDDEN[letter] == "" for code in _codes(letter)]
        coded = sorted({*hidden, *(code for letter in {*theirs, *lookalikes} for code in _codes(letter))})
        specials = "".join(sorted({letter for letter in theirs if letter in _LETTERS and not letter.isalnum()}))
        return "|".join(
            [
                "(?:" + "|".join(_code_pattern(code) for code in coded) + ")",
                r"%(?:25)*5c|\\u00(?:25|5c)|&#(?:37|92);|\p{DI}|[\p{Zs}--[ ]]| {2}",
                r"[^\x00-\x7f]" if not all(map(str.isascii, theirs)) else f"[{lookalikes}]" if lookalikes else " {2}",
                *([rf"\\[{re.escape(specials)}]"] if specials else []),
                *(["`@`", _TAGGED] if "@" in specials else []),
            ]
        )


def _codes(letter: str) -> tuple[str, str, str]:
    """Return how a letter is written in addresses, in JSON and in HTML, in small letters."""
    units = letter.encode("utf-16-be")
    in_json = "".join(f"\\u{int.from_bytes(units[at : at + 2], 'big'):04x}" for at in range(0, len(units), 2))
    return "".join(f"%{byte:02x}" for byte in letter.encode()), in_json, f"&#{ord(letter)};"


def _code_pattern(code: str) -> str:
    return re.escape(code).replace("%", "%(?:25)*").replace(r"\\u", r"(?:\\|%)u")


@cache
def _lookalikes() -> dict[str, str]:
    """Return letters of other alphabets that NFKC makes plain ones of, and digits of other scripts."""
    folded = {letter: unicodedata.normalize("NFKC", letter).lower() for letter in map(chr, range(0x80, 0x1FC00)) if not letter.isspace()}
    return {letter: meant for letter, meant in folded.items() if meant != letter and any(map(str.isascii, meant))} | _DIGITS


def _allow_blanks(text: str) -> str:
    """A pattern of a text with a blank anywhere, or none."""
    return "[ \t\n]?".join(re.escape(letter) for letter in text if letter != " ")


def _as_numbers(ids: Iterable[str]) -> str:
    numbers = {text.lstrip("0") or "0" for text in ids if text.isdecimal()}
    any_of = "|".join(_allow_blanks(number) for number in sorted(numbers))
    before = rf"(?:^|[^\p{{L}}\p{{N}}.,:\-]|[^\p{{N}}][.,:]|\p{{L}}-|{_CODE})"
    return rf"{before}0*(?:{any_of})(?:[.,]0+)?(?:$|[^\p{{L}}\p{{N}}.,:\-]|[.,:\-](?:$|[^\p{{N}}]))" if numbers else ""


def _as_words(ids: Iterable[str]) -> str:
    words = [_allow_blanks(text) for text in ids if not text.isdecimal() and not _is_unmistakable(text)]
    return rf"(?:^|[^\p{{L}}\p{{N}}]|{_CODE})(?:{'|'.join(words)})(?:$|[^\p{{L}}\p{{N}}])" if words else ""


def _is_unmistakable(text: str) -> bool:
    return len(text) >= 8 and not text.isalpha() and not text.isdecimal() and "@" not in text


@dataclass(frozen=True)
class Person:
    """All ids of one person: as a user, and as an anonymous visitor.

    A user's id that comes as an anonymous one is theirs, too, unless it is one of their ``namesakes``: the anonymous id of a
    visitor who is known to be somebody else. A visitor's id that comes as a user's is somebody else's.
    """

    users: frozenset[str]
    visitors: frozenset[str] = frozenset()
    namesakes: frozenset[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    """What names nobody, beside the values of SPEC 2 (``identity.blocked``)."""

    @cached_property
    def ids(self) -> frozenset[str]:
        """Every id of theirs, of either kind."""
        return self.users | self.visitors

    @cached_property
    def devices(self) -> frozenset[str]:
        """Every anonymous id of theirs; our own name for a visitor may come back as one."""
        own = self.visitors | (self.users - self.namesakes)
        return own | {f"{VISITOR}{device}" for device in own}

    @cached_property
    def customers(self) -> frozenset[str]:
        """Every customer id the person has, ever had, or would have if they came back."""
        return self.users | {f"{VISITOR}{device}" for device in self.devices}

    @cached_property
    def names(self) -> frozenset[str]:
        """Every text that stands for the person."""
        return self.customers | self.devices

    @cached_property
    def fingerprints(self) -> list[str]:
        """The ``erasure_hash`` of every id: enough to know the person again, too little to contact them.

        A visitor's name counts as a user's id too: it may come back as one from where we sent it.
        """
        users, devices = (pl.DataFrame({"id": list(ids)}, schema={"id": pl.String}) for ids in (self.customers, self.devices))
        hashes = pl.concat([users.select(erasure_hash("user", "id")), devices.select(erasure_hash("anonymous", "id"))])
        return sorted(hashes.to_series().to_list())

    @cached_property
    def pattern(self) -> str:
        """A regular expression that finds every whole JSON or text value that is a name; it may find a little more."""
        ids = "|".join(re.escape(name) for name in sorted(self.ids))
        return rf"(?:^|[\"\s:,\[\\])(?:{VISITOR})*(?:{ids})(?:$|[\"\s,}}\]\\])"

    @cached_property
    def escapes(self) -> str:
        """A regular expression that finds JSON text in which a name may be spelled otherwise."""
        return (
            r"\\"
            if any(json_text[1:-1] != name for name in self.names if (json_text := json.dumps(name, ensure_ascii=False)))
            else r"\\[u/]"
        )

    @cached_property
    def spellings(self) -> Spellings:
        """How else the ids may be written."""
        return Spellings(self.ids)

    def together_with(self, person: "Person") -> "Person":
        """Return both as one person."""
        users, visitors = self.users | person.users, self.visitors | person.visitors
        return Person(users, visitors, (self.namesakes | person.namesakes) - visitors, self.blocked | person.blocked)

    def is_nobody(self, text: str | None) -> bool:
        """True where the text of an id names nobody at all."""
        return not is_identity(text, self.blocked)


def identify(customer_id: str, identity_map: pl.LazyFrame | None, blocked: Iterable[str] = ()) -> tuple[Person, bool]:
    """Find all ids of a customer, who may be given by an absorbed id too; and whether the map knows them.

    ``identity_map``: of the latest day; None where a lake has none: then the id stands for itself. ``blocked``: ``identity.blocked``.
    Raises ValueError for an id that identifies nobody.
    """
    id_type, asked_id = id_of(customer_id)
    nobody = frozenset(value.strip().lower() for value in blocked)
    if not is_identity(asked_id, nobody):
        raise ValueError("customer_id identifies nobody: it is blank, null, -1, anonymous, only zeros and dashes, or blocked (SPEC 2)")
    users, visitors = (frozenset[str](), frozenset({asked_id})) if id_type == "anonymous" else (frozenset({asked_id}), frozenset[str]())
    if identity_map is None:
        return Person(users, visitors, blocked=nobody), False
    is_asked = (pl.col("id_type") == id_type) & (pl.col("id") == asked_id)
    rows = identity_map.select("id_type", "id", "customer_id")
    asked = rows.filter(is_asked | (pl.col("customer_id") == customer_id)).select("customer_id").unique()
    ids = rows.join(asked, on="customer_id", how="semi").collect()
    users |= frozenset(ids.filter(pl.col("id_type") == "user")["id"])
    visitors |= frozenset(ids.filter(pl.col("id_type") == "anonymous")["id"])
    claimed = rows.filter(
        pl.col("id_type") == "anonymous",
        pl.col("id").is_in(sorted(users - visitors)),
        pl.col("customer_id") != name_of_visitor("id"),
    )
    return Person(users, visitors, frozenset(claimed.select("id").collect()["id"]), nobody), not ids.is_empty()


def is_identity(text: str | None, blocked: frozenset[str] = frozenset()) -> bool:
    """True where the text names somebody; ``rules.people.is_identity`` for one value.

    ``blocked``: in small letters, without blanks around.
    """
    return text is not None and _BLOCKED.fullmatch(text) is None and text.strip().lower() not in blocked


def is_about(schema: Mapping[str, pl.DataType], person: Person) -> pl.Expr:
    """True for rows about the person, told by the columns a table has; false everywhere in a table without ids."""
    named = [_FIELDS.get(column, column) for column in schema]
    columns = {name: _as_id(column, schema[column]) for name, column in zip(named, schema, strict=True) if _may_be_id(schema[column])}
    tests = [column.is_in(sorted(person.customers)) for name, column in columns.items() if _CUSTOMERS.fullmatch(name)]
    if "user_id" in columns:
        tests.append(columns["user_id"].is_in(sorted(person.customers)))
    if "anonymous_id" in columns:
        tests.append(_is_nobody(columns, person) & columns["anonymous_id"].is_in(sorted(person.devices)))
    if "previous_id" in columns:
        tests.append(columns["previous_id"].is_in(sorted(person.names)))
    if "id_type" in columns and "id" in columns:
        for kind, ids in (("user", person.customers), ("anonymous", person.devices)):
            tests.append((columns["id_type"] == kind) & columns["id"].is_in(sorted(ids)))
    return pl.any_horizontal(pl.lit(value=False), *(test.fill_null(value=False) for test in tests))


def find_rows(rows: pl.LazyFrame, person: Person) -> pl.DataFrame:
    """One row per row that names the person, or may: ``row`` (from 0), ``kind``, and for ``elsewhere`` the ``column`` and how it is
    ``written`` there.

    Text is searched in every column, nested ones included: as the whole text, as a whole value of the JSON it may hold, and by
    ``Spellings``. ``raw`` is a line as it arrived, which ``kind_of_line`` reads.
    """
    schema = rows.collect_schema()
    searched = [name for name, dtype in schema.items() if _holds_text(dtype)]
    may_name = [test(pl.col(name), schema[name], person) for name in searched for test in (_may_name, _may_mean)]
    candidates = (
        rows.select(*dict.fromkeys([*searched, *(name for name, dtype in schema.items() if _may_be_id(dtype))]))
        .with_row_index("row:")
        .with_columns(is_about(schema, person).alias("about:"))
        .filter(pl.any_horizontal("about:", *may_name))
        .collect(engine="streaming")
        .sort("row:")
    )
    matches = _Matches(person)
    for row in candidates.iter_rows(named=True):
        kinds = dict(_kinds_of_row(row, searched, person))
        matches.add(row["row:"], kinds, {} if "theirs" in kinds.values() else {column: row[column] for column in searched})
    return matches.frame()


def find_lines(lines: Iterable[bytes], person: Person) -> pl.DataFrame:
    """One row per line that names the person, or may; as ``find_rows``, for JSON lines, whose column is ``line``."""
    raw = list(lines)
    text = pl.Series("text", [line.decode(errors="replace") for line in raw], dtype=pl.String)
    may_name = text.to_frame().select(_may_name(pl.col("text"), pl.String(), person)).to_series()
    matches = _Matches(person)
    for row in (may_name | person.spellings.are_in(text)).arg_true():
        kind = kind_of_line(raw[row], person)
        matches.add(row, {} if kind is None else {"line": kind}, {} if kind == "theirs" else {"line": raw[row]})
    return matches.frame()


def count_named(lines: Iterable[bytes], person: Person) -> int:
    """Count the lines of text that name the person, or may."""
    text = pl.Series("text", [line.decode(errors="replace") for line in lines], dtype=pl.String)
    is_few = len(person.names) <= FEW
    named = text.str.contains(person.pattern) if is_few else text.str.contains_any(sorted(person.ids))
    return int((named | person.spellings.are_in(text)).sum())


class _Matches:
    """Rows found so far, and the values in them that may be meant for the person."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.kinds: list[tuple[int, str, Kind]] = []
        self.values: list[tuple[int, str, str, str]] = []
        self.alike: list[pl.DataFrame] = []

    def add(self, row: int, kinds: Mapping[str, Kind], texts: Mapping[str, object]) -> None:
        """Add a row: what its columns say, and those columns that may say more."""
        self.kinds += [(row, column, kind) for column, kind in kinds.items()]
        self.values += [(row, column, *value) for column, text in texts.items() for value in _list_values(text)]
        if len(self.values) > MOST_VALUES:
            self._settle()

    def _settle(self) -> None:
        values = pl.DataFrame(self.values, schema=dict.fromkeys(_VALUE, pl.String) | {"row": pl.UInt32}, orient="row")
        self.alike.append(values.filter(self.person.spellings.are_in(values["text"])))
        self.values = []

    def frame(self) -> pl.DataFrame:
        """Return what was found; of what is said by column, how it is written there."""
        self._settle()
        kinds = pl.DataFrame(self.kinds, schema={"row": pl.UInt32, "column": pl.String, "kind": pl.String}, orient="row")
        shared = kinds.filter(pl.col("kind") == "shared").select("row").unique().with_columns(is_shared=True)
        is_named = pl.col("text").is_in(sorted(self.person.visitors)) & pl.col("is_shared").fill_null(value=False)
        written = pl.when(pl.col("field") == "").then("text").otherwise(pl.concat_str("field", pl.lit(": "), "text"))
        alike = (
            pl.concat(self.alike)
            .join(shared, on="row", how="left", maintain_order="left")
            .filter(~is_named)
            .select("row", "column", kind=pl.lit("elsewhere"), written=written.str.slice(0, MOST_WRITTEN))
            .unique(maintain_order=True)
        )
        is_said = pl.col("kind") == "elsewhere"
        unsaid = pl.concat([kinds.filter(~is_said), kinds.filter(is_said).join(alike, on=["row", "column"], how="anti")])
        matches = pl.concat([unsaid, alike], how="diagonal").sort("row", maintain_order=True)
        return matches.select("row", "kind", pl.when(pl.col("kind") == "elsewhere").then("column"), "written").unique(maintain_order=True)


def kind_of_line(line: bytes, person: Person) -> Kind | None:
    """Read whose line it is; None where it does not name the person. A line that is nobody's is theirs if it names them."""
    try:
        document = _TOP_LEVEL.decode(line.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, RecursionError):
        return "theirs" if re.search(person.pattern, _unescape(line.decode(errors="replace"))) else None
    user, visitor, previous, customer = (_id(document, names) for names in _IDS)
    if (
        user in person.customers
        or previous in person.names
        or (person.is_nobody(user) and visitor in person.devices)
        or (user is visitor is None and customer in person.customers)
    ):
        return "theirs"
    names = {name for key, raw in document.items() for name in (key, *_find_names(_decode(bytes(raw)), person)) if name in person.names}
    if not names:
        return None
    if all(person.is_nobody(text) for text in (user, visitor, customer)):
        return "theirs"
    return "shared" if not person.is_nobody(user) and names <= person.visitors else "elsewhere"


def _kinds_of_row(row: Mapping[str, object], searched: list[str], person: Person) -> Iterator[tuple[str, Kind]]:
    if row["about:"]:
        yield "", "theirs"
        return
    raw = row.get("raw")
    if isinstance(raw, str | bytes) and (kind := kind_of_line(raw.encode() if isinstance(raw, str) else raw, person)) is not None:
        yield "raw", kind
        return
    user = row.get("user_id", row.get("userId"))
    is_anothers = not person.is_nobody(None if user is None else str(user))
    for column in searched:
        names = set(_find_names(row[column], person))
        if names:
            yield column, "shared" if is_anothers and names <= person.visitors else "elsewhere"


def _is_nobody(columns: Mapping[str, pl.Expr], person: Person) -> pl.Expr:
    user = columns.get("user_id")
    if user is None:
        return pl.lit(value=True)
    is_blocked = user.str.strip_chars().str.to_lowercase().is_in(sorted(person.blocked))
    return (user.str.contains(BLOCKED_IDENTITY) | is_blocked).fill_null(value=True)


def _may_be_id(dtype: pl.DataType) -> bool:
    return dtype == pl.String or dtype.is_numeric() or isinstance(dtype, pl.Categorical | pl.Enum)


def _as_id(column: str, dtype: pl.DataType) -> pl.Expr:
    """Read an id as ingest does: whole numbers without a fraction, as exports write integers beside nulls."""
    text = pl.col(column).cast(pl.String)
    return text if not dtype.is_numeric() or dtype.is_integer() else text.str.replace(r"\.0+$", "")


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
    named = text.str.contains(person.pattern) if is_few else text.str.contains_any(sorted(person.ids))
    return (named | text.str.contains(person.escapes)).fill_null(value=False)


def _may_mean(value: pl.Expr, dtype: pl.DataType, person: Person) -> pl.Expr:
    """True where a value could hold one of the ids written otherwise."""
    text = value.cast(pl.String) if not dtype.is_nested() else pl.struct(value).struct.json_encode()
    return (
        text.map_batches(person.spellings.are_in, return_dtype=pl.Boolean, is_elementwise=True)
        if dtype != pl.Binary
        else pl.lit(value=False)
    )


_TOP_LEVEL = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANYTHING = msgspec.json.Decoder(float_hook=str)
_IDS = (("userId", "user_id"), ("anonymousId", "anonymous_id"), ("previousId", "previous_id"), ("customer_id",))


def _id(document: Mapping[str, msgspec.Raw], names: Iterable[str]) -> str | None:
    """Read an id as ingest does: text, or a number written as text."""
    values = (_decode(bytes(document[name])) for name in names if name in document)
    return next((str(value) for value in values if type(value) in (str, int, float)), None)


def _decode(text: str | bytes) -> object:
    """Decode JSON; what is none is returned as the text it is."""
    try:
        return _ANYTHING.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text if isinstance(text, str) else text.decode(errors="replace")


def _find_names(value: object, person: Person) -> Iterator[str]:
    """Yield the names that are whole values anywhere in this one: in lists and objects, and in JSON held as text."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        if value in person.names:
            yield value
        elif value.lstrip()[:1] in tuple('{["'):
            inner = _decode(value)
            if inner != value:
                yield from _find_names(inner, person)
            elif re.search(person.pattern, _unescape(value)):
                yield from person.names  # broken JSON: it cannot be told which
    elif isinstance(value, dict):
        for key, held in value.items():
            yield from _find_names(key, person)
            yield from _find_names(held, person)
    elif isinstance(value, list):
        for held in value:
            yield from _find_names(held, person)
    elif isinstance(value, int | float) and str(value) in person.names:
        yield str(value)


def _list_values(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text and number anywhere in a value, with the name of the field it is in; of two fields with one name, both."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        inner = _pairs(value) if value.lstrip("\ufeff \t\r\n")[:1] in tuple('{["') else value
        if isinstance(inner, str):
            yield name, inner
        else:
            yield from _list_values(inner, name)
    elif isinstance(value, _Pairs):
        for key, held in value:
            yield name, key
            yield from _list_values(held, key)
    elif isinstance(value, dict):
        yield from _list_values(_Pairs(value.items()), name)
    elif isinstance(value, list):
        for held in value:
            yield from _list_values(held, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, str(value)


class _Pairs(list[tuple[str, object]]):
    """An object's fields: of those with one name a dictionary would keep the last."""


def _pairs(text: str) -> object:
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_Pairs, parse_float=str)
    except (ValueError, RecursionError):
        return text


def _unescape(text: str) -> str:
    """Undo JSON's escapes in text that is no JSON."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda escape: chr(int(escape[1], 16)), text).replace("\\/", "/")
