"""From the bytes of ``journeys.yaml`` to plain values, each with its line: YAML 1.2, minus what nobody means.

What belongs here: bytes, YAML, and the bounds within which a file is read at all: a hostile or mistaken one is refused in a
second and little memory. What does not: which keys there are (``document``), or how a problem is worded (``problems``).

libyaml's events are read, not its documents: it would follow nesting, aliases and tags wherever they lead.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NoReturn

import yaml  # type: ignore[import-untyped]

from atc_pipeline.journeys.dialect import shortened
from atc_pipeline.journeys.problems import JourneysError, Place, Source

_LARGEST = 8_000_000
"""Bytes, eight times what 3,000 journeys and 2,000 segments take; in values it is three times."""
_LARGEST_FILE = 200_000
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_DEEPEST_FILE = 10
_MOST_VALUES = 200_000
_MOST_ITEMS = 10_000
_MOST_REPEATED = 10_000
_DEEPEST = 20
_MOST_DIGITS = 19
_FORBIDDEN = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""Control characters, and those that turn the direction of writing: what is seen would not be what is read."""
_BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}

_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: value for value, name in ((True, "true"), (False, "false")) for word in (name, name.title(), name.upper())
}
_WHOLE = re.compile(r"[-+]?(\d[\d_]*|0x[\da-fA-F]+|0o[0-7]+)")
_DECIMAL = re.compile(r"[-+]?(\d[\d_]*(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_NO_NUMBER = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def parse_values(text: str, name: str) -> tuple[object, Source]:
    """Read a text as plain values, and where they stand; raises JourneysError for whatever is no plain, bounded YAML."""
    return _Reader(name).read(text)


def read_text(path: Path) -> str:
    """Read a file as text; raises JourneysError for whatever is no file of a portfolio's size, or holds what nobody sees."""
    try:
        if path.exists() and not path.is_file():
            raise JourneysError([f"{path}: is no file: expected the portfolio, such as journeys.yaml"])
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        raise JourneysError([f"{shortened(str(path), 200)}: cannot be read: {_reason(error)}"]) from None
    if len(content) > _LARGEST:
        raise JourneysError([f"{path.name}: is larger than {_LARGEST // 1_000_000} MB: expected a portfolio, which is far smaller"])
    return _decoded(content, path.name)


def read_beside(folder: Path, name: str) -> str:
    """Read a file that the portfolio names, within its folder; raises JourneysError for any other, and for what is no text."""
    parts = name.split("/")
    if not all(_FILE_NAME.fullmatch(part) for part in parts) or len(parts) > _DEEPEST_FILE:
        raise JourneysError(["expected a path from the folder of journeys.yaml, such as content/newsletter.mjml"])
    path = folder.joinpath(*parts)
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve(strict=True)):
            raise JourneysError([f"{name}: leads out of the folder of journeys.yaml: expected a file within it"])
        if not path.is_file():
            raise JourneysError([f"{name}: is no file"])
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError, RuntimeError) as error:
        raise JourneysError([f"{name}: cannot be read: {_reason(error)}"]) from None
    if len(content) > _LARGEST_FILE:
        raise JourneysError([f"{name}: is larger than {_LARGEST_FILE // 1000} kB: mail programs show no more than 102 kB"])
    return _decoded(content, name)


def _reason(error: Exception) -> object:
    return error.strerror if isinstance(error, OSError) else error


