"""The house's promises: what must stay true of the tree, the lock and every code location.

What belongs here: promises about files and imports that no linter checks. What does not: anything about data.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from docs.architecture import PICTURE, folders, picture

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKSPACE = YAML(typ="safe").load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))
LOCATIONS = [location["python_module"]["module_name"] for location in WORKSPACE["load_from"]]

# Written so that this file does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(home|root|Users|private|tmp|var/folders|work|mnt|opt)/[\w.]")
REGISTRY_HOST = re.compile(r"(pypi|pythonhosted|npmjs|yarnpkg|anaconda|debian|ubuntu)[.](org|com)\b")


@cache
def tracked_files() -> tuple[Path, ...]:
    """List the files of the tree that git tracks or would."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing tells the project's files from others")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())


def text_of(path: Path) -> str:
    """Return the file's text, or nothing where it is a picture or data."""
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode()


PACKAGES = sorted(
    str(init.parent.relative_to(ROOT))
    for root in ("atc_pipeline", "assets", "resources", "sample", "benchmarks")
    for init in (ROOT / root).rglob("__init__.py")
)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_start_with_a_docstring_and_nothing_else(package: str) -> None:
    """Importing a package runs nothing and re-exports nothing: a name has one address."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))

    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_tests_are_no_packages_and_shadow_none() -> None:
    """A folder named like one of ours, or made a package, would be imported in its place."""
    folders = [path for path in (ROOT / "tests").rglob("*") if path.is_dir() and path.name != "__pycache__"]

    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert not {folder.name for folder in folders} & {"assets", "atc_pipeline", "resources", "sample"}


def test_the_license_is_told_and_nobodys_data_is_tracked() -> None:
    """Apache-2.0, as a file and as the project's own word; and my_data/, where the README lets people put theirs, is ignored."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")

    assert (PROJECT["project"]["license"], PROJECT["project"]["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert all(part in text for part in ("Apache License", "Version 2.0, January 2004", "APPENDIX", "The atc_pipeline authors"))
    assert not [path for path in tracked_files() if path.relative_to(ROOT).parts[0] == "my_data"]
    ignored = subprocess.run(["git", "check-ignore", "my_data/events.ndjson"], cwd=ROOT, check=False, capture_output=True)
    assert ignored.returncode == 0


def test_lock_names_no_host() -> None:
    """Any mirror will do: the lock holds names, versions and hashes, no address."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = [line for line in lock.splitlines() if line and not line.lstrip().startswith("#")]

    assert "://" not in lock
    assert all(re.match(r"[\w.-]+(\[[\w,-]+\])?==[\w.]+( ; .*)? \\$|    --hash=sha256:[0-9a-f]{64}( \\)?$", line) for line in pins)


def test_lock_pins_what_the_project_asks_for() -> None:
    """Every requirement of pyproject.toml, sample and development included, is pinned within its range; Spark in a lock of its own."""
    lock = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("requirements.lock", "spark.lock"))
    pinned = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)\S*?==([\w.]+)", lock, re.MULTILINE)}
    asked = [Requirement(text) for group in (PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"].values()) for text in group]

    unmet = [str(need) for need in asked if not need.specifier.contains(pinned.get(canonicalize_name(need.name), "0"))]
    assert unmet == [], "run `make lock`"


def test_no_file_names_one_machine_or_one_registry() -> None:
    """A path of somebody's machine, or the registry it happened to use, is true nowhere else."""
    named = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in tracked_files()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if MACHINE_PATH.search(line) or REGISTRY_HOST.search(line)
    ]

    assert named == []


# What a sentence may cite: sections of docs/spec.md (one or several, with steps, or the name of a part), records of docs/adr, pages.
_NUMBER = r"\d+(?:\.\d+)*"
_NUMBERS = rf"{_NUMBER}(?:(?:, | and | to ){_NUMBER})*"
CITED_SPEC = re.compile(rf"""\bSPEC\s+(?:({_NUMBERS})(?:, steps? ({_NUMBERS})|, (?:"([^"]+)"|``([^`]+)``))?|preamble\b)""")
CITED_RECORD = re.compile(rf"\bADRs?\s+({_NUMBERS})")
CITED_PAGE = re.compile(r"\bdocs/[\w./-]*\.md\b|\b\d{4}-[a-z-]+\.md\b")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def spec_parts() -> dict[str, str]:
    """Return the text of each section of docs/spec.md by its number, that of its parts included; numbered lists are parts too."""
    parts: dict[str, str] = {}
    number = ""
    for line in (ROOT / "docs/spec.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"##+ (\d+(?:\.\d+)?)[. ]", line):
            number = heading[1]
        elif number and (item := re.match(r"(\d+)\. ", line)):
            parts[f"{number}.{item[1]}"] = line
        for each in {number, number.split(".")[0]} - {""}:
            parts[each] = f"{parts.get(each, '')}{line}\n"
    return parts


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lost_citations(text: str) -> list[str]:
    """Return what a text cites that is not in the repository."""
    parts = spec_parts()
    lost = []
    for cited in CITED_SPEC.finditer(text):
        sections, steps, *names = cited.groups()
        numbers = re.findall(_NUMBER, sections or "")
        numbers += [f"{numbers[-1]}.{step}" for step in re.findall(_NUMBER, steps or "")]
        name = next(filter(None, names), "")
        if not all(number in parts for number in numbers) or (name and name not in parts[numbers[-1]]):
            lost.append(cited[0])
    records = re.findall(r"^\| \[?(\d+)", (ROOT / "docs/adr/README.md").read_text(encoding="utf-8"), re.MULTILINE)
    lost += [cited[0] for cited in CITED_RECORD.finditer(text) if not set(re.findall(_NUMBER, cited[1])) <= set(records)]
    pages = [cited[0] for cited in CITED_PAGE.finditer(text)]
    return lost + [page for page in pages if not any((ROOT / folder / page).is_file() for folder in ("", "docs/adr"))]


def lost_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a Markdown page that lead to no file, or to none of its headings."""
    prose = re.sub(r"^```.*?^```|``[^\n]*?``|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    lost = []
    for target in LINK.findall(prose):
        name, _, anchor = target.partition("#")
        to = page.parent / name if name else page
        if "://" not in target and not (to.exists() and (not anchor or anchor in anchors_of(to))):
            lost.append(target)
    return lost


def test_what_is_cited_is_in_the_repository() -> None:
    """Sections of the spec and their steps, records of decisions, pages: whoever reads a docstring can look them up."""
    texts = {path.relative_to(ROOT): text_of(path) for path in tracked_files() if path.suffix not in {".svg", ".lock"}}
    lost = {str(name): cited for name, text in texts.items() if (cited := lost_citations(text))}

    assert lost == {}
    assert sum(len(CITED_SPEC.findall(text)) for text in texts.values()) > 100, "or they are not found any more"


def test_links_of_pages_lead_somewhere() -> None:
    """To a file, and in it to a heading."""
    pages = [path for path in tracked_files() if path.suffix == ".md"]

    assert {str(page.relative_to(ROOT)): lost for page in pages if (lost := lost_links(page, text_of(page)))} == {}


# Numbers in braces, so that this file does not cite them.
LEADING_NOWHERE = (
    f"SPEC {99}",
    f"SPEC 8.{99}",
    f"SPEC 7, {98} and 8",
    f"SPEC 8.2 to {8}.99",
    f"SPEC 8, step {99}",
    f"SPEC 8, steps 2 to {99}",
    f"SPEC 7.1.{99}",
    f'SPEC {3}, "Price"',
    f"SPEC {3}, ``worst_hour``",
    f"ADR {99}",
    f"ADRs 1, {99} and 2",
    f"docs/adr/{9999}-nothing.md",
    f"{9999}-nothing.md",
    f"docs/{'nothing'}.md",
)


@pytest.mark.parametrize("cited", LEADING_NOWHERE)
def test_a_citation_that_leads_nowhere_is_found(cited: str) -> None:
    """In a sentence as people write it, and beside one that leads somewhere."""
    assert lost_citations(f"Why it is so (SPEC 8, step 6): {cited}.") == [cited]


@pytest.mark.parametrize("target", ["nothing.md", "spec.md#nothing", "#nothing", "adr/nothing", "../nothing.py"])
def test_a_link_that_leads_nowhere_is_found(target: str) -> None:
    """Beside one that leads somewhere, and one that is code."""
    assert lost_links(ROOT / "docs/deploy.md", f"[a](spec.md#86-holdout) `[b](no)` [c]({target})") == [target]


def test_records_of_decisions_are_listed_as_they_are() -> None:
    """With number, title and date; a status says nothing of its own; and no number is given twice."""
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    listed = [line for line in index.splitlines() if re.match(r"\| \[?\d", line)]
    for path in sorted((ROOT / "docs/adr").glob("[0-9]*.md")):
        heading, status, *_ = path.read_text(encoding="utf-8").split("\n\n")
        number, title = heading.removeprefix("# ").split(". ", 1)
        date, *words = re.sub(r"\s\((?!\d)[^)]*\)", "", status.replace("\n", " ")).split(" · ")
        assert path.name.startswith(f"{int(number):04d}-")
        assert f"| [{number}]({path.name}) | {title} | {date} | {' · '.join(words)} |" in listed

    assert [int(line.strip("| [").split(" ")[0].split("]")[0]) for line in listed] == list(range(1, len(listed) + 1))


def test_the_picture_of_the_architecture_is_of_the_imports_there_are() -> None:
    """And every module of ours is in one of its boxes."""
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run `make docs`"

    boxes = {box for folder in folders() for row in folder.rows for box in row}
    ours = {path.relative_to(ROOT).with_suffix("") for root in ("atc_pipeline", "assets", "resources") for path in (ROOT / root).glob("*")}
    assert boxes == {".".join(path.parts) for path in ours if not path.name.startswith("__") or path.name == "__main__"}


def test_dagster_tools_agree_on_the_code_location() -> None:
    """`dagster dev`, `dg` and workspace.yaml find the same module."""
    tool = PROJECT["tool"]

    assert [tool["dagster"]["module_name"]] == LOCATIONS
    assert tool["dg"]["project"]["code_location_target_module"] == tool["dagster"]["module_name"]


def test_environment_file_leaves_users_their_settings() -> None:
    """Dagster lets .env outrank the shell: anything in it that a user may want to set would be ignored silently."""
    lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == [
        "DAGSTER_HOME=${PWD}/dagster_home",
        "ATC_HISTORY=${ATC_HOME:-.atc}/dagster",
    ]


# An audit hook sees what Python itself does; what Polars and DuckDB would write shows in the data's home.
LOAD = """
import importlib, os, sys

effects = []

def watch(event, args):
    writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR) and args[0] != os.devnull
    if writes or event in {"os.mkdir", "os.rename", "os.remove", "socket.connect"}:
        effects.append((event, *args[:2]))

sys.dont_write_bytecode = True
sys.addaudithook(watch)
module = importlib.import_module(sys.argv[1])
assert not effects, effects
assert type(module.defs).__name__ == "Definitions"
"""


@pytest.mark.slow
@pytest.mark.parametrize("location", LOCATIONS)
def test_code_location_loads_in_a_fresh_interpreter(location: str, tmp_path: Path) -> None:
    """Loading reads journeys.yaml, and writes, creates and calls nothing: the data's home need not exist."""
    home = tmp_path / "home"
    environment = os.environ | {"ATC_HOME": str(home)}

    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, location], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert loaded.returncode == 0, loaded.stderr
    assert not home.exists()
