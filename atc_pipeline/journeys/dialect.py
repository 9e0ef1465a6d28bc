"""The one expression dialect of ``journeys.yaml`` (SPEC 0): Polars SQL expressions, minus everything that surprises.

What belongs here: reading an expression, refusing what is outside the dialect with the remedy, and compiling the rest.
What does not: which columns there are (``portfolio``), or where in the file an expression stands (``resolution``).

``pl.sql_expr`` accepts more than a marketer should meet, and several things fail only on real rows, or never: ``now()``,
aggregates, ``5 < x < 10``, a date compared with a number, text cast to a date, a boolean compared with ``'true'``, decimals
as fixed point, 32-bit and unsigned whole numbers that wrap. So the text is parsed here, every part gets a kind, and what it
means is put together from expressions that give each row the value it would have alone (``exact``).
"""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Never

import polars as pl

from atc_pipeline.journeys import exact
from atc_pipeline.journeys.portfolio import Condition
from atc_pipeline.journeys.vocabulary import (
    AGES,
    CALLS,
    CAST_TYPES,
    COMPARE,
    COMPARISONS,
    DATE_ARITHMETIC,
    DATE_PARTS,
    FUNCTIONS,
    KEYWORDS,
    KINDS,
    NEVER_NAMES,
    NOUNS,
    ORDERINGS,
    PROPERTY_TYPES,
    REMEDIES,
    SIGNATURES,
    TOO_LONG,
    WORD_PREDICATES,
    Kind,
)


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
        _refuse(f"{parser.quote(term)} is {NOUNS[term.kind]}, and a number is expected here")
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
        for names in (*parser.alike, *reversed(parser.alike)):
            kind = next((kinds[name] for name in names if kinds[name]), None)
            kinds.update(dict.fromkeys((name for name in names if kind), kind))
        if kinds == known and None not in kinds.values():
            return _compile(parser, term, {name: PROPERTY_TYPES[kind] for name, kind in kinds.items() if kind}, pl.Boolean())
        if kinds == known:
            kinds.update((name, "text") for name, kind in known.items() if kind is None)


def is_pattern(name: str) -> bool:
    """Return whether Polars takes a name for several columns: no property can be read by it."""
    return name == "*" or (name.startswith("^") and name.endswith("$"))


def shortened(text: str, most: int = 60) -> str:
    """Return a text as a message can hold it."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} letters)"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the valid name nearest to a wrong one, and nothing where none is near."""
    if len(name) > _LONGEST_NAME:
        return ""
    names = sorted(valid)
    close = [known for known in names if known.casefold() == name.casefold()] or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


_DEEPEST = 9  # people lose their way earlier, and Python and Polars not much later
_MOST_PARTS = 2_000
_MOST_STEPS = 100  # of arithmetic and cases: Polars takes time with the cube of their number
_LONGEST = 50_000
_LONGEST_NAME = 200  # nothing is near to a longer one, and comparing takes its time
_LARGEST = 2**63 - 1
_LARGEST_EXACT = 2**53  # from here on a sum of two whole numbers could come near to where they wrap: doubles do not
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
    return {name: KINDS[dtype] for name, dtype in schema.items() if dtype in KINDS}


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _number(text: str) -> float:
    """Read a number: whole numbers as int, decimals (and what is too large to be added exactly) as float."""
    digits = len(text.lstrip("0"))
    if text.isdecimal() and digits <= len(str(_LARGEST)) and (whole := int(text[-digits:] if digits else "0")) <= _LARGEST:
        return whole if whole <= _LARGEST_EXACT else float(whole)
    if text.isdecimal() or not math.isfinite(float(text)):
        _refuse(f"the number {shortened(text)} is too large")
    return float(text)


def _literal(number: float) -> pl.Expr:
    return pl.lit(number, dtype=pl.Int64 if isinstance(number, int) else pl.Float64)


def _pattern(like: str) -> str:
    """Write the pattern of a ``like`` as a regular expression."""
    pattern = f"(?s)^{''.join({'%': '.*', '_': '.'}.get(letter, re.escape(letter)) for letter in like)}$"
    try:
        pl.Series([""]).str.contains(pattern)  # an empty frame would not try it
    except pl.exceptions.ComputeError:
        _refuse(f"the pattern '{shortened(like)}' is too long")
    return pattern


def _unquoted(text: str) -> str:
    return text[1:-1].replace("''", "'")


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


