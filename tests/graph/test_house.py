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
    """Every requirement of pyproject.toml, sample and development included, is pinned within its range."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
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
