"""Where files are: ``resources/storage`` alone knows paths and opens files, so that another store is written in one place.

What belongs here: that promise, and who is excused from it. What does not: other promises of the tree (``test_house``).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORAGE = "resources/storage"
MODULES = {"fcntl", "glob", "gzip", "pathlib", "shutil", "tempfile", "zipfile"}
"""What nobody imports who has no files."""
OPENING = {"open", "mkdir", "unlink", "iterdir", "read_text", "read_bytes", "write_text", "write_bytes"}
OPENING |= {"read_parquet", "scan_parquet", "write_parquet", "sink_parquet", "read_ndjson", "scan_ndjson"}
EXCUSED = {
    "atc_pipeline/definitions.py": "the composition root says where everything is",
    "atc_pipeline/__main__.py": "says which file validate reads",
    "atc_pipeline/commands/applying.py": "hands Dagster what its job is configured with, as a file",
    "atc_pipeline/commands/asking.py": "writes a picture where it is told to",
    "atc_pipeline/commands/command.py": "says where everything is",
    "atc_pipeline/commands/planning.py": "writes a report where it is told to",
    "atc_pipeline/commands/previewing.py": "writes HTML where it is told to",
    "atc_pipeline/journeys/reading.py": "the engine reads the marketers' file, and no other",
    "atc_pipeline/journeys/resolution.py": "the engine reads the marketers' file, and no other",
    "atc_pipeline/journeys/validation.py": "the engine reads the marketers' file, and no other",
    "resources/journeys.py": "says which file that is",
    "resources/delivery/moving.py": "a command says where the project is",
    "resources/erasure/records.py": "searches Dagster's own files, which Dagster has put where they are",
}


def files() -> list[str]:
    """List the modules of the project that are no storage."""
    found = [path for package in ("assets", "atc_pipeline", "resources") for path in (ROOT / package).rglob("*.py")]
    return sorted(name for path in found if not (name := path.relative_to(ROOT).as_posix()).startswith(f"{STORAGE}/"))


def uses(text: str) -> Iterator[str]:
    """Yield what a module imports or calls that has to do with files."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from ({alias.name.partition(".")[0] for alias in names} & MODULES)
            case ast.ImportFrom(module=str(module)):
                yield from ({module.partition(".")[0]} & MODULES)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in OPENING:
                yield f"{name}()"


def renames(text: str) -> Iterator[int]:
    """Yield the lines on which something is given another name: ``replace`` of a path takes one thing, of a text two; of a frame a dict."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            one_thing = len(node.args) == 1 and not isinstance(node.args[0], ast.Dict)
            if (node.func.attr in {"replace", "rename"} and one_thing) or node.func.attr in {"renames", "move"}:
                yield node.lineno


def test_nobody_but_storage_knows_paths_or_opens_files() -> None:
    """To keep the lake, the landing zone, the outbox or the ledger elsewhere is to change ``resources/storage``."""
    using = {name: found for name in files() if (found := sorted(set(uses((ROOT / name).read_text(encoding="utf-8")))))}
    assert {name: found for name, found in using.items() if name not in EXCUSED} == {}
    assert sorted(EXCUSED) == sorted(name for name in using if name in EXCUSED), "who is excused needs it"


def test_one_function_renames() -> None:
    """What is written under another name first goes through ``resources.storage.files``; what a bucket has comes as it is."""
    modules = [*files(), *(path.relative_to(ROOT).as_posix() for path in (ROOT / STORAGE).glob("*.py"))]
    renaming = {name for name in modules if not name.startswith("atc_pipeline/") and [*renames((ROOT / name).read_text(encoding="utf-8"))]}
    assert renaming == {f"{STORAGE}/files.py", f"{STORAGE}/mirror.py"}


@pytest.mark.parametrize(
    "code",
    ["from pathlib import Path", "import gzip", "open('x')", "lake.path.open()", "frame.write_parquet(x)", "here.write_text('')"],
)
def test_each_way_is_seen(code: str) -> None:
    """A way to files that this module does not see would be no promise."""
    assert list(uses(code))


def test_renames_of_files_are_seen() -> None:
    """One line of these renames a file."""
    assert list(renames("part.replace(path)\ntext.replace('a', 'b')\nframe.rename({'a': 'b'})\n")) == [1]
