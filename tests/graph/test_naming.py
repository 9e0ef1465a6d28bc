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

KEYS = {"identity.blocked"}
"""Keys of ``journeys.yaml`` that are called like a module and what could be in it."""

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


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_docstrings_name_what_is_there(module: Path) -> None:
    """``module.name``: where there is such a module, it has such a name."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    docstrings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    dotted = {name for text in docstrings for name in re.findall(r"``((?:[a-z_]+\.)+[A-Za-z_]+)``", text)}

    assert [name for name in sorted(dotted) if not is_there(name, module)] == []


def is_there(name: str, module: Path) -> bool:
    """Tell whether a dotted name is a module, or a name in one; what begins with no module of ours is something else."""
    rest, _, last = name.rpartition(".")
    is_ours = any(resolves(first, module) for first in (rest, name.partition(".")[0]))
    if name in KEYS or name.endswith((".yaml", ".json")) or resolves(name, module) or not is_ours:
        return True
    targets = [(ROOT / folder / Path(*rest.split("."))).with_suffix(".py") for folder in (*module.parents, "atc_pipeline")]
    return any(last in names_in(target) for target in targets if target.exists())


def names_in(module: Path) -> set[str]:
    """Return what a module, and each class in it, defines."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return names | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def test_a_name_leads_only_where_there_is_a_module() -> None:
    """A sibling, a room, a module of a room, or one in another top folder; not what was moved, nor a function."""
    queues = Path("atc_pipeline/decision/queues.py")

    assert all(resolves(name, queues) for name in ("gates", "decision", "customers.traits", "resources.storage.lake"))
    assert not any(resolves(name, queues) for name in ("candidates", "traits", "decision.traits", "gates.failed"))
