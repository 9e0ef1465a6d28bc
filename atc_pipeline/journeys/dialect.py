"""The one expression dialect of ``journeys.yaml`` (SPEC 0): Polars SQL expressions, minus everything that surprises.

What belongs here: reading an expression, refusing what is outside the dialect with the remedy, and compiling the rest.
What does not: which columns there are (``portfolio``), or where in the file an expression stands (``resolution``).

``pl.sql_expr`` accepts more than a marketer should meet, and several things fail only on real rows, or never: ``now()``,
aggregates, ``5 < x < 10``, a date compared with a number, text cast to a date, a boolean compared with ``'true'``, decimals
as fixed point, 32-bit and unsigned whole numbers that wrap. So the text is parsed here and every part gets a kind. What
Polars then compiles is the same text with each column quoted, each decimal a Float64 and each whole number 64 bits wide.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, Never

import polars as pl

from atc_pipeline.journeys.portfolio import Condition

Kind = Literal["number", "text", "date", "boolean", "list"]


class DialectError(ValueError):
    """An expression is outside the dialect; the message says what is wrong and what to write instead."""


def compile_condition(text: str, schema: Mapping[str, pl.DataType]) -> Condition:
    """Compile a condition over the columns of ``schema``; its expression is Boolean and never null (null is false)."""
    parser = _Parser(text, _kinds_of(schema))
    term = parser.parse()
    parser.require(term, ("boolean",), "a condition")
    return _compile(parser, term, schema, pl.Boolean())


def compile_number(text: str, schema: Mapping[str, pl.DataType]) -> Condition:
    """Compile a numeric expression over the columns of ``schema``; its expression is Float64 and may be null."""
    parser = _Parser(text, _kinds_of(schema))
    term = parser.parse()
    if term.kind != "number":
        _refuse(f"{parser.quote(term)} is {_NOUNS[term.kind]}, and a number is expected here")
    return _compile(parser, term, schema, pl.Float64())


def compile_event_condition(text: str) -> Condition:
    """Compile a condition over event properties, whose kinds follow from their use (text where nothing tells).

    The columns of the result are the properties read, each String, Float64 or Boolean. A dot reaches into a nested object.
    """
    kinds: dict[str, Kind | None] = {}
    while True:
        known = dict(kinds)
        parser = _Parser(text, kinds, infer=True)
        term = parser.parse()
        parser.require(term, ("boolean",), "a condition")
        undecided = next((name for name, kind in kinds.items() if kind is None), None)
        if kinds == known and undecided is None:
            return _compile(parser, term, {name: _PROPERTY_TYPES[kind] for name, kind in kinds.items() if kind}, pl.Boolean())
        if kinds == known and undecided is not None:
            kinds[undecided] = "text"


def is_pattern(name: str) -> bool:
    """Return whether Polars takes a name for several columns: no property can be read by it."""
    return name == "*" or (name.startswith("^") and name.endswith("$"))


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the valid name nearest to a wrong one, and nothing where none is near."""
    names = sorted(valid)
    close = [other for other in names if other.casefold() == name.casefold()] or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


KEYWORDS = frozenset({"and", "or", "not", "is", "null", "true", "false", "between", "in", "like", "case", "when", "then", "else", "end"})
"""Words that cannot stand bare as the name of a column."""

