"""The one dialect of texts (SPEC 9.3): Jinja2's syntax, of it only what a marketer needs and nothing that surprises.

What belongs here: reading a template, refusing what is outside the dialect with the remedy, and rendering the rest from plain
values. What does not: which columns there are (``journeys.columns``), where in the file a text stands (``journeys.wording``), what a
text may say (``guardrails``).

Jinja2 accepts much more, and its sandbox stops little of it: ``{{ 'a' * 500000000 }}`` is inside. So the syntax tree is read here:
what is not listed is refused, every part has a kind, and what can be empty must be provided for. Then each value is written by the
place it stands in, which the text around it says: as text, as HTML, in a quoted attribute, or in a link.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from html import escape
from typing import Literal, Never
from urllib.parse import quote

import polars as pl
from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.filters import do_title
from jinja2.sandbox import ImmutableSandboxedEnvironment

Escape = Literal["text", "header", "html"]
"""For which medium values are written: a text of several lines, a line (a subject), or HTML."""
Kind = Literal["number", "text", "date", "true or false", "list"]

_OPEN, _CLOSE = "\ue000", "\ue001"
SLOTS: Mapping[str, str] = {name: f"{_OPEN}{name}{_CLOSE}" for name in ("unsubscribe_url", "preferences_url", "message_id")}
"""What stands in a rendered text for what is put in when it is handed over: no value can hold these characters."""

ASSIGNMENT: Mapping[str, pl.DataType] = {
    "journey_id": pl.String(),
    "journey_name": pl.String(),
    "day_index": pl.Int64(),
    "entered_on": pl.Date(),
    "ends_on": pl.Date(),
}
"""What a template may name besides the columns of the profile; never null."""

MOST_WRITTEN = 200_000
"""Characters of a template: twice what mail programs show of a message."""
MOST_RENDERED = 500_000
_DEEPEST = 30
_MOST_PARTS = 20_000

_KINDS: Mapping[pl.DataType, Kind] = {
    pl.Int64(): "number",
    pl.Float64(): "number",
    pl.String(): "text",
    pl.Date(): "date",
    pl.Boolean(): "true or false",
    pl.List(pl.String()): "list",
}
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff"
    f"\ufff0-\uffff{_OPEN}{_CLOSE}\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Characters that do something or hide something; joiners and selectors stay, of which letters and emoji are made."""