@dataclass(frozen=True, eq=False)
class _Term:
    """A parsed sub-expression: what Polars will work out, its kind, and where it stands in the text.

    ``kind`` is None for null, and while the properties in ``undecided`` are still to decide it. A ``literal`` is its own value.
    """

    expr: pl.Expr
    kind: Kind | None
    start: int
    end: int
    undecided: tuple[str, ...] = ()
    is_null: bool = False
    literal: float | str | date | bool | None = None

    @property
    def is_literal(self) -> bool:
        """Whether the term is a value that stands in the text."""
        return self.literal is not None


class _Parser:
    """Recursive descent over one expression.

    ``kinds`` are the columns there are. With ``infer`` any name is one, and its kind is written into ``kinds`` once its use shows it.
    """

    def __init__(self, text: str, kinds: dict[str, Kind | None], *, infer: bool = False) -> None:
        self.text = text
        self.kinds = kinds
        self.infer = infer
        self.columns: dict[str, None] = {}
        self.alike: list[tuple[str, ...]] = []  # properties that are of one kind, whichever it is
        if len(text) > _LONGEST:
            _refuse(f"it is {len(text):,} letters long, and an expression has at most {_LONGEST:,}: {TOO_LONG}")
        self._tokens = list(_tokenize(text))
        self._at = 0
        self._depth = 0
        self._parts = 0
        self._reads: list[int] = []  # where in the text columns stand
        self._steps = 0

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
            _refuse(f"{quoted} is {NOUNS[term.kind]}, and {user} needs {' or '.join(NOUNS[kind] for kind in kinds)}{remedy}")

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
        if token.word in REMEDIES:
            _refuse(f"'{token.text}' {REMEDIES[token.word]}")
        after = f" after {self.text[: self._end][-30:]}" if self._at else ""
        instead = "it ends" if token.kind == "end" else f"found {token.text}"
        _refuse(f"expected {expected}{after}, {instead}")

    def _count_parts(self, number: int) -> None:
        """Count the columns and values Polars will meet: some of the text is told to it several times."""
        self._parts += number
        if self._parts > _MOST_PARTS:
            _refuse(f"it has more than {_MOST_PARTS:,} parts (columns and values; values of an 'in' list do not count): {TOO_LONG}")

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            _refuse(f"it calculates in more than {_MOST_STEPS} steps (+, -, *, /, % and 'when'): {TOO_LONG}")

    def _term(self, expr: pl.Expr, kind: Kind | None, start: int) -> _Term:
        return _Term(expr, kind, start, self._end)

    # The grammar, loosest binding first.

    def _or(self) -> _Term:
        if self._depth > _DEEPEST:
            _refuse(f"more than {_DEEPEST} brackets (or cases) inside each other: name a part of it as a segment or a trait")
        self._depth += 1
        term = self._chain("or", pl.any_horizontal, lambda: self._chain("and", pl.all_horizontal, self._not))
        self._depth -= 1
        return term

    def _chain(self, word: str, join: Callable[..., pl.Expr], operand: Callable[[], _Term]) -> _Term:
        terms = [operand()]
        while self._accept((word,)):
            terms.append(operand())
        if len(terms) == 1:
            return terms[0]
        for term in terms:
            self.require(term, ("boolean",), f"'{word}'")
        return self._term(join(term.expr for term in terms), "boolean", terms[0].start)

    def _not(self) -> _Term:
        start = self._token.start
        negations = 0
        while self._accept(("not",)):
            negations += 1
        term = self._predicate()
        if not negations:
            return term
        self.require(term, ("boolean",), "'not'")
        return self._term(~term.expr if negations % 2 else term.expr, "boolean", start)

    def _predicate(self) -> _Term:
        parts = self._parts
        left = term = self._sum()
        if sign := self._accept(COMPARISONS):
            right = self._right_hand(self._sum)
            self._compare(left, right, ordered=sign in ORDERINGS)
            term = self._term(self._test(sign, left, right), "boolean", left.start)
        elif self._accept(("is",)):
            is_negated = bool(self._accept(("not",)))
            if not self._accept(("null",)):
                _refuse(f"'is' knows null and not null, found {self._token.text or 'the end'}: write x, not x or x = y")
            term = self._term(left.expr.is_not_null() if is_negated else left.expr.is_null(), "boolean", left.start)
        elif self._token.word in WORD_PREDICATES or (self._token.word == "not" and self._following.word in WORD_PREDICATES):
            is_negated = bool(self._accept(("not",)))
            self._count_parts(self._parts - parts)
            expr = self._word_predicate(left)
            term = self._term(~expr if is_negated else expr, "boolean", left.start)
        if term is not left and self._token.word in COMPARISONS | WORD_PREDICATES | {"is", "not"}:
            _refuse(f"comparisons do not chain, as in {self.quote(term)} {self._token.text} ...: write 5 < x and x < 10, or use brackets")
        return term

    def _word_predicate(self, left: _Term) -> pl.Expr:
        """Parse ``between``, ``in`` or ``like`` and what follows, and return the whole test."""
        word = self._next().word
        if word == "like":
            self.require(left, ("text",), "'like'")
            pattern = self._token
            if pattern.kind == "quoted":
                _refuse(_quoting(pattern.text))
            if pattern.kind != "string":
                self._stuck("a pattern such as 'hand%'")
            return left.expr.str.contains(_pattern(_unquoted(self._next().text)))
        if word == "between":
            bounds = [self._right_hand(self._sum)]
            self._expect("and")
            bounds.append(self._right_hand(self._sum))
        else:
            self._expect("(")
            bounds = [self._listed()]
            while self._accept((",",)):
                bounds.append(self._listed())
            self._expect(")")
        for bound in bounds:
            self._compare(left, bound, ordered=word == "between")
        if word == "between":
            return self._test(">=", left, bounds[0]) & self._test("<=", left, bounds[1])
        if not all(bound.is_literal for bound in bounds):
            return pl.any_horizontal(self._test("=", left, bound) for bound in bounds)
        values = [bound.literal for bound in bounds]
        if self._agree([left, *bounds]) == "number":
            return left.expr.cast(pl.Float64).is_in([float(number) for number in values if isinstance(number, int | float)])
        return left.expr.is_in(values)

    def _test(self, sign: str, left: _Term, right: _Term) -> pl.Expr:
        """Compare two terms, a constant last: Polars 2.1 fails on ``5 < x`` where x is one value for all rows."""
        compare, compare_reversed = COMPARE[sign]
        is_constant = not any(left.start <= at < left.end for at in self._reads)
        return compare_reversed(right.expr, left.expr) if is_constant else compare(left.expr, right.expr)

    def _listed(self) -> _Term:
        """Parse one value of an ``in`` list; a literal costs nothing and does not count as a part of the expression."""
        is_alone = self._token.kind in ("number", "string") and self._following.word in (",", ")")
        value = self._primary() if is_alone else self._right_hand(self._sum)
        self._parts -= value.is_literal
        return value

    def _right_hand(self, operand: Callable[[], _Term]) -> _Term:
        """Parse the right side of a comparison; with properties, only the side tells a name in double quotes from a mistake."""
        if self.infer and self._token.kind == "quoted":
            _refuse(_quoting(self._token.text))
        return operand()

    def _sum(self) -> _Term:
        return self._arithmetic(("+", "-"), exact.total, self._product)

    def _product(self) -> _Term:
        return self._arithmetic(("*", "/", "%"), exact.product, self._signed)

    def _arithmetic(
        self, signs: tuple[str, ...], join: Callable[[Sequence[str], Sequence[pl.Expr]], pl.Expr], operand: Callable[[], _Term]
    ) -> _Term:
        terms = [operand()]
        between: list[str] = []
        while sign := self._accept(signs):
            self._step()
            right = operand()
            if "date" in (terms[-1].kind, right.kind):
                _refuse(f"{self.text[terms[0].start : right.end]} {DATE_ARITHMETIC}")
            for term in (terms[-1], right):
                self.require(term, ("number",), f"'{sign}'")
            terms.append(right)
            between.append(sign)
        return terms[0] if len(terms) == 1 else self._term(join(between, [term.expr for term in terms]), "number", terms[0].start)

    def _signed(self) -> _Term:
        start = self._token.start
        signs = ""
        while sign := self._accept(("-", "+")):
            signs += sign
        term = self._primary()
        if not signs:
            return term
        self.require(term, ("number",), f"'{signs[-1]}'")
        if not signs.count("-") % 2:
            return replace(term, start=start)
        if isinstance(term.literal, int | float):
            return replace(self._term(_literal(-term.literal), "number", start), literal=-term.literal)
        return self._term(-term.expr, "number", start)

    def _primary(self) -> _Term:
        token = self._token
        self._count_parts(1)
        if token.kind == "number":
            self._next()
            number = _number(token.text)
            return replace(self._term(_literal(number), "number", token.start), literal=number)
        if token.kind == "string":
            self._next()
            text = _unquoted(token.text)
            return replace(self._term(pl.lit(text), "text", token.start), literal=text)
        if token.kind == "quoted":
            self._next()
            return self._column(token, token.text[1:-1].replace('""', '"'))
        match token.word:
            case "(":
                self._next()
                inner = self._or()
                self._expect(")")
                return replace(inner, start=token.start, end=self._end)
            case "null":
                self._next()
                return replace(self._term(pl.lit(None), None, token.start), is_null=True)
            case "true" | "false":
                self._next()
                is_true = token.word == "true"
                return replace(self._term(pl.lit(is_true), "boolean", token.start), literal=is_true)
            case "case":
                return self._case()
        if token.kind != "name" or token.word in KEYWORDS:
            self._stuck("a column, a number or 'text'")
        if token.word == "date" and self._following.kind == "string":
            return self._date()
        if self._following.word == "(" and token.word not in NEVER_NAMES:
            return self._function()
        if token.text not in self.kinds and (token.word in NEVER_NAMES or (token.word in REMEDIES and self._following.kind == "string")):
            _refuse(f"'{token.text}' {REMEDIES[token.word]}")
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
            _refuse(f"unknown column '{shortened(name)}'{hint}")
        self.columns[name] = None
        self._reads.append(token.start)
        kind = self.kinds[name]
        return replace(self._term(pl.col(name), kind, token.start), undecided=() if kind else (name,))

    def _date(self) -> _Term:
        start = self._next().start
        literal = self._next().text
        if not _is_date(literal[1:-1]):
            _refuse(f"date {literal} is no day of the calendar: dates are written date '2026-12-24'")
        day = date.fromisoformat(literal[1:-1])
        return replace(self._term(pl.lit(day), "date", start), literal=day)

    def _case(self) -> _Term:
        start = self._next().start
        parts = self._parts
        subject = None if self._token.word == "when" else self._or()
        parts = self._parts - parts
        tests: list[pl.Expr] = []
        results: list[_Term] = []
        while self._accept(("when",)):
            self._step()
            if subject:
                self._count_parts(parts)
                when = self._right_hand(self._or)
                self._compare(subject, when, ordered=False)
                tests.append(self._test("=", subject, when))
            else:
                when = self._or()
                self.require(when, ("boolean",), "'when'")
                tests.append(when.expr)
            self._expect("then")
            results.append(self._or())
        if not results:
            self._stuck("'when'")
        if self._accept(("else",)):
            results.append(self._or())
        self._expect("end")
        otherwise = results[-1].expr if len(results) > len(tests) else pl.lit(None)
        for test, result in reversed(list(zip(tests, results, strict=False))):
            otherwise = pl.when(test).then(result.expr).otherwise(otherwise)
        return self._alike(otherwise, results, start)

    def _function(self) -> _Term:
        token = self._next()
        name = token.word
        if name in REMEDIES:
            _refuse(f"'{token.text}' {REMEDIES[name]}")
        if name not in FUNCTIONS:
            there_are = f"; there are {', '.join(FUNCTIONS)}"
            _refuse(f"'{token.text}' is no function here{nearest(name, FUNCTIONS) or there_are}")
        self._expect("(")
        if name == "extract":
            return self._extract(token)
        if name == "try_cast":
            return self._try_cast(token)
        parts = self._parts
        arguments: list[_Term] = []
        if self._token.word != ")":
            arguments.append(self._or())
            while self._accept((",",)):
                arguments.append(self._or())
        self._expect(")")
        self._count_parts(self._parts - parts if name == "nullif" else 0)
        if name == "array_contains":
            return self._array_contains(token, arguments)
        kinds, least, most, result = SIGNATURES[name]
        self._count(name, arguments, least, most)
        for argument in arguments:
            self.require(argument, kinds, name, nullable=result is None)
        values = [argument.expr for argument in arguments]
        if name == "nullif":
            is_same = self._test("=", *arguments)
            return self._alike(pl.when(is_same).then(None).otherwise(values[0]), arguments, token.start)
        if result is None:
            return self._alike(CALLS[name](*values), arguments, token.start)
        if name == "pow":
            return self._term(exact.power(*values, is_constant=arguments[1].is_literal), result, token.start)
        if name == "round" and len(arguments) > 1:
            decimals = self.quote(arguments[1])
            if not re.fullmatch(r"\d{1,2}", decimals):
                _refuse(f"round needs its number of decimals in digits, as in round(x, 2), found {decimals}")
            return self._term(CALLS[name](values[0], int(decimals)), result, token.start)
        return self._term(CALLS[name](*values), result, token.start)

    def _count(self, name: str, arguments: list[_Term], least: int, most: int) -> None:
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} or {most}" if most < 99 else f"at least {least}"
            _refuse(f"{name} takes {wanted} value{'' if wanted.endswith('1') else 's'} in its brackets, found {len(arguments)}")

    def _array_contains(self, token: _Token, arguments: list[_Term]) -> _Term:
        self._count("array_contains", arguments, 2, 2)
        values, value = arguments
        self.require(values, ("list",), "array_contains")
        self.require(value, ("text",), "array_contains")
        return self._term(CALLS["array_contains"](values.expr, value.expr), "boolean", token.start)

    def _extract(self, token: _Token) -> _Term:
        part = self._token
        if part.word not in DATE_PARTS:
            self._stuck(f"one of {', '.join(DATE_PARTS)}")
        self._next()
        self._expect("from")
        value = self._or()
        self.require(value, ("date",), "extract")
        self._expect(")")
        return self._term(DATE_PARTS[part.word](value.expr).cast(pl.Int64), "number", token.start)

    def _try_cast(self, token: _Token) -> _Term:
        value = self._or()
        self._expect("as")
        target = self._next()
        if target.word == "date":
            _refuse("try_cast to date is outside the dialect: text such as '2026-12-24' compares in date order")
        if target.word not in CAST_TYPES:
            _refuse(f"try_cast knows bigint, double and varchar, found {target.text or 'the end'}")
        self._expect(")")
        dtype, kind = CAST_TYPES[target.word]
        self.require(value, ("text", "number", "boolean", "date") if kind == "text" else ("text", "number", "boolean"), "try_cast")
        return self._term(value.expr.cast(dtype, strict=False), kind, token.start)

    # Kinds.

    def _alike(self, expr: pl.Expr, terms: list[_Term], start: int) -> _Term:
        """Build a term whose value is one of ``terms``, which must all be of one kind."""
        kind = self._agree([term for term in terms if not term.is_null])
        undecided = tuple(name for term in terms for name in term.undecided) if kind is None else ()
        return replace(self._term(expr, kind, start), undecided=undecided, is_null=all(term.is_null for term in terms))

    def _agree(self, terms: list[_Term]) -> Kind | None:
        """Return the one kind of several terms, which decides the undecided among them."""
        known = next((term for term in terms if term.kind), None)
        if known is None or known.kind is None:
            self.alike.append(tuple(name for term in terms for name in term.undecided))
            return None
        for term in terms:
            if term.kind is None:
                self._decide(term, known.kind)
            elif term.kind != known.kind:
                self._mismatch(known, term)
        return known.kind

    def _decide(self, term: _Term, kind: Kind) -> None:
        for name in term.undecided:
            if kind not in PROPERTY_TYPES:
                order = "; text such as '2026-12-24' compares in date order" if kind == "date" else ""
                _refuse(f"property '{name}' is used as {NOUNS[kind]}, and properties are text, numbers or true/false{order}")
            self.kinds[name] = kind

    def _compare(self, left: _Term, right: _Term, *, ordered: bool) -> None:
        for term, opposite in ((left, right), (right, left)):
            if term.is_null:
                _refuse(f"a comparison with null is never true: write {self.quote(opposite)} is null, or is not null")
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
            remedy = f": text stands in single quotes, '{str(by_kind['boolean'].literal).lower()}'" if text else ""
        elif "date" in by_kind and text:
            remedy = f": write date '{text.literal}'" if _is_date(str(text.literal)) else ": a date is written date '2026-12-24'"
        elif "date" in by_kind:
            remedy = f": {AGES}"
        elif text and text.is_literal:
            remedy = ": numbers stand without quotes"
        elif text:
            remedy = f": text stands in single quotes, and try_cast({self.quote(text)} as double) reads it as a number"
        _refuse(f"{self.quote(left)} is {NOUNS[left.kind]} and {self.quote(right)} is {NOUNS[right.kind]}{remedy}")


def _compile(parser: _Parser, term: _Term, schema: Mapping[str, pl.DataType], result: pl.DataType) -> Condition:
    columns = {name: schema[name] for name in parser.columns}
    pattern = next(filter(is_pattern, columns), None)
    if pattern is not None:
        _refuse(f'"{pattern}" is a pattern to Polars: a condition cannot name it')
    try:
        expr = term.expr.fill_null(value=False) if result == pl.Boolean else term.expr.cast(result)
        dtype = pl.LazyFrame(schema=columns).select(expr).collect().to_series().dtype
    except pl.exceptions.PolarsError as error:
        _refuse(f"Polars refuses it: {str(error).splitlines()[0]}")
    if dtype != result:
        _refuse(f"it gives {dtype}, and {result} is expected here")
    return Condition(parser.text, expr, columns)