_ORDERINGS = frozenset({"<", "<=", ">", ">="})
_COMPARISONS = _ORDERINGS | {"=", "==", "!=", "<>"}
_WORD_PREDICATES = frozenset({"between", "in", "like"})
_NEVER_NAMES = frozenset({"current_date", "current_timestamp", "current_time", "localtime", "localtimestamp", "select", "exists"})
_DEEPEST = 9  # two more, at worst, and Polars' own parser runs into its limit, which can take it forever
_LARGEST = 2**63 - 1
_NOUNS: Mapping[Kind | None, str] = {
    "number": "a number",
    "text": "text",
    "date": "a date",
    "boolean": "true or false",
    "list": "a list",
    None: "always null",
}
_KINDS: Mapping[pl.DataType, Kind] = {
    pl.Int64(): "number",
    pl.Float64(): "number",
    pl.String(): "text",
    pl.Date(): "date",
    pl.Boolean(): "boolean",
    pl.List(pl.String()): "list",
}
_PROPERTY_TYPES: Mapping[Kind, pl.DataType] = {"text": pl.String(), "number": pl.Float64(), "boolean": pl.Boolean()}
_CAST_TYPES: Mapping[str, tuple[str, Kind]] = {
    **dict.fromkeys(("bigint", "int", "integer"), ("bigint", "number")),
    **dict.fromkeys(("double", "float", "real"), ("double", "number")),
    **dict.fromkeys(("varchar", "text", "string"), ("varchar", "text")),
}
_DATE_PARTS = ("year", "quarter", "month", "week", "day", "dow", "isodow", "doy", "isoyear")
_FUNCTIONS: Mapping[str, tuple[tuple[Kind, ...], int, int, Kind | None]] = {
    # the kinds an argument may have, the least and the most arguments, the kind of the result (None: that of the arguments)
    "least": (("number", "text", "date"), 2, 99, None),
    "greatest": (("number", "text", "date"), 2, 99, None),
    "coalesce": (("number", "text", "date", "boolean"), 1, 99, None),
    "ifnull": (("number", "text", "date", "boolean"), 2, 2, None),
    "nullif": (("number", "text", "date", "boolean"), 2, 2, None),
    "abs": (("number",), 1, 1, "number"),
    "round": (("number",), 1, 2, "number"),
    "floor": (("number",), 1, 1, "number"),
    "ceil": (("number",), 1, 1, "number"),
    "pow": (("number",), 2, 2, "number"),
    "ln": (("number",), 1, 1, "number"),
    "exp": (("number",), 1, 1, "number"),
    "sqrt": (("number",), 1, 1, "number"),
    "lower": (("text",), 1, 1, "text"),
    "upper": (("text",), 1, 1, "text"),
    "length": (("text",), 1, 1, "number"),
    "starts_with": (("text",), 2, 2, "boolean"),
    "ends_with": (("text",), 2, 2, "boolean"),
}
FUNCTIONS = (*_FUNCTIONS, "array_contains", "extract", "try_cast")
"""Every function of the dialect; whatever is not listed is refused."""

_AGES = "use tenure_days or a days_since_* trait, which count whole days up to the day of the run"
_AGGREGATE = "looks at many rows, and an expression sees one: declare a trait that counts or adds up, and name it here"
_CLOCK = f"reads the clock, and a day must come out the same whenever it is computed: {_AGES}"
_DATE_ARITHMETIC = f"calculates with dates, which gives no number: {_AGES}"
_TEXT_TESTS = "is outside the dialect: write x like '%part%', or lower(x) like '%part%' for any case"
_REMEDIES: Mapping[str, str] = {
    **dict.fromkeys(("sum", "avg", "mean", "count", "median", "stddev", "variance", "first", "last", "quantile", "any_value"), _AGGREGATE),
    "min": f"{_AGGREGATE}; the smaller of two values is least(a, b)",
    "max": f"{_AGGREGATE}; the larger of two values is greatest(a, b)",
    **dict.fromkeys(
        ("over", "row_number", "rank", "dense_rank", "percent_rank", "lag", "lead"), f"is a window function, which {_AGGREGATE}"
    ),
    **dict.fromkeys(("select", "exists"), f"starts a subquery, which {_AGGREGATE}"),
    **dict.fromkeys(("now", "today", "current_date", "current_timestamp", "current_time", "localtime", "localtimestamp"), _CLOCK),
    **dict.fromkeys(("interval", "date_diff", "datediff", "date_add", "date_sub", "date_trunc", "age"), _DATE_ARITHMETIC),
    **dict.fromkeys(("date_part", "year", "month", "day", "week"), "is written extract(month from x) here"),
    "date": "is no function here: a date is written date '2026-12-24'",
    **dict.fromkeys(("timestamp", "datetime", "time"), "is outside the dialect: columns are whole days, written date '2026-12-24'"),
    **dict.fromkeys(("cast", "::"), "stops the run at the first value that does not fit: write try_cast(x as double), which gives null"),
    **dict.fromkeys(("is_null", "isnull"), "is written x is null here"),
    **dict.fromkeys(("is_not_null", "notnull"), "is written x is not null here"),
    **dict.fromkeys(("if", "iff", "iif"), "is written case when ... then ... else ... end here"),
    **dict.fromkeys(("power", "**", "^"), "is written pow(x, 2) here"),
    **dict.fromkeys(("log", "log10", "log2"), "is outside the dialect: ln(x) is the natural logarithm"),
    "ceiling": "is written ceil(x) here",
    **dict.fromkeys(("len", "char_length", "strlen"), "is written length(x) here"),
    **dict.fromkeys(("ilike", "similar", "rlike", "regexp", "regexp_like", "~", "contains", "strpos", "position"), _TEXT_TESTS),
    **dict.fromkeys(("array_has", "list_contains", "list_has"), "is written array_contains(x, 'value') here"),
    **dict.fromkeys(("concat", "||"), "is outside the dialect: text is compared, never put together"),
    **dict.fromkeys(("div", "//"), "is outside the dialect: write floor(a / b)"),
    **dict.fromkeys(("mod",), "is written a % b here"),
    "xor": "is outside the dialect: write (a and not b) or (b and not a)",
    "<=>": "is outside the dialect: write x = y, and x is null",
    "&&": "is written 'and' here",
    "!": "is written 'not' here",
    "--": "starts a comment: comments belong to YAML, after a #",
    "/*": "starts a comment: comments belong to YAML, after a #",
}
_TOKEN = re.compile(
    r"""(?P<string>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")+")
      | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<name>[^\W\d]\w*)
      | (?P<operator><=>|<=|>=|<>|!=|==|&&|\|\||::|\*\*|//|--|/\*|[-+*/%=<>(),.!^~])""",
    re.VERBOSE,
)


