"""Blind every promise in turn, and see a test fail: ``python -m tests.blinding`` (half a minute; fails where one may be blind).

A rule is blinded whole - it finds no rows - and, where it is one expression, clause by clause: without each side of every ``|`` and
``&``, and without each of several lists that are looked at together. A check is blinded whole. Only tests that are about a promise
are run, until one has failed: its own examples must find it.

What belongs here: making promises blind. What does not: examples of what they must see (``engine/promises/test_broken_rows.py``,
``graph/test_promises.py``).
"""

import ast
import inspect
import io
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import polars as pl
import pytest

from assets import checks, events
from assets.shown.arrivals import Arrivals
from atc_pipeline.customers import coverage
from atc_pipeline.promises.catalog import MODULES

HERE = Path(__file__).parent
TESTS = (
    "engine/promises/test_broken_rows.py",
    "engine/promises/test_promises.py",
    "engine/customers/test_coverage.py",
    "graph/test_promises.py",
)
OPTIONS = ("-q", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Pandera brings along a plugin of pytest, which is loaded by now; it asserts nothing."""

RULES: tuple[tuple[ModuleType, str], ...] = (
    *(
        (module, name)
        for module in MODULES
        for name, rule in inspect.getmembers(module, inspect.isfunction)
        if rule.__module__ == module.__name__ and not name.startswith("_")
    ),
    (coverage, "unreadable"),
    (coverage, "unclear_consent"),
)
"""What is promised between tables or days, one expression each."""
STEPS = ((coverage, "never_found"),)
"""What is found step by step, one of which may make up for another's clause."""

TOLD_BY_THE_STEP = {
    "every_line_accounted_for": (events, "_reconciled"),
    "files_passed_over": (Arrivals, "passed_over"),
    "lines_arrived": (Arrivals, "lines_arrived"),
}
"""Checks that no promise of ``assets.checks`` makes, and what makes them."""


@dataclass(frozen=True)
class Blinded:
    """Something that is made to see less: of which rules or check, what of it, and how."""

    of: frozenset[str]
    what: str
    blind: Callable[[pytest.MonkeyPatch], None]

    def __str__(self) -> str:
        """Return a name that no other has."""
        return self.what


def rules() -> Iterator[Blinded]:
    """Yield every rule, and every clause of it and of the functions that it calls."""
    for module, name in (*RULES, *STEPS):
        rule = getattr(module, name)
        yield Blinded(frozenset({name}), name, _with_code(rule, _blind(rule)))
    users: dict[FunctionType, set[str]] = {}
    for module, name in RULES:
        for function in _called(module, getattr(module, name)):
            users.setdefault(function, set()).add(name)
    for function, names in users.items():
        for what, tree in _without_a_clause(_parsed(function)):
            yield Blinded(frozenset(names), f"{function.__name__} without {what}", _with_code(function, _compiled(function, tree)))


def _called(module: ModuleType, function: FunctionType) -> set[FunctionType]:
    """Return a function and those beside it that it calls, and that they call."""
    called = {function}
    for name in function.__code__.co_names:
        other = vars(module).get(name)
        if isinstance(other, FunctionType) and other.__module__.rpartition(".")[0] == module.__name__.rpartition(".")[0]:
            called |= _called(module, other)
    return called


def _parsed(function: FunctionType) -> ast.FunctionDef:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    return definition


def _compiled(function: FunctionType, definition: ast.FunctionDef) -> CodeType:
    made: dict[str, FunctionType] = {}
    module = ast.fix_missing_locations(ast.Module([definition], []))
    exec(compile(module, inspect.getfile(function), "exec"), function.__globals__, made)  # noqa: S102  # our own source
    return made[function.__name__].__code__


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


def _without_a_clause(definition: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield what is left out, and the function without it."""
    for place, node in enumerate(ast.walk(definition)):
        for number, (clause, rest) in enumerate(_rests(node)):
            shorter = deepcopy(definition)
            there = next(each for at, each in enumerate(ast.walk(shorter)) if at == place)
            wanted = _rests(there)[number][1]
            assert ast.dump(wanted) == ast.dump(rest)
            yield f"`{ast.unparse(clause)}` (line {clause.lineno} of it)", _Replaced(there, wanted).visit(shorter)


def _rests(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    """Return each clause of an expression, and the expression without it."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() as op, right=right):
            is_chain = isinstance(left, ast.BinOp) and isinstance(left.op, type(op))
            return [(right, left), *([] if is_chain else [(left, right)])]
        case ast.Call(func=ast.Attribute(attr="concat"), args=[ast.List(elts=several), *_]):
            return [
                (each, ast.Call(node.func, [ast.List([other for other in several if other is not each], ast.Load())], node.keywords))
                for each in several
            ]
        case ast.Call(func=ast.Attribute(attr="any_horizontal"), args=several):
            starred = [each for each in several if isinstance(each, ast.Starred)]
            return [(each.value, ast.Call(node.func, [other for other in several if other is not each], [])) for each in starred]
    return []


class _Replaced(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().generic_visit(node)


def check(name: str) -> Blinded:
    """Return a check, ``<table>.<name>``, that finds nothing."""
    table, _, short = name.partition(".")

    def blind(monkeypatch: pytest.MonkeyPatch) -> None:
        if short in TOLD_BY_THE_STEP:
            place, called = TOLD_BY_THE_STEP[short]
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
        """Take note of a test that fails for what it asserts, not because something else broke."""
        if call.when == "call" and call.excinfo is not None and call.excinfo.errisinstance(AssertionError):
            self.seen[str(item.callspec.params["blinded"])] = True
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
    blind = [name for name, is_seen in blinding.seen.items() if not is_seen] + missed
    for name in blind:
        print(f"may be blind, and no test of it fails: {name}")  # noqa: T201
    print(f"{len(blinding.seen) + len(missed)} blinded, {len(blind)} unseen")  # noqa: T201
    return 1 if blind else 0


if __name__ == "__main__":
    sys.exit(main())
