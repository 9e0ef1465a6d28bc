"""The house's names: nothing is called by a pronoun, and what a docstring points to is there.

What belongs here: what names must not be, and that those in docstrings lead somewhere. What does not: the rest of the house
(``test_house``).
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ("atc_pipeline", "assets", "resources", "benchmarks", "sample")
    for path in (ROOT / folder).rglob("*.py")
)

PRONOUNS = {
    *("one", "ones", "other", "others", "found", "said", "told", "some"),
    *("it", "them", "this", "that", "all_", "everything"),
}
"""They stand for a name, and so say nothing of what they name: an option, a row, a path, a message."""

ELSEWHERE = re.compile(r"What does not:(.*?)(?:\n\n|\Z)", re.DOTALL)
"""Where a module's docstring says what belongs to others."""


def pronouns(tree: ast.AST) -> Iterator[str]:
    """Find variables and arguments that are called by a pronoun, with the line of each."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                if name in PRONOUNS:
                    yield f"{node.lineno}: {name}"
            case _:
                pass


def resolves(name: str, module: Path) -> bool:
    """Tell whether a name leads to a module from this one: in its own folder, in one around it, or in the engine."""
    targets = [ROOT / folder / Path(*name.split(".")) for folder in (*module.parents, "atc_pipeline")]
    return any(target.with_suffix(".py").exists() or (target / "__init__.py").exists() for target in targets)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_is_called_by_a_pronoun(module: Path) -> None:
    """A variable or an argument is called what it is."""
    assert list(pronouns(ast.parse((ROOT / module).read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "one = 1",
        "for other in (): pass",
        "[said for said in ()]",
        "f = lambda found: found",
        "def f(*, told): pass",
        "if some := 1: pass",
        "match x:\n  case [it, *them]: pass",
    ],
)
def test_a_pronoun_is_found_wherever_a_name_may_be_given(code: str) -> None:
    """Assigned, looped over, comprehended, matched, or an argument of any function."""
    assert list(pronouns(ast.parse(code)))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_docstrings_point_to_modules_that_exist(module: Path) -> None:
    """What a module says does not belong to it is in another one, which can be found from there by the name given."""
    docstring = ast.get_docstring(ast.parse((ROOT / module).read_text(encoding="utf-8"))) or ""
    named = [name for text in ELSEWHERE.findall(docstring) for name in re.findall(r"``([a-z_.]+)``", text)]

    assert [name for name in named if not resolves(name, module)] == []


def test_a_name_leads_only_where_there_is_a_module() -> None:
    """A sibling, a room, a module of a room, or one in another top folder; not what was moved, nor a function."""
    queues = Path("atc_pipeline/decision/queues.py")

    assert all(resolves(name, queues) for name in ("gates", "decision", "customers.traits", "resources.storage.lake"))
    assert not any(resolves(name, queues) for name in ("candidates", "traits", "decision.traits", "gates.failed"))