def _refuse(reason: str) -> Never:
    raise DialectError(reason)


def _kinds_of(schema: Mapping[str, pl.DataType]) -> dict[str, Kind | None]:
    return {name: _KINDS[dtype] for name, dtype in schema.items() if dtype in _KINDS}


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _number(text: str) -> str:
    """Write a number as Polars must read it: whole numbers as Int64, decimals as Float64 rather than fixed point."""
    if not text.isdecimal():
        if not math.isfinite(float(text)):
            _refuse(f"the number {text} is too large")
        return text if "e" in text.lower() else f"{text}e0"
    if int(text) > _LARGEST:
        _refuse(f"the number {text} is too large")
    return f"{text}::bigint"


def _quoting(quoted: str) -> str:
    return f"double quotes name columns: use single quotes for text, '{quoted[1:-1]}'"


@dataclass(frozen=True)
class _Token:
    kind: str  # a group of _TOKEN, or "end"
    text: str
    start: int

    @property
    def word(self) -> str:
        """The token as keywords and operators are compared: lower case, and empty for text, numbers and quoted names."""
        return self.text.lower() if self.kind in ("name", "operator") else ""


def _tokenize(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if not match:
            rest = text[at : at + 20]
            if rest[0] in "'\"":
                _refuse(f"the quote that opens at {rest} is never closed (a quote inside text is written twice: 'it''s')")
            if rest[0] in "“”‘’„‚«»`´":
                _refuse(f"{rest[0]} is no quote here: text stands in straight single quotes, 'text'")
            if rest[0].isdigit() or rest[0] == ".":
                _refuse(f"{rest} begins like a number and is none: numbers are written 1000, 0.5 or 1e6")
            _refuse(f"'{rest[0]}' is outside the dialect (at {rest})")
        yield _Token(match.lastgroup or "", match.group(), at)
        at = match.end()
    yield _Token("end", "", len(text))


@dataclass(frozen=True)
class _Term:
    """A parsed sub-expression: what Polars will read, its kind, and where it stands in the text.

    ``kind`` is None for null, and while the properties in ``undecided`` are still to decide it.
    """

    sql: str
    kind: Kind | None
    start: int
    end: int
    undecided: tuple[str, ...] = ()
    is_null: bool = False
    is_literal: bool = False


class _Parser:
    """Recursive descent over one expression.

    ``kinds`` are the columns there are. With ``infer`` any name is one, and its kind is written into ``kinds`` once its use shows it.
    """

    def __init__(self, text: str, kinds: dict[str, Kind | None], *, infer: bool = False) -> None:
        self.text = text
        self.kinds = kinds
        self.infer = infer
        self.columns: dict[str, None] = {}
        self._tokens = list(_tokenize(text))
        self._at = 0
        self._depth = 0

    def parse(self) -> _Term:
        """Parse the whole text as one expression."""
        if self._token.kind == "end":
            _refuse("the expression is empty")
        term = self._or()
        if self._token.kind != "end":
            self._stuck("an operator or the end")
        return term

    def quote(self, term: _Term) -> str:
        """Return a term as it stands in the text."""
        return self.text[term.start : term.end]

    def require(self, term: _Term, kinds: tuple[Kind, ...], user: str, *, nullable: bool = False) -> None:
        """Refuse a term that is of none of these kinds; where only one is possible it decides an undecided term."""
        if term.kind is None and not term.is_null:
            if len(kinds) == 1:
                self._decide(term, kinds[0])
        elif not (term.kind in kinds or (nullable and term.is_null)):
            quoted = self.quote(term)
            remedy = ""
            if kinds == ("number",) and term.kind == "boolean":
                remedy = f": write case when {quoted} then 1 else 0 end"
            elif kinds == ("number",) and term.kind == "text":
                remedy = ": numbers stand without quotes" if term.is_literal else f": write try_cast({quoted} as double)"
            elif kinds == ("boolean",) and not term.is_null:
                remedy = ": compare it with something"
            _refuse(f"{quoted} is {_NOUNS[term.kind]}, and {user} needs {' or '.join(_NOUNS[kind] for kind in kinds)}{remedy}")

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    @property
    def _following(self) -> _Token:
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    @property
    def _end(self) -> int:
        """Where the last token read ends."""
        last = self._tokens[self._at - 1]
        return last.start + len(last.text)

    def _next(self) -> _Token:
        token = self._token
        if token.kind != "end":
            self._at += 1
        return token

    def _accept(self, words: Collection[str]) -> str:
        return self._next().word if self._token.word in words else ""

    def _expect(self, word: str) -> None:
        if not self._accept((word,)):
            self._stuck(f"'{word}'")

    def _stuck(self, expected: str) -> Never:
        token = self._token
        if token.word in _REMEDIES:
            _refuse(f"'{token.text}' {_REMEDIES[token.word]}")
        after = f" after {self.text[: self._end][-30:]}" if self._at else ""
        found = "it ends" if token.kind == "end" else f"found {token.text}"
        _refuse(f"expected {expected}{after}, {found}")

    def _term(self, sql: str, kind: Kind | None, start: int) -> _Term:
        return _Term(sql, kind, start, self._end)

    # The grammar, loosest binding first.

    def _or(self) -> _Term:
        if self._depth > _DEEPEST:
            _refuse(f"more than {_DEEPEST} brackets (or cases) inside each other: name a part of it as a segment or a trait")
        self._depth += 1
        term = self._chain("or", lambda: self._chain("and", self._not))
        self._depth -= 1
        return term

    def _chain(self, word: str, operand: Callable[[], _Term]) -> _Term:
        terms = [operand()]
        while self._accept((word,)):
            terms.append(operand())
        if len(terms) == 1:
            return terms[0]
        for term in terms:
            self.require(term, ("boolean",), f"'{word}'")
        return self._term(f" {word} ".join(term.sql for term in terms), "boolean", terms[0].start)

    def _not(self) -> _Term:
        start = self._token.start
        negations = 0
        while self._accept(("not",)):
            negations += 1
        term = self._predicate()
        if not negations:
            return term
        self.require(term, ("boolean",), "'not'")
        return self._term(f"not {term.sql}" if negations % 2 else term.sql, "boolean", start)

    def _predicate(self) -> _Term:
        left = term = self._sum()
        if operator := self._accept(_COMPARISONS):
            right = self._right_hand(self._sum)
            self._compare(left, right, ordered=operator in _ORDERINGS)
            term = self._term(f"{left.sql} {operator} {right.sql}", "boolean", left.start)
        elif self._accept(("is",)):
            negation = "not " if self._accept(("not",)) else ""
            if not self._accept(("null",)):
                _refuse(f"'is' knows null and not null, found {self._token.text or 'the end'}: write x, not x or x = y")
            term = self._term(f"{left.sql} is {negation}null", "boolean", left.start)
        elif self._token.word in _WORD_PREDICATES or (self._token.word == "not" and self._following.word in _WORD_PREDICATES):
            negation = "not " if self._accept(("not",)) else ""
            sql = self._word_predicate(left)
            term = self._term(f"{left.sql} {negation}{sql}", "boolean", left.start)
        if term is not left and self._token.word in _COMPARISONS | _WORD_PREDICATES | {"is", "not"}:
            _refuse(f"comparisons do not chain, as in {self.quote(term)} {self._token.text} ...: write 5 < x and x < 10, or use brackets")
        return term

    def _word_predicate(self, left: _Term) -> str:
        """Parse what follows ``between``, ``in`` or ``like`` and return it as SQL."""
        word = self._next().word
        if word == "like":
            self.require(left, ("text",), "'like'")
            pattern = self._token
            if pattern.kind == "quoted":
                _refuse(_quoting(pattern.text))
            if pattern.kind != "string":
                self._stuck("a pattern such as 'hand%'")
            return f"like {self._next().text}"
        if word == "between":
            bounds = [self._right_hand(self._sum)]
            self._expect("and")
            bounds.append(self._right_hand(self._sum))
        else:
            self._expect("(")
            bounds = [self._right_hand(self._sum)]
            while self._accept((",",)):
                bounds.append(self._right_hand(self._sum))
            self._expect(")")
        for bound in bounds:
            self._compare(left, bound, ordered=word == "between")
        if word == "between":
            return f"between {bounds[0].sql} and {bounds[1].sql}"
        return f"in ({', '.join(bound.sql for bound in bounds)})"

    def _right_hand(self, operand: Callable[[], _Term]) -> _Term:
        """Parse the right side of a comparison; with properties, only the side tells a name in double quotes from a mistake."""
        if self.infer and self._token.kind == "quoted":
            _refuse(_quoting(self._token.text))
        return operand()

    def _sum(self) -> _Term:
        return self._arithmetic(("+", "-"), lambda: self._arithmetic(("*", "/", "%"), self._signed))

    def _arithmetic(self, operators: tuple[str, ...], operand: Callable[[], _Term]) -> _Term:
        term = operand()
        while operator := self._accept(operators):
            right = operand()
            if "date" in (term.kind, right.kind):
                _refuse(f"{self.text[term.start : right.end]} {_DATE_ARITHMETIC}")
            self.require(term, ("number",), f"'{operator}'")
            self.require(right, ("number",), f"'{operator}'")
            term = self._term(f"{term.sql} {operator} {right.sql}", "number", term.start)
        return term

    def _signed(self) -> _Term:
        start = self._token.start
        signs = ""
        while sign := self._accept(("-", "+")):
            signs += sign
        term = self._primary()
        if not signs:
            return term
        self.require(term, ("number",), f"'{signs[-1]}'")
        return self._term(f"-{term.sql}" if signs.count("-") % 2 else term.sql, "number", start)

    def _primary(self) -> _Term:
        token = self._token
        if token.kind == "number":
            self._next()
            return self._term(_number(token.text), "number", token.start)
        if token.kind == "string":
            self._next()
            return replace(self._term(token.text, "text", token.start), is_literal=True)
        if token.kind == "quoted":
            self._next()
            return self._column(token, token.text[1:-1].replace('""', '"'))
        match token.word:
            case "(":
                self._next()
                inner = self._or()
                self._expect(")")
                return replace(inner, sql=f"({inner.sql})", start=token.start, end=self._end)
            case "null":
                self._next()
                return replace(self._term("null", None, token.start), is_null=True)
            case "true" | "false":
                self._next()
                return replace(self._term(token.word, "boolean", token.start), is_literal=True)
            case "case":
                return self._case()
        if token.kind != "name" or token.word in KEYWORDS:
            self._stuck("a column, a number or 'text'")
        if token.word == "date" and self._following.kind == "string":
            return self._date()
        if self._following.word == "(" and token.word not in _NEVER_NAMES:
            return self._function()
        if token.text not in self.kinds and (token.word in _NEVER_NAMES or (token.word in _REMEDIES and self._following.kind == "string")):
            _refuse(f"'{token.text}' {_REMEDIES[token.word]}")
        self._next()
        name = token.text
        while self.infer and self._token.text == "." and self._following.kind == "name":
            self._next()
            name = f"{name}.{self._next().text}"
        return self._column(token, name)

    def _column(self, token: _Token, name: str) -> _Term:
        if self.infer:
            self.kinds.setdefault(name, None)
        elif name not in self.kinds:
            hint = f"; {_quoting(token.text)}" if token.kind == "quoted" else nearest(name, self.kinds)
            _refuse(f"unknown column '{name}'{hint}")
        self.columns[name] = None
        kind = self.kinds[name]
        quoted = name.replace('"', '""')
        return replace(self._term(f'"{quoted}"', kind, token.start), undecided=() if kind else (name,))

    def _date(self) -> _Term:
        start = self._next().start
        literal = self._next().text
        if not _is_date(literal[1:-1]):
            _refuse(f"date {literal} is no day of the calendar: dates are written date '2026-12-24'")
        return self._term(f"date {literal}", "date", start)

    def _case(self) -> _Term:
        start = self._next().start
        subject = None if self._token.word == "when" else self._or()
        sql = f"case {subject.sql}" if subject else "case"
        results: list[_Term] = []
        while self._accept(("when",)):
            if subject:
                when = self._right_hand(self._or)
                self._compare(subject, when, ordered=False)
            else:
                when = self._or()
                self.require(when, ("boolean",), "'when'")
            self._expect("then")
            results.append(self._or())
            sql = f"{sql} when {when.sql} then {results[-1].sql}"
        if not results:
            self._stuck("'when'")
        if self._accept(("else",)):
            results.append(self._or())
            sql = f"{sql} else {results[-1].sql}"
        self._expect("end")
        return self._alike(f"{sql} end", results, start)

    def _function(self) -> _Term:
        token = self._next()
        name = token.word
        if name in _REMEDIES:
            _refuse(f"'{token.text}' {_REMEDIES[name]}")
        if name not in FUNCTIONS:
            there_are = f"; there are {', '.join(FUNCTIONS)}"
            _refuse(f"'{token.text}' is no function here{nearest(name, FUNCTIONS) or there_are}")
        self._expect("(")
        if name == "extract":
            return self._extract(token)
        if name == "try_cast":
            return self._try_cast(token)
        arguments: list[_Term] = []
        if self._token.word != ")":
            arguments.append(self._or())
            while self._accept((",",)):
                arguments.append(self._or())
        self._expect(")")
        if name == "array_contains":
            return self._array_contains(token, arguments)
        kinds, least, most, result = _FUNCTIONS[name]
        self._count(name, arguments, least, most)
        for argument in arguments:
            self.require(argument, kinds, name, nullable=result is None)
        sql = [argument.sql for argument in arguments]
        if result is None:
            return self._alike(f"{name}({', '.join(sql)})", arguments, token.start)
        if name == "pow":  # a whole number to a negative power would stop the run
            sql = [f"try_cast({each} as double)" for each in sql]
        if name == "round" and len(arguments) > 1:
            sql[1] = self.quote(arguments[1])
            if not re.fullmatch(r"\d{1,2}", sql[1]):
                _refuse(f"round needs its number of decimals in digits, as in round(x, 2), found {sql[1]}")
        call = f"{name}({', '.join(sql)})"
        return self._term(f"try_cast({call} as bigint)" if name == "length" else call, result, token.start)

    def _count(self, name: str, arguments: list[_Term], least: int, most: int) -> None:
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} or {most}" if most < 99 else f"at least {least}"
            _refuse(f"{name} takes {wanted} value{'' if wanted.endswith('1') else 's'} in its brackets, found {len(arguments)}")

    def _array_contains(self, token: _Token, arguments: list[_Term]) -> _Term:
        self._count("array_contains", arguments, 2, 2)
        values, value = arguments
        self.require(values, ("list",), "array_contains")
        self.require(value, ("text",), "array_contains")
        return self._term(f"array_contains({values.sql}, {value.sql})", "boolean", token.start)

    def _extract(self, token: _Token) -> _Term:
        part = self._token
        if part.word not in _DATE_PARTS:
            self._stuck(f"one of {', '.join(_DATE_PARTS)}")
        self._next()
        self._expect("from")
        value = self._or()
        self.require(value, ("date",), "extract")
        self._expect(")")
        return self._term(f"try_cast(extract({part.word} from {value.sql}) as bigint)", "number", token.start)

    def _try_cast(self, token: _Token) -> _Term:
        value = self._or()
        self._expect("as")
        target = self._next()
        if target.word == "date":
            _refuse("try_cast to date is outside the dialect: text such as '2026-12-24' compares in date order")
        if target.word not in _CAST_TYPES:
            _refuse(f"try_cast knows bigint, double and varchar, found {target.text or 'the end'}")
        self._expect(")")
        sql_type, kind = _CAST_TYPES[target.word]
        self.require(value, ("text", "number", "boolean", "date") if kind == "text" else ("text", "number", "boolean"), "try_cast")
        return self._term(f"try_cast({value.sql} as {sql_type})", kind, token.start)

    # Kinds.

    def _alike(self, sql: str, terms: list[_Term], start: int) -> _Term:
        """Build a term whose value is one of ``terms``, which must all be of one kind."""
        kind = self._agree([term for term in terms if not term.is_null])
        undecided = tuple(name for term in terms for name in term.undecided) if kind is None else ()
        return replace(self._term(sql, kind, start), undecided=undecided, is_null=all(term.is_null for term in terms))

    def _agree(self, terms: list[_Term]) -> Kind | None:
        """Return the one kind of several terms, which decides the undecided among them."""
        known = next((term for term in terms if term.kind), None)
        if known is None or known.kind is None:
            return None
        for term in terms:
            if term.kind is None:
                self._decide(term, known.kind)
            elif term.kind != known.kind:
                self._mismatch(known, term)
        return known.kind

    def _decide(self, term: _Term, kind: Kind) -> None:
        for name in term.undecided:
            if kind not in _PROPERTY_TYPES:
                order = "; text such as '2026-12-24' compares in date order" if kind == "date" else ""
                _refuse(f"property '{name}' is used as {_NOUNS[kind]}, and properties are text, numbers or true/false{order}")
            self.kinds[name] = kind

    def _compare(self, left: _Term, right: _Term, *, ordered: bool) -> None:
        for term, other in ((left, right), (right, left)):
            if term.is_null:
                _refuse(f"a comparison with null is never true: write {self.quote(other)} is null, or is not null")
            if term.kind == "list":
                _refuse(f"{self.quote(term)} is a list: write array_contains({self.quote(term)}, 'value')")
        if self._agree([left, right]) == "boolean" and ordered:
            _refuse(f"{self.quote(left)} is true or false, which have no order: write it alone, or 'not' before it")

    def _mismatch(self, left: _Term, right: _Term) -> Never:
        by_kind = {left.kind: left, right.kind: right}
        text = by_kind.get("text")
        remedy = ""
        if "boolean" in by_kind and not by_kind["boolean"].is_literal:
            condition = self.quote(by_kind["boolean"])
            remedy = f": write {condition} alone, or not {condition}"
        elif "boolean" in by_kind:
            remedy = f": text stands in single quotes, '{by_kind['boolean'].sql}'" if text else ""
        elif "date" in by_kind and text:
            remedy = f": write date {text.sql}" if _is_date(text.sql[1:-1]) else ": a date is written date '2026-12-24'"
        elif "date" in by_kind:
            remedy = f": {_AGES}"
        elif text and text.is_literal:
            remedy = ": numbers stand without quotes"
        elif text:
            remedy = f": text stands in single quotes, and try_cast({self.quote(text)} as double) reads it as a number"
        _refuse(f"{self.quote(left)} is {_NOUNS[left.kind]} and {self.quote(right)} is {_NOUNS[right.kind]}{remedy}")


def _compile(parser: _Parser, term: _Term, schema: Mapping[str, pl.DataType], result: pl.DataType) -> Condition:
    columns = {name: schema[name] for name in parser.columns}
    pattern = next(filter(is_pattern, columns), None)
    if pattern is not None:
        _refuse(f'"{pattern}" is a pattern to Polars: a condition cannot name it')
    try:
        expr = pl.sql_expr(term.sql)
        expr = expr.fill_null(value=False) if result == pl.Boolean else expr.cast(result)
        found = pl.LazyFrame(schema=columns).select(expr).collect().to_series().dtype
    except pl.exceptions.PolarsError as error:
        _refuse(f"Polars refuses it: {str(error).splitlines()[0]}")
    if found != result:
        _refuse(f"it gives {found}, and {result} is expected here")
    return Condition(parser.text, expr, columns)
