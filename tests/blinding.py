"""Blind every promise in turn, and see a test fail: ``python -m tests.blinding`` (half a minute; fails where one may be blind).

A check is blinded whole: it finds nothing. Each function that it is found by is blinded whole where it returns rows, and clause by
clause: without each side of every ``|``, ``&``, ``or`` and ``and``, without each condition of a ``filter`` or a comprehension, and
without each of several lists that are looked at together. Only tests that are about a promise are run, until one has failed: its own
examples must find it.

What belongs here: making promises blind. What does not: examples of what they must see (``engine/promises/test_broken_rows.py``,
``engine/promises/test_finding.py``, ``graph/test_told_by_steps.py``, ``graph/test_promises.py``).
"""

import ast
import inspect
import io
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FunctionType

import polars as pl
import pytest

from assets import audiences, checks, events
from assets.jobs import additions
from assets.shown import arrivals
from assets.shown.arrivals import Arrivals
from atc_pipeline.customers import coverage
from atc_pipeline.promises import promise
from atc_pipeline.promises.catalog import MODULES, PROMISES
from resources.journeys import JourneysFile

HERE = Path(__file__).parent
TESTS = (
    "engine/promises/test_broken_rows.py",
    "engine/promises/test_promises.py",
    "engine/promises/test_finding.py",
    "engine/promises/test_maturing.py",
    "engine/promises/test_learning.py",
    "engine/customers/test_coverage.py",
    "graph/test_told_by_steps.py",
    "graph/test_promises.py",
)
OPTIONS = ("-q", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Pandera brings along a plugin of pytest, which is loaded by now; it asserts nothing."""

TOLD_BY_THE_STEP = {
    "raw_events.every_line_accounted_for": (events, "_reconciled"),
    "raw_events.files_passed_over": (Arrivals, "passed_over"),
    "raw_events.lines_arrived": (Arrivals, "lines_arrived"),
    "audience_syncs.acknowledged_and_differences_are_members": (audiences, "_adds_up"),
}
"""Checks that no promise makes, and what makes them."""

LOOKED_INTO = (*MODULES, promise, coverage, checks, arrivals, events, audiences)
"""Where the functions are that a promise is found by; what is elsewhere has tests of its own."""

ROOTS: Mapping[str, tuple[FunctionType, ...]] = {
    **{f"{each.table}.{each.name}": (each.find,) for each in (*PROMISES, checks.STALE)},  # type: ignore[dict-item]
    **{name: (getattr(place, called),) for name, (place, called) in TOLD_BY_THE_STEP.items()},
    "raw_events.files_passed_over": (Arrivals.passed_over, Arrivals._of_no_day),  # type: ignore[dict-item]
}
"""By check: the functions that find what breaks it, before those that they call."""

LEFT_OUT_LATER = "the loop below leaves out whatever matched and has no name close to its own"
ONLY_LESS_IS_READ = "what is left out here, matured too early or too late, is left out by the join below, which would read more"
MADE_UP_FOR = {
    "never_found without `pl.col('matched') == 0`": LEFT_OUT_LATER,
    "never_found without `pl.col('event') != ANY`": LEFT_OUT_LATER,
    "_late_events without `pl.col('event_date') < pl.col('date')`": ONLY_LESS_IS_READ,
    "_late_events without `first <= day <= last`": ONLY_LESS_IS_READ,
}
"""Clauses without which the same is found, and why; one whose absence is seen has no place here."""


@dataclass(frozen=True)
class Blinded:
    """Something that is made to see less: of which rules or check, what of it, and how; ``is_guard``: without it the rest may raise."""

    of: frozenset[str]
    what: str
    blind: Callable[[pytest.MonkeyPatch], None]
    is_guard: bool = False

    def __str__(self) -> str:
        """Return a name that no other has."""
        return self.what


def rules() -> Iterator[Blinded]:
    """Yield every function that a check is found by, whole where it returns rows, and each of its clauses."""
    users: dict[FunctionType, set[str]] = {}
    for name, roots in ROOTS.items():
        for function in {inner: None for root in roots for inner in _reached(root, {})}:
            users.setdefault(function, set()).add(name)
    by_name = {function.__name__: _reached(function, {}) for function in users if function.__closure__ is None}
    for function, names in users.items():
        of = frozenset(names | {name for name, reached in by_name.items() if function in reached})
        called = function.__qualname__ if function.__closure__ is None else f"{function.__qualname__} of {min(names)}"
        is_root = any(function in roots for roots in ROOTS.values())
        if not is_root and function.__annotations__.get("return") in {pl.LazyFrame, pl.DataFrame}:
            yield Blinded(of, called, _with_code(function, _blind(function)))
        for what, tree, is_guard in _without_a_clause(_parsed(function)):
            yield Blinded(of, f"{called} without {what}", _with_code(function, _compiled(function, tree)), is_guard)


def _reached(function: FunctionType, seen: dict[FunctionType, None]) -> dict[FunctionType, None]:
    """Return a function and those that it calls, or holds to be called, and that they call."""
    if function in seen or function.__name__ == "<lambda>" or function.__module__ not in {module.__name__ for module in LOOKED_INTO}:
        return seen
    seen[function] = None
    names = _names(function.__code__)
    known = function.__globals__
    places = [known, *(vars(module) for module in LOOKED_INTO if known.get(module.__name__.rpartition(".")[2]) is module)]
    values = [place[name] for place in places for name in names if name in place]
    for cell in function.__closure__ or ():
        values += cell.cell_contents if isinstance(cell.cell_contents, tuple) else [cell.cell_contents]
    for value in values:
        if isinstance(value, FunctionType):
            _reached(value, seen)
    return seen


def _names(code: CodeType) -> list[str]:
    """Return the names that a function asks for, and the functions in it."""
    return [*code.co_names, *(name for inner in code.co_consts if isinstance(inner, CodeType) for name in _names(inner))]


def _parsed(function: FunctionType) -> ast.FunctionDef:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    definition.returns = None
    for argument in ast.walk(definition.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None  # `date | None` is no clause
    return definition


def _compiled(function: FunctionType, definition: ast.FunctionDef) -> CodeType:
    """Compile a function as it stands where it was made: what it holds is held by one around it."""
    around = ast.parse(f"def around({', '.join(function.__code__.co_freevars)}): pass").body[0]
    assert isinstance(around, ast.FunctionDef)
    around.body = [definition]
    made: dict[str, FunctionType] = {}
    module = ast.fix_missing_locations(ast.Module([around], []))
    exec(compile(module, inspect.getfile(function), "exec"), function.__globals__, made)  # noqa: S102  # our own source
    return next(code for code in made["around"].__code__.co_consts if isinstance(code, CodeType))


def _with_code(function: FunctionType, code: CodeType) -> Callable[[pytest.MonkeyPatch], None]:
    """Change what a function does wherever it is used: by name, or held by whoever took it when modules were loaded."""
    return lambda monkeypatch: monkeypatch.setattr(function, "__code__", code)


def _blind(rule: FunctionType) -> CodeType:
    """Have a rule return no rows of what it finds."""
    definition = _parsed(rule)
    for node in ast.walk(definition):
        if isinstance(node, ast.Return) and node.value is not None:
            node.value = ast.Call(ast.Attribute(node.value, "clear", ast.Load()), [], [])
    return _compiled(rule, definition)


def _without_a_clause(definition: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef, bool]]:
    """Yield what is left out, the function without it, and whether it guards what comes after."""
    for place, node in enumerate(ast.walk(definition)):
        for number, (clause, rest) in enumerate(_rests(node)):
            shorter = deepcopy(definition)
            there = next(each for at, each in enumerate(ast.walk(shorter)) if at == place)
            wanted = _rests(there)[number][1]
            assert ast.dump(wanted) == ast.dump(rest)
            is_guard = isinstance(node, ast.BoolOp | ast.comprehension)
            yield (
                f"`{ast.unparse(clause)}` (line {clause.lineno}, column {clause.col_offset} of it)",
                _Replaced(there, wanted).visit(shorter),
                is_guard,
            )


def _rests(node: ast.AST) -> list[tuple[ast.expr, ast.AST]]:
    """Return each clause of an expression, and the expression without it."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() as op, right=right):
            is_chain = isinstance(left, ast.BinOp) and isinstance(left.op, type(op))
            return [(right, left), *([] if is_chain else [(left, right)])]
        case ast.BoolOp(op=either, values=several):
            rests = [(each, _others(each, several)) for each in several]
            return [(each, rest[0] if len(rest) == 1 else ast.BoolOp(either, rest)) for each, rest in rests]
        case ast.comprehension(ifs=several):
            return [(each, ast.comprehension(node.target, node.iter, _others(each, several), node.is_async)) for each in several]
        case ast.Call(func=ast.Attribute(attr="filter", value=unfiltered), args=[condition]):
            return [(condition, unfiltered)]
        case ast.Call(func=ast.Attribute(attr="concat"), args=[ast.List(elts=several), *_]):
            return [(each, ast.Call(node.func, [ast.List(_others(each, several), ast.Load())], node.keywords)) for each in several]
        case ast.Call(func=ast.Attribute(attr="any_horizontal"), args=several):
            starred = [each for each in several if isinstance(each, ast.Starred)]
            return [(each.value, ast.Call(node.func, _others(each, several), [])) for each in starred]
    return []


def _others(clause: ast.expr, several: list[ast.expr]) -> list[ast.expr]:
    return [each for each in several if each is not clause]


class _Replaced(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().generic_visit(node)


def check(name: str) -> Blinded:
    """Return a check, ``<table>.<name>``, that finds nothing."""
    table, _, short = name.partition(".")

    def blind(monkeypatch: pytest.MonkeyPatch) -> None:
        if short == additions.VALID:
            monkeypatch.setattr(JourneysFile, "problem", property(lambda _: None))
            return
        if name in TOLD_BY_THE_STEP:
            place, called = TOLD_BY_THE_STEP[name]
            say = getattr(place, called)
            monkeypatch.setattr(place, called, lambda *what: say(*what)._replace(passed=True))
            return
        make = checks._check

        def maker(promise: checks.Promise) -> object:
            is_it = (promise.table, promise.name) == (table, short)
            return make(replace(promise, find=lambda *_: pl.DataFrame()) if is_it else promise)

        monkeypatch.setattr(checks, "_check", maker)

    return Blinded(frozenset({name}), f"the check {name}", blind)


class Blinding:
    """A plugin of pytest that runs each test once for everything that it is about, blinded."""

    def __init__(self) -> None:
        self.seen: dict[str, bool] = {}
        """Whether a test has failed, by what was blinded."""
        self.of_rules = list(rules())
        assert len({*map(str, self.of_rules)}) == len(self.of_rules), "two of one name would be seen as one"

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Blind checks where the test is about one, else rules."""
        several = [check(name) for name in metafunc.module.BROKEN] if "check" in metafunc.fixturenames else self.of_rules
        metafunc.parametrize("blinded", several, indirect=True, ids=str)

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        """Leave out tests that are not about what is blinded."""
        items[:] = [item for item in items if item.callspec.params["blinded"].of & _about(item)]
        self.seen |= dict.fromkeys([str(item.callspec.params["blinded"]) for item in items], False)

    @pytest.fixture(autouse=True)
    def blinded(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """Blind, unless a test has failed already."""
        if self.seen[str(request.param)]:
            pytest.skip("one is enough")
        request.param.blind(monkeypatch)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Function, call: pytest.CallInfo[None]) -> Iterator[None]:
        """Take note of a test that fails for what it asserts; because something broke only where a guard against that is left out."""
        blinded = item.callspec.params["blinded"]
        if (
            call.when == "call"
            and call.excinfo is not None
            and call.excinfo.errisinstance(Exception if blinded.is_guard else AssertionError)
        ):
            self.seen[str(blinded)] = True
        return (yield)


def _about(item: pytest.Function) -> set[str]:
    """Return the rules and checks that a test is about: it is given their name, or calls them."""
    given = {value for value in item.callspec.params.values() if isinstance(value, str)}
    return given | set(item.function.__code__.co_names)


def main() -> int:
    """Blind everything in turn; name what no test has missed."""
    blinding, told = Blinding(), io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        code = pytest.main([*OPTIONS, *(str(HERE / name) for name in TESTS)], plugins=[blinding])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        print(told.getvalue())  # noqa: T201
        return int(code)
    missed = [str(each) for each in blinding.of_rules if str(each) not in blinding.seen]
    unseen = [name for name, is_seen in blinding.seen.items() if not is_seen] + missed
    blind = [name for name in unseen if not name.startswith(tuple(MADE_UP_FOR))]
    superfluous = [clause for clause in MADE_UP_FOR if not any(name.startswith(clause) for name in unseen)]
    for name in blind:
        print(f"may be blind, and no test of it fails: {name}")  # noqa: T201
    for name in superfluous:
        print(f"is seen, and needs no excuse any more: {name}")  # noqa: T201
    print(f"{len(blinding.seen) + len(missed)} blinded, {len(blind)} unseen")  # noqa: T201
    return 1 if blind or superfluous else 0


if __name__ == "__main__":
    sys.exit(main())