def _decoded(content: bytes, name: str) -> str:
    encoding = next((known for mark, known in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), None)
    if encoding:
        raise JourneysError([f"{name}: is {encoding} text: save it as UTF-8"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise JourneysError([f"{name}:{line}: is not UTF-8 text (byte {error.start}): save it as UTF-8"]) from None
    if forbidden := _FORBIDDEN.search(text):
        line = text.count("\n", 0, forbidden.start()) + 1
        raise JourneysError([f"{name}:{line}: {_describe(forbidden.group())}"])
    return text


def _describe(character: str) -> str:
    return f"the character U+{ord(character):04X} is not seen and changes what is: remove it"


@dataclass(frozen=True)
class _Anchored:
    """What an alias repeats, and how many values that is."""

    value: object
    size: int


class _Reader:
    """Builds values from the events of a parser, noting the line of every key and item."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Place, int] = {}
        self._anchors: dict[str, _Anchored | None] = {}  # None: not yet whole
        self._values = 0
        self._repeated = 0

    def read(self, text: str) -> tuple[object, Source]:
        try:
            events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.CSafeLoader)
            value = self._document(events)
        except yaml.MarkedYAMLError as error:
            line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
            context = f" {error.context}" if error.context else ""
            raise JourneysError([f"{self.name}{line}: is not YAML: {error.problem}{context}"]) from None
        except yaml.YAMLError as error:
            raise JourneysError([f"{self.name}: is not YAML: {str(error).splitlines()[0]}"]) from None
        journeys = value.get("journeys") if isinstance(value, dict) else None
        ids = tuple(each.get("id") if isinstance(each, dict) else None for each in journeys) if isinstance(journeys, list) else ()
        return value, Source(self.name, self.lines, ids)

    def _document(self, events: Iterator[yaml.Event]) -> object:
        value: object = {}
        is_read = False
        for event in events:
            match event:
                case yaml.DocumentStartEvent() if is_read:
                    self._refuse(event, (), "a second document begins (---): one file is one portfolio")
                case yaml.StreamStartEvent() | yaml.DocumentStartEvent() | yaml.DocumentEndEvent() | yaml.StreamEndEvent():
                    pass
                case _:
                    value, is_read = self._value(event, events, ()), True
        return {} if value is None else value

    def _refuse(self, event: yaml.Event, place: Place, message: str) -> NoReturn:
        lines = self.lines | {place: event.start_mark.line + 1}
        raise JourneysError([Source(self.name, lines, ()).problem(place, message)])

    def _value(self, event: yaml.Event, events: Iterator[yaml.Event], place: Place) -> object:
        self.lines.setdefault(place, event.start_mark.line + 1)
        self._values += 1
        if self._values > _MOST_VALUES:
            self._refuse(event, (), f"it has more than {_MOST_VALUES:,} values: expected a portfolio, which has far fewer")
        if len(place) > _DEEPEST:
            self._refuse(event, (), "is nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            return self._repeat(event, place)
        if event.tag is not None:
            self._refuse(
                event, place, f"the tag {shortened(event.tag.replace('tag:yaml.org,2002:', '!!'))} is not read: write the value alone"
            )
        anchor, before = event.anchor, self._values
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(events, place)
        else:
            value = self._mapping(events, place)
        if anchor is not None:
            self._anchors[anchor] = _Anchored(value, self._values - before + 1)
        return value

    def _sequence(self, events: Iterator[yaml.Event], place: Place) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            if len(items) == _MOST_ITEMS:
                self._refuse(event, place, f"it has more than {_MOST_ITEMS:,} items")
            items.append(self._value(event, events, (*place, len(items))))
        return items

    def _mapping(self, events: Iterator[yaml.Event], place: Place) -> dict[object, object]:
        mapping: dict[object, object] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                self._refuse(event, (), "a key must be a name")
            key = self._scalar(event, place)
            if not isinstance(key, str | int):
                self._refuse(event, (), "a key must be a name")
            if key == "<<":
                self._refuse(event, place, "merge keys (<<) are not read: write the keys out")
            if len(mapping) == _MOST_ITEMS:
                self._refuse(event, place, f"it has more than {_MOST_ITEMS:,} keys")
            line = event.start_mark.line + 1
            if key in mapping:
                message = f"key '{shortened(str(key))}' is given twice, again in line {line}"
                raise JourneysError([Source(self.name, self.lines, ()).problem(place, message, key=key)])
            self.lines[*place, key] = line
            mapping[key] = self._value(next(events), events, (*place, key))
        return mapping

    def _repeat(self, event: yaml.AliasEvent, place: Place) -> object:
        if event.anchor not in self._anchors:
            self._refuse(event, (), f"is not YAML: found undefined alias '{shortened(event.anchor)}'")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            self._refuse(event, place, f"the alias *{shortened(event.anchor)} stands inside what it repeats")
        self._repeated += anchored.size
        self._values += anchored.size
        if self._repeated > _MOST_REPEATED:
            self._refuse(event, place, f"aliases repeat more than {_MOST_REPEATED:,} values: write them out")
        return anchored.value

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> object:
        text: str = event.value
        if forbidden := _FORBIDDEN.search(text):  # escaped, such as "\\0"
            self._refuse(event, place, _describe(forbidden.group()))
        if not event.implicit[0]:  # in quotes
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _DAY.fullmatch(text):
            try:
                return date.fromisoformat(text)
            except ValueError:  # looks like a day and is none, such as 2026-02-30
                return text
        if text.lower() in _NO_NUMBER:
            return _NO_NUMBER[text.lower()]
        if _WHOLE.fullmatch(text):
            if len(text.strip("+-").lstrip("0")) > _MOST_DIGITS:
                self._refuse(event, place, f"the number {shortened(text)} is too large")
            return int(text, 0 if text.strip("+-")[1:2] in ("x", "o") else 10)
        return float(text) if len(text) <= _LONGEST_NUMBER and _DECIMAL.fullmatch(text) else text


_LONGEST_NUMBER = 400
