"""``dagster dev`` as a user starts it, in a folder of its own, asked by GraphQL as its pages do."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import requests

PROJECT = Path(__file__).resolve().parents[2]
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } ... on RunConfigValidationInvalid { errors { message } } } }"""
TERMINATE = "mutation($run: String!) { terminateRun(runId: $run) { __typename } }"
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
FILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) { __typename
  ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
RUNS = "query($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) { ... on Runs { results { runId status } } } }"
LOGS = (
    """query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events { __typename ... on MessageEvent { message } } } } }"""
)


class Dagster:
    """A folder with the project's own ``.env`` and ``dagster.yaml``, and ``dagster`` commands run in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        """Set it up; nothing is started yet."""
        (folder / "dagster_home").mkdir(parents=True)
        shutil.copy(PROJECT / ".env", folder)
        shutil.copy(PROJECT / "dagster_home" / "dagster.yaml", folder / "dagster_home")
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.environment = inherited | environment | {"PWD": str(folder), "PYTHONPATH": str(PROJECT), "no_proxy": "127.0.0.1"}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.started: list[subprocess.Popen[bytes]] = []

    def cli(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        with (self.folder / "cli.log").open("ab") as log:
            command = [sys.executable, "-m", "dagster", *arguments]
            self.started.append(subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log))
        return self.started[-1]

    def __enter__(self) -> Self:
        """Start ``dagster dev`` and wait until it answers with the code location loaded."""
        process = self.cli("dev", "-m", "atc_pipeline.definitions", "--port", str(self.port))
        try:
            until(lambda: self._is_ready(process), 120)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill everything it has started, as a power cut does."""
        self.kill()

    def kill(self) -> None:
        """Send SIGKILL to all commands and to all their descendants."""
        for pid in [pid for process in self.started for pid in (*descendants(process.pid), process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self.started:
            self.started.pop().wait(60)

    def ask(self, query: str, **variables: object) -> Any:
        """Ask GraphQL; return its data."""
        answer = requests.post(f"http://127.0.0.1:{self.port}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self, day: str, job: str = "daily") -> str:
        """Launch a job for a day; return the run's id."""
        selector = {"repositoryLocationName": "atc_pipeline.definitions", "repositoryName": "__repository__", "jobName": job}
        tags = [{"key": "dagster/partition", "value": day}]
        params = {"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}}
        launched = self.ask(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def fill(self, asset: str, days: list[str]) -> str:
        """Launch a range of an asset's partitions, as the dialog on its page does; return the backfill's id."""
        params = {"assetSelection": [{"path": [asset]}], "partitionNames": days}
        launched = self.ask(FILL, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def runs_of(self, backfill: str) -> list[dict[str, str]]:
        """Return the runs that a backfill has started."""
        found: list[dict[str, str]] = self.ask(RUNS, tags=[{"key": "dagster/backfill", "value": backfill}])["runsOrError"]["results"]
        return found

    def status(self, run: str) -> str:
        """Return a run's status."""
        return str(self.ask(STATUS, run=run)["runOrError"]["status"])

    def log(self, run: str) -> str:
        """Return what a run has said."""
        return "\n".join(event.get("message") or "" for event in self.ask(LOGS, run=run)["logsForRun"]["events"])

    def _is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, (self.folder / "cli.log").read_text()[-2000:]
        with contextlib.suppress(requests.ConnectionError, KeyError):
            answer = self.ask("{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }")
            return bool(answer["workspaceOrError"]["locationEntries"] == [{"loadStatus": "LOADED"}])
        return False


def until(is_so: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so."""
    last = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < last, "it took too long"
        time.sleep(0.3)


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those they have."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    family, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in family} - family
        family, grown = family | more, bool(more)
    yield from family - {pid}