class TemplateError(ValueError):
    """A template is outside the dialect: in which of its ``line`` s, what is wrong, and what to write instead.

    ``name`` is not among the ``valid`` names, where that is what is wrong.
    """

    def __init__(self, message: str, line: int = 1, *, name: str | None = None, valid: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.line = line
        self.name = name
        self.valid = tuple(valid)


class RenderError(Exception):
    """A template cannot be rendered from these values: the message is withheld, and the others go on."""


@dataclass(frozen=True, eq=False)
class Template:
    """A checked template: its ``text`` as it was written, the ``columns`` it reads, the ``slots`` that are put in later.

    ``source`` is what is rendered: the text, or the HTML made of MJML; of the HTML made of a block's text, nothing was written.
    """

    text: str
    columns: Mapping[str, pl.DataType]
    slots: frozenset[str]
    source: str
    escape: Escape

    def render(self, values: Mapping[str, object]) -> str:
        """Write the text from a customer's values, of which those of ``columns`` are read; raises RenderError."""
        try:
            written = {name: cleaned(values[name]) for name in self.columns}
        except KeyError as missing:
            raise RenderError(f"column {missing} is not among the values") from None
        parts, size = [], 0
        try:
            for part in self._parts(written):
                size += len(part)
                if size > MOST_RENDERED:
                    raise RenderError(f"longer than {MOST_RENDERED:,} characters")
                parts.append(part)
        except (TypeError, ValueError, ArithmeticError, AttributeError) as problem:
            raise RenderError(f"a value is of another type than its column: {problem}") from None
        return "".join(parts)

    @cached_property
    def _parts(self) -> Callable[[Mapping[str, object]], Iterator[str]]:
        tree = _ENVIRONMENT.parse(self.source)
        _Check(self.source, self.columns, (), self.escape, self.slots).rewrite(tree)
        template = _ENVIRONMENT.from_string(tree)
        return lambda values: template.root_render_func(template.new_context(dict(values)))

    def __getstate__(self) -> dict[str, object]:
        """Leave out what is compiled: another process compiles it again."""
        return {name: value for name, value in self.__dict__.items() if name != "_parts"}


def compile_template(
    text: str,
    schema: Mapping[str, pl.DataType],
    *,
    nullable: Collection[str],
    escape: Escape = "text",
    slots: Collection[str] = SLOTS,
    source: str | None = None,
) -> Template:
    """Check and compile a template over the columns of ``schema``, of which the ``nullable`` may be empty; raises TemplateError.

    ``source``: what is rendered where that is not the text itself (the HTML made of MJML).
    """
    written = text if source is None else source
    if len(written) > MOST_WRITTEN:
        raise TemplateError(f"is longer than {MOST_WRITTEN:,} characters")
    check = _Check(written, schema, nullable, escape, slots)
    check.rewrite(_parsed(written))
    template = Template(text, {name: schema[name] for name in schema if name in check.columns}, frozenset(check.slots), written, escape)
    try:
        _ = template._parts  # noqa: SLF001  # what cannot be compiled is refused now
    except (SyntaxError, RecursionError, MemoryError):
        raise TemplateError("is nested too deeply") from None
    return template


def cleaned(value: object) -> object:
    """Return a value as templates see it: one line without characters that act or hide; blanks, and what is no number, are null."""
    match value:
        case str():
            return " ".join(_UNSEEN.sub("", value).split()) or None
        case list() | tuple():
            return [item for item in map(cleaned, value) if item is not None]
        case float():
            return value if math.isfinite(value) else None
        case pl.Series():
            return cleaned(value.to_list())
        case _:
            return value


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """Return a template in pieces, each with what it is: ``data``, ``output`` ({{ }}), ``tag`` ({% %}) or ``comment``.

    Raises TemplateError for what is no Jinja2 at all.
    """
    opened: str | None = None
    held: list[str] = []
    names = {"variable_begin": "output", "block_begin": "tag", "comment_begin": "comment"}
    try:
        for line, kind, value in _PLAIN.lex(text):
            if kind == "raw_begin":
                _refuse("{% raw %} is outside the dialect", line)
            if opened is None and kind in names:
                opened, held = names[kind], [value]
            elif opened is None:
                yield "data", value
            else:
                held.append(value)
                if kind in ("variable_end", "block_end", "comment_end"):
                    yield opened, "".join(held)
                    opened = None
    except TemplateSyntaxError as error:
        raise TemplateError(_syntax(error), error.lineno) from None
    if opened is not None:
        _refuse(f"is no template: {held[0]} is not closed", text.count("\n") + 1)


def _refuse(message: str, line: int, **names: object) -> Never:
    raise TemplateError(message, line, **names)  # type: ignore[arg-type]


def _syntax(error: TemplateSyntaxError) -> str:
    return f"is no template: {(error.message or 'it cannot be read').rstrip('.')[:200]}"


def _parsed(text: str) -> nodes.Template:
    if (character := re.search(f"[{_OPEN}{_CLOSE}]", text)) is not None:
        _refuse(f"the character U+{ord(character[0]):04X} is ours: remove it", text.count("\n", 0, character.start()) + 1)
    for _ in pieces(text):
        pass  # {% raw %} leaves no trace in the tree
    try:
        return _ENVIRONMENT.parse(text)
    except TemplateSyntaxError as error:
        _refuse(_syntax(error), error.lineno)
    except RecursionError:
        _refuse("is nested too deeply", 1)
    except ValueError as error:  # a number of thousands of digits
        _refuse(f"is no template: {error}", 1)


# ---- Filters


def _quantized(number: float, decimals: int) -> Decimal:
    return Decimal(repr(number)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)


def _round(number: float, decimals: int = 0) -> float:
    return float(_quantized(number, decimals))


def _money(number: float, symbol: str = "") -> str:
    amount = _quantized(number, 2)
    return f"{'-' if amount < 0 else ''}{symbol}{abs(amount):,.2f}"


_MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_DATE_PARTS: Mapping[str, Callable[[date], str]] = {
    "%d": lambda day: f"{day.day:02d}",
    "%e": lambda day: str(day.day),
    "%m": lambda day: f"{day.month:02d}",
    "%b": lambda day: _MONTHS[day.month - 1][:3],
    "%B": lambda day: _MONTHS[day.month - 1],
    "%y": lambda day: f"{day.year % 100:02d}",
    "%Y": lambda day: str(day.year),
    "%a": lambda day: _DAYS[day.weekday()][:3],
    "%A": lambda day: _DAYS[day.weekday()],
}
_DATE_PART = re.compile("%.?")


def _date(day: date, form: str = "%e %B %Y") -> str:
    return _DATE_PART.sub(lambda part: _DATE_PARTS[part[0]](day), form)


def _truncate(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    whole = text[: most - 1].rsplit(" ", 1)[0] if " " in text[: most - 1] and text[most - 1] != " " else text[: most - 1]
    return f"{whole.rstrip()}…"


def _default(value: object, fallback: object) -> object:
    return fallback if value is None or value == "" else value


def _first(items: Sequence[object]) -> object:
    return items[0] if items else None


def _last(items: Sequence[object]) -> object:
    return items[-1] if items else None


def _join(items: Sequence[object], between: str = ", ") -> str:
    return between.join(map(str, items))


def _urlencode(value: object) -> str:
    return quote(_text(value), safe="")


def _text(value: object) -> str:
    match value:
        case None | "":
            raise RenderError("a value is empty")
        case str():
            return value
        case bool():
            raise RenderError("a value is true or false")
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 10**15 else repr(value)
        case date():
            return value.isoformat()
        case _:
            raise RenderError(f"a value is no text: {type(value).__name__}")


_Argument = Callable[[object], bool]


def _is_whole(least: int, most: int) -> _Argument:
    return lambda value: type(value) is int and least <= value <= most


def _is_text(most: int) -> _Argument:
    return lambda value: isinstance(value, str) and len(value) <= most


def _is_form(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 60 and all(part in _DATE_PARTS for part in _DATE_PART.findall(value))


@dataclass(frozen=True)
class _Filter:
    """What a filter takes and gives, and which literal it may be given (``least`` = 1: must be given)."""

    call: Callable[..., object]
    takes: frozenset[Kind]
    gives: Kind
    argument: _Argument | None = None
    expected: str = ""
    least: int = 0
    can_be_empty: bool = False


_OF_TEXT: frozenset[Kind] = frozenset({"text"})
_OF_NUMBER: frozenset[Kind] = frozenset({"number"})
_OF_LIST: frozenset[Kind] = frozenset({"list"})
_SHOWN: frozenset[Kind] = frozenset({"number", "text", "date"})
_FILTERS: Mapping[str, _Filter] = {
    "lower": _Filter(str.lower, _OF_TEXT, "text"),
    "upper": _Filter(str.upper, _OF_TEXT, "text"),
    "capitalize": _Filter(str.capitalize, _OF_TEXT, "text"),
    "title": _Filter(do_title, _OF_TEXT, "text"),
    "trim": _Filter(str.strip, _OF_TEXT, "text"),
    "truncate": _Filter(_truncate, _OF_TEXT, "text", _is_whole(2, 10_000), "how many characters, such as truncate(40)", 1),
    "round": _Filter(_round, _OF_NUMBER, "number", _is_whole(0, 6), "how many decimals, from 0 to 6"),
    "money": _Filter(_money, _OF_NUMBER, "text", _is_text(5), "the sign of the currency, such as money('$')"),
    "date": _Filter(_date, frozenset({"date"}), "text", _is_form, f"a form made of {' '.join(_DATE_PARTS)}, such as date('%e %B')"),
    "join": _Filter(_join, _OF_LIST, "text", _is_text(20), "what stands between the items, such as join(', ')"),
    "first": _Filter(_first, _OF_LIST, "text", can_be_empty=True),
    "last": _Filter(_last, _OF_LIST, "text", can_be_empty=True),
    "length": _Filter(len, frozenset({"list", "text"}), "number"),
    "urlencode": _Filter(_urlencode, _SHOWN, "text"),
}
FILTERS = ("default", *_FILTERS)
"""Every filter of the dialect."""

_WRITERS: Mapping[str, Callable[[object], str]] = {
    "_text": _text,
    "_html": lambda value: escape(_text(value), quote=True),
    "_link": lambda value: quote(_text(value), safe=""),
    "_linked": _text,  # was percent-encoded by the template
    "_slot": lambda name: SLOTS[str(name)],
}


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, cache_size=0
    )
    environment.globals.clear()
    environment.tests = {name: environment.tests[name] for name in ("none",)}
    environment.filters = {"default": _default, **{name: each.call for name, each in _FILTERS.items()}, **_WRITERS}
    return environment


_ENVIRONMENT = _environment()
_PLAIN = ImmutableSandboxedEnvironment(keep_trailing_newline=True)
"""Reads pieces so that, put together again, they are the text."""


# ---- Where a value stands


@dataclass(frozen=True)
class Spot:
    """Where in its medium the text has come to.

    ``state``: text; a link within text; of HTML: in a ``tag``, in the quoted value of an attribute, in a comment, or in an element that
    is no text. ``name``: of the element or attribute. ``written``: of a link, so far.
    """

    state: Literal["text", "link", "tag", "value", "comment", "raw"] = "text"
    name: str = ""
    quote: str = ""
    written: str = ""
    element: str = ""


_LINKS = frozenset({"href", "src", "action", "background"})
_ACTS = re.compile(r"on.*|style|srcdoc|srcset|formaction|xlink:href|")
_LINK_TAIL = re.compile(r"(?i)https?://[^\s<>\"']*\Z")
_HOST = re.compile(r"(?i)https://[a-z0-9.-]+(?::\d+)?[/?#]")
_TAG = re.compile(r"</?([a-zA-Z][^\s/>]*)|<[!?]|</?\Z")
_UNFINISHED = "?"
"""The element of a tag whose name goes on behind a piece of the template: it could be any."""
_ATTRIBUTE = re.compile(r"([^\s\"'<>/=]+)\s*=\s*\Z")


def after_text(spot: Spot, data: str) -> Spot:
    """Return where a text has come to behind more of it."""
    tail = _LINK_TAIL.search(spot.written + data)
    return Spot("link", written=tail[0]) if tail else Spot()


def _element(tag: re.Match[str], data: str) -> str:
    if tag.end() == len(data):
        return _UNFINISHED
    return "" if tag[0].startswith("</") else (tag[1] or "").lower()


def after_html(spot: Spot, data: str) -> Spot:
    """Return where HTML has come to behind more of it."""
    at = 0
    while at < len(data):
        match spot.state:
            case "text" | "link":
                tag = _TAG.search(data, at)
                comment = data.find("<!--", at)
                if comment >= 0 and (tag is None or comment <= tag.start()):
                    spot, at = Spot("comment"), comment + 4
                elif tag is None:
                    return Spot()
                else:
                    spot, at = Spot("tag", element=_element(tag, data)), tag.end()
            case "comment":
                end = data.find("-->", at)
                if end < 0:
                    return spot
                spot, at = Spot(), end + 3
            case "raw":
                end = data.lower().find(f"</{spot.element}", at)
                if end < 0:
                    return spot
                spot, at = Spot("tag"), end + 2 + len(spot.element)
            case "tag":
                sign = re.compile("[>\"']").search(data, at)
                if sign is None:
                    return spot
                if sign[0] == ">":
                    spot = Spot("raw", element=spot.element) if spot.element in ("script", "style", _UNFINISHED) else Spot()
                else:
                    named = _ATTRIBUTE.search(data, at, sign.start())
                    spot = Spot("value", (named[1] if named else "").lower(), sign[0], element=spot.element)
                at = sign.end()
            case "value":
                end = data.find(spot.quote, at)
                if end < 0:
                    return replace(spot, written=spot.written + data[at:])
                spot, at = Spot("tag", element=spot.element), end + 1
    return spot


# ---- The dialect


@dataclass(frozen=True)
class _Value:
    """What an expression gives: of which kinds, and whether it can be empty; ``name``: of the column it is."""

    kinds: frozenset[Kind]
    can_be_empty: bool = False
    name: str = ""


_NOUNS: Mapping[type, str] = {
    **dict.fromkeys((nodes.Call, nodes.CallBlock, nodes.Macro), "calls and macros are outside the dialect: use the filters"),
    **dict.fromkeys(
        (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.Neg, nodes.Pos),
        "a template does not calculate: declare a trait, and name it here",
    ),
    **dict.fromkeys((nodes.Getattr, nodes.Getitem, nodes.Slice), "a template does not reach into a value: use first, last or for"),
    nodes.CondExpr: "is written {% if x %}...{% else %}...{% endif %} here",
    nodes.Concat: "texts are put together by writing them next to each other: {{ a }}{{ b }}",
    **dict.fromkeys((nodes.Assign, nodes.AssignBlock, nodes.With), "a template sets nothing: name the column where it is used"),
    **dict.fromkeys(
        (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block),
        "a template includes nothing: put blocks next to each other in the content's body",
    ),
    **dict.fromkeys((nodes.List, nodes.Tuple, nodes.Dict), "a list stands only after 'in': x in ['a', 'b']"),
}
_COMPARISONS = frozenset({"eq", "ne", "gt", "gteq", "lt", "lteq", "in", "notin"})
_VARIABLE = re.compile("[a-z][a-z0-9_]*")


class _Check:
    """One pass over a template's tree: refuses what is outside the dialect, and has each value written as its place wants it."""

    def __init__(
        self, text: str, schema: Mapping[str, pl.DataType], nullable: Collection[str], escape: Escape, slots: Collection[str]
    ) -> None:
        self.text = text
        self.names: dict[str, _Value] = {
            name: _Value(frozenset({_KINDS[dtype]}), name in nullable, name) for name, dtype in schema.items() if dtype in _KINDS
        }
        self.allowed = frozenset(slots) if escape != "header" else frozenset()
        self.after = after_html if escape == "html" else after_text
        self.columns: set[str] = set()
        self.slots: set[str] = set()
        self.is_looping = False
        self.variable: str | None = None

    def rewrite(self, tree: nodes.Template) -> None:
        """Check a tree, and put the writer of its place around each value; raises TemplateError."""
        self._bound(tree)
        end = self._statements(tree.body, Spot(), frozenset())
        if end.state not in ("text", "link"):
            _refuse("ends inside a tag, a comment or a quoted value", self.text.count("\n") + 1)

    @staticmethod
    def _bound(tree: nodes.Node) -> None:
        level: list[nodes.Node] = [tree]
        parts = 0
        for _ in range(_DEEPEST):
            parts += len(level)
            level = [child for node in level for child in node.iter_child_nodes()]
            if parts > _MOST_PARTS:
                _refuse(f"has more than {_MOST_PARTS:,} parts", tree.lineno)
            if not level:
                return
        _refuse("is nested too deeply", level[0].lineno)

    def _statements(self, statements: Sequence[nodes.Node], spot: Spot, known: frozenset[str]) -> Spot:
        for statement in statements:
            match statement:
                case nodes.Output():
                    spot = self._output(statement, spot, known)
                case nodes.If():
                    spot = self._if(statement, spot, known)
                case nodes.For():
                    spot = self._for(statement, spot, known)
                case _:
                    raise self._outside(statement)
        return spot

    def _output(self, output: nodes.Output, spot: Spot, known: frozenset[str]) -> Spot:
        written: list[nodes.Expr] = []
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                spot = self.after(spot, node.data)
                written.append(node)
            elif isinstance(node, nodes.Name) and node.name in SLOTS:
                written.append(self._slot(node, spot))
            else:
                value = self._expression(node, known)
                self._full(node, value)
                self._kind(node, value, _SHOWN, "to show it")
                written.append(_filtered(node, self._writer(node, spot)))
        output.nodes = written
        return spot

    def _slot(self, node: nodes.Name, spot: Spot) -> nodes.Expr:
        if node.name not in self.allowed:
            _refuse(f"{node.name} is put in when a message is handed over, and cannot stand here", node.lineno)
        is_free = spot.state == "text" or (spot.state == "value" and spot.name in _LINKS and not spot.written)
        if not is_free:
            _refuse(f"{node.name} stands alone: in the text, or as the whole value of an href", node.lineno)
        self.slots.add(node.name)
        return _filtered(nodes.Const(node.name, lineno=node.lineno), "_slot")

    def _writer(self, node: nodes.Expr, spot: Spot) -> str:
        is_link = spot.state == "link" or (spot.state == "value" and spot.name in _LINKS)
        if is_link:
            if not _HOST.match(spot.written):
                _refuse("a link begins with https:// and its host: values stand only after those", node.lineno)
            return "_linked" if isinstance(node, nodes.Filter) and node.name == "urlencode" else "_link"
        if spot.state in ("tag", "comment", "raw") or (spot.state == "value" and _ACTS.fullmatch(spot.name)):
            _refuse("a value stands only in the text, or in the quoted value of an attribute that is no style and no script", node.lineno)
        return "_html" if self.after is after_html else "_text"

    def _if(self, node: nodes.If, spot: Spot, known: frozenset[str]) -> Spot:
        ends: list[Spot] = []
        for branch in (node, *node.elif_):
            self._expression(branch.test, known)
            ends.append(self._statements(branch.body, spot, known | _full_where(branch.test, truth=True)))
            known |= _full_where(branch.test, truth=False)
        ends.append(self._statements(node.else_, spot, known))
        return self._same(ends, node)

    def _for(self, node: nodes.For, spot: Spot, known: frozenset[str]) -> Spot:
        if self.is_looping:
            _refuse("a for inside a for is outside the dialect", node.lineno)
        if node.test is not None or node.recursive or not isinstance(node.target, nodes.Name):
            _refuse("is written {% for x in list %} here, with an if inside", node.lineno)
        name = node.target.name
        if name in self.names or name in SLOTS or name == "loop" or not _VARIABLE.fullmatch(name):
            _refuse(f"'{name[:60]}' is taken: name the item otherwise, in small letters", node.lineno)
        items = self._expression(node.iter, known)
        self._full(node.iter, items)
        self._kind(node.iter, items, _OF_LIST, "for goes over a list")
        self.names[name], self.is_looping, self.variable = _Value(_OF_TEXT), True, name
        end = self._statements(node.body, spot, known)
        del self.names[name]
        self.is_looping, self.variable = False, None
        # The second round must find the place that the first found: a link goes on within a round only.
        return self._same([spot, end, self._statements(node.else_, spot, known)], node)

    def _same(self, ends: Sequence[Spot], node: nodes.Node) -> Spot:
        if len({(end.state, end.name, end.quote, end.element) for end in ends}) > 1:
            if all(end.state in ("text", "link") for end in ends):
                _refuse("a link is written whole in one branch: put a blank after it", node.lineno)
            _refuse("what is opened in a branch (a tag, a quote) is closed in it", node.lineno)
        return min(ends, key=lambda end: len(end.written))

    def _expression(self, node: nodes.Node, known: frozenset[str]) -> _Value:
        match node:
            case nodes.Name():
                return self._name(node, known)
            case nodes.Const() | nodes.Neg():
                return self._literal(node)
            case nodes.Filter():
                return self._filter(node, known)
            case nodes.Not():
                self._expression(node.node, known)
                return _Value(frozenset({"true or false"}))
            case nodes.And() | nodes.Or():
                self._expression(node.left, known)
                self._expression(node.right, known | _full_where(node.left, truth=isinstance(node, nodes.And)))
                return _Value(frozenset({"true or false"}))
            case nodes.Compare():
                return self._comparison(node, known)
            case nodes.Test():
                if node.name != "none" or node.args or node.kwargs:
                    _refuse(f"the test 'is {node.name[:60]}' is outside the dialect: there is only 'is none'", node.lineno)
                self._expression(node.node, known)
                return _Value(frozenset({"true or false"}))
            case _:
                raise self._outside(node)

    def _name(self, node: nodes.Name, known: frozenset[str]) -> _Value:
        if node.name in SLOTS:
            _refuse(f"{node.name} stands alone: {{{{ {node.name} }}}}", node.lineno)
        if node.name not in self.names:
            _refuse(f"unknown column '{node.name[:60]}'", node.lineno, name=node.name, valid=(*self.names, *sorted(self.allowed)))
        if node.name != self.variable:
            self.columns.add(node.name)
        value = self.names[node.name]
        return replace(value, can_be_empty=False) if node.name in known else value

    @staticmethod
    def _literal(node: nodes.Node) -> _Value:
        constant = node.node if isinstance(node, nodes.Neg) else node
        value = constant.value if isinstance(constant, nodes.Const) else None
        match value:
            case bool() if constant is node:
                return _Value(frozenset({"true or false"}))
            case int() | float() if math.isfinite(value):
                return _Value(_OF_NUMBER)
            case str() if constant is node:
                return _Value(_OF_TEXT)
            case None if constant is node:
                _refuse("none stands only in 'is none' and 'is not none'", node.lineno)
            case _:
                _refuse(_NOUNS[nodes.Neg], node.lineno)

    def _filter(self, node: nodes.Filter, known: frozenset[str]) -> _Value:
        if node.node is None:
            raise self._outside(node)
        name = node.name
        if name not in FILTERS:
            _refuse(f"unknown filter '{name[:60]}'", node.lineno, name=name, valid=FILTERS)
        value = self._expression(node.node, known)
        if node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None or len(node.args) > 1:
            _refuse(f"{name} takes at most one value, without a name", node.lineno)
        if name == "default":
            return self._defaulted(node, value, known)
        filter_ = _FILTERS[name]
        self._full(node.node, value)
        self._kind(node.node, value, filter_.takes, f"for {name}")
        given = [argument.value if isinstance(argument, nodes.Const) else None for argument in node.args]
        is_fitting = len(given) >= filter_.least and all(filter_.argument is not None and filter_.argument(each) for each in given)
        if not is_fitting:
            _refuse(f"{name} takes {filter_.expected or 'no value'}", node.lineno)
        return _Value(frozenset({filter_.gives}), filter_.can_be_empty)

    def _defaulted(self, node: nodes.Filter, value: _Value, known: frozenset[str]) -> _Value:
        if len(node.args) != 1:
            _refuse("default takes what stands where there is nothing, such as default('there')", node.lineno)
        (argument,) = node.args
        if isinstance(argument, nodes.Const) and isinstance(argument.value, str) and not argument.value.strip():
            _refuse("default('') leaves a hole: write what stands there, or an {% if %} around it", node.lineno)
        fallback = self._expression(argument, known)
        return _Value(value.kinds | fallback.kinds, value.can_be_empty and fallback.can_be_empty, fallback.name)

    def _comparison(self, node: nodes.Compare, known: frozenset[str]) -> _Value:
        if len(node.ops) != 1:
            _refuse("is compared once here: write a < b and b < c", node.lineno)
        (operand,) = node.ops
        assert operand.op in _COMPARISONS, f"Jinja2 has a comparison that nobody here knows: {operand.op}"
        left = self._expression(node.expr, known)
        if operand.op in ("in", "notin"):
            self._full(node.expr, left)
            right = self._members(operand.expr, known)
            if left.kinds not in (right.kinds, _OF_TEXT):
                _refuse(f"a {_words(left.kinds)} is not looked for in {_words(right.kinds)}", node.lineno)
            return _Value(frozenset({"true or false"}))
        right = self._expression(operand.expr, known)
        if operand.op != "eq":
            self._full(node.expr, left)
            self._full(operand.expr, right)
        if left.kinds != right.kinds or (left.kinds & {"list", "true or false"} and operand.op not in ("eq", "ne")):
            _refuse(f"{_words(left.kinds)} is compared with {_words(right.kinds)}", node.lineno)
        return _Value(frozenset({"true or false"}))

    def _members(self, node: nodes.Node, known: frozenset[str]) -> _Value:
        if not isinstance(node, nodes.List | nodes.Tuple):
            value = self._expression(node, known)
            self._full(node, value)
            self._kind(node, value, frozenset({"list", "text"}), "to look in it")
            return _Value(_OF_TEXT)
        kinds = [self._literal(item).kinds for item in node.items if isinstance(item, nodes.Const | nodes.Neg)]
        if len(kinds) != len(node.items) or len(set(kinds)) != 1:
            _refuse("a list is written with texts only, or numbers only: x in ['a', 'b']", node.lineno)
        return _Value(kinds[0])

    def _full(self, node: nodes.Node, value: _Value) -> None:
        if value.can_be_empty:
            what = f"column '{value.name}'" if value.name else "it"
            hint = f"{value.name or 'list'} | default('...')"
            around = f", or {{% if {value.name} %}} around it" if value.name else ""
            _refuse(f"{what} can be empty: write {hint}{around}", node.lineno, name=None)

    @staticmethod
    def _kind(node: nodes.Node, value: _Value, kinds: frozenset[Kind], purpose: str) -> None:
        if not value.kinds <= kinds:
            what = f"column '{value.name}'" if value.name else "it"
            _refuse(f"{what} is {_words(value.kinds)}, and {_words(kinds)} is expected {purpose}", node.lineno)

    @staticmethod
    def _outside(node: nodes.Node) -> TemplateError:
        reason = next((reason for kind, reason in _NOUNS.items() if isinstance(node, kind)), None)
        _refuse(
            reason or f"{type(node).__name__.lower()} is outside the dialect: {{{{ }}}}, if, for and the filters are in it", node.lineno
        )


def _full_where(test: nodes.Node, *, truth: bool) -> frozenset[str]:
    """Return which columns are certainly not empty where a test is true, or is false."""
    match test:
        case nodes.Name():
            return frozenset({test.name}) if truth else frozenset()
        case nodes.Not():
            return _full_where(test.node, truth=not truth)
        case nodes.And() | nodes.Or():
            left, right = _full_where(test.left, truth=truth), _full_where(test.right, truth=truth)
            return left | right if isinstance(test, nodes.And) == truth else left & right
        case nodes.Test(node=nodes.Name(name=name)):
            return frozenset() if truth else frozenset({name})
        case nodes.Compare(expr=nodes.Name(name=name), ops=[nodes.Operand(op="eq", expr=nodes.Const())]):
            return frozenset({name}) if truth else frozenset()
        case _:
            return frozenset()


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _words(kinds: Iterable[Kind]) -> str:
    return " or ".join(sorted(kinds))
