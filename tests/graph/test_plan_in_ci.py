"""The workflow that comments a pull request with its plan: what it runs is there, and it can do no more than it must.

What belongs here: ``docs/plan-in-ci.yml``. What does not: what the plan says (``tests/engine/plan``).
"""

import os
import re
import subprocess
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from atc_pipeline.commands.planning import Plan
from atc_pipeline.plan.verdict import rule

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/plan-in-ci.yml").read_text(encoding="utf-8")
WORKFLOW = YAML(typ="safe").load(TEXT)
JOBS = WORKFLOW["jobs"]
STEPS: list[dict[str, Any]] = [step for job in JOBS.values() for step in job["steps"]]
SCRIPTS = {step["name"]: step["run"] for step in STEPS if "run" in step}
FAKE_GH = """#!/bin/sh
echo "$@" >> calls
case "$*" in *--paginate*) cat existing ;; esac
"""


def test_it_runs_for_pull_requests_that_change_the_file_and_never_with_secrets_for_strangers() -> None:
    """pull_request, of branches of this repository; pull_request_target would hand the lake's key to anybody's code."""
    assert WORKFLOW["on"] == {"pull_request": {"paths": ["journeys.yaml"]}}
    assert JOBS["plan"]["if"] == "github.event.pull_request.head.repo.full_name == github.repository"


def test_it_may_do_no_more_than_it_must() -> None:
    """The job with the key reads; the job that writes has no key and runs nothing of the repository."""
    assert WORKFLOW["permissions"] == {}
    assert {name: job["permissions"] for name, job in JOBS.items()} == {"plan": {"contents": "read"}, "comment": {"pull-requests": "write"}}
    assert "secrets." not in str(JOBS["comment"])
    assert not [step for step in JOBS["comment"]["steps"] if "checkout" in step.get("uses", "")]
    (checkout,) = [step for step in JOBS["plan"]["steps"] if "checkout" in step.get("uses", "")]
    assert checkout["with"] == {"persist-credentials": False}


def test_actions_are_pinned_to_a_commit() -> None:
    """A tag can be moved to other code; the version is beside it for people."""
    used = [step["uses"] for step in STEPS if "uses" in step]

    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in used)
    assert len(re.findall(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", TEXT, re.MULTILINE)) == len(used)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_bash_without_text_of_strangers(name: str) -> None:
    """They parse; and whatever GitHub knows of the pull request comes as a variable, never as code."""
    subprocess.run(["bash", "-n"], input=SCRIPTS[name], text=True, check=True)
    assert "${{" not in SCRIPTS[name]


def test_it_sets_up_as_the_makefile_does() -> None:
    """The stamp of the environment is a target of the Makefile."""
    assert SCRIPTS["Set up"] == "make .venv/installed.lock"
    assert "VENV := .venv/installed.lock" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_rules_it_fails_on_are_known() -> None:
    """Each can be read, and judged."""
    rules = re.search(r"--fail-on (.*?) \\\n", SCRIPTS["Plan"])

    assert rules
    assert [rule(text.strip("'")).text for text in rules[1].split()] == [
        "changes>20%",
        "messages>+10%",
        "arms_change",
        "empty_segment",
        "not_reproducible",
    ]


@pytest.mark.parametrize(
    ("code", "has_plan", "says"),
    [
        ("0", True, "keeps every rule"),
        ("1", True, "breaks a rule"),
        ("1", False, "There is no plan"),
        ("2", False, "Refused"),
        ("3", True, "Not reproducible"),
        ("137", False, "There is no plan"),
    ],
)
def test_each_exit_code_fails_with_its_message(tmp_path: Path, code: str, has_plan: bool, says: str) -> None:
    """Whoever looks at the check learns what it was without reading a log."""
    (tmp_path / "plan").mkdir()
    if has_plan:
        (tmp_path / "plan/plan.md").touch()
    ended = subprocess.run(
        ["bash", "-e"],
        input=SCRIPTS["Verdict"],
        text=True,
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "CODE": code},
    )

    assert ((ended.returncode == 0) == (code == "0"), says in ended.stdout) == (True, True)


def test_the_command_is_one_that_there_is() -> None:
    """Its options are known to the parser, and it reads the lake from where the environment says."""
    script = SCRIPTS["Plan"].replace("\\\n", " ")
    command = next(line for line in script.splitlines() if "-m atc_pipeline" in line).split("2>")[0].split()
    parser = ArgumentParser(exit_on_error=False)
    Plan().expect(parser)

    assert command[:4] == [".venv/bin/python", "-m", "atc_pipeline", Plan.name]
    asked = parser.parse_args([word.strip("'") for word in command[4:]])
    assert (asked.format, str(asked.out), str(asked.journeys), asked.days) == ("md", "plan/plan.md", "journeys.yaml", 30)
    assert "ATC_HOME" in next(step for step in STEPS if step.get("name") == "Plan")["env"]


@pytest.mark.parametrize(("existing", "call"), [("", "api --method POST comments"), ("71\n", "api --method PATCH threads/71")])
@pytest.mark.parametrize("code", ["0", "2"])
def test_there_is_one_comment(tmp_path: Path, existing: str, call: str, code: str) -> None:
    """The first run writes it, later ones write over it; where there is no plan it says why, as text that is no markup."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "existing").write_text(existing)
    (tmp_path / "gh").write_text(FAKE_GH)
    (tmp_path / "gh").chmod(0o755)
    if code == "0":
        (tmp_path / "plan/plan.md").write_text("### 12 % change\n")
    (tmp_path / "plan/problems.txt").write_text("deciding: 2017-12-03 done\njourneys.yaml:3: journey `x`: <b>\x1b[31m\n")
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "COMMENTS": "comments", "THREADS": "threads", "CODE": code}

    subprocess.run(
        ["bash", "-e"],
        input=SCRIPTS["Comment, once per pull request"],
        text=True,
        check=True,
        cwd=tmp_path,
        env={**env, "COMMIT": "0123456789abcdef", "RUN": "https://example.com"},
    )

    assert (tmp_path / "calls").read_text().splitlines()[1].startswith(call)
    body = (tmp_path / "body.md").read_text()
    assert body.startswith("<!-- atc_pipeline plan -->\n###")
    assert "deciding" not in body
    assert "Of commit 0123456789ab, exit code" in body
    assert ("    journeys.yaml:3: journey `x`: <b>[31m\n" in body) == (code == "2")
