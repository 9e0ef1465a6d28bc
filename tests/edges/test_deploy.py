"""Dockerfile, compose file and docs/deploy.md say the same, and what they say starts: no container engine is needed to see it."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import dagster as dg
import pytest
import requests
import yaml

from assets.jobs.dead_runs import dead_runs
from resources.storage.turn import Turn
from tests.edges.postgres import ESCAPED, PASSWORD, Postgres
from tests.edges.running_dagster import LAUNCH, LOGS, STATUS, descendants, until
from tests.edges.web import ROOT, free_port
from tests.graph.small_world import FIRST, make_world

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("code", "webserver", "daemon")
DOCKERFILE = [
    (word, rest.strip())
    for word, _, rest in (line.partition(" ") for line in (ROOT / "Dockerfile").read_text().splitlines() if line and line[0] != "#")
]
BIN = Path(sys.executable).parent
PIP_BRINGS = ("dagster", "dagster-daemon", "dagster-webserver", "python")
DOCUMENTED = set(re.findall(r"(?m)^\| `([A-Z_]+)` \|", (ROOT / "docs" / "deploy.md").read_text()))
NAME = re.compile(r"\b(?:ATC|AWS|DAGSTER|POSTGRES)_[A-Z_]+\b")
POSTGRES_IMAGE = {"POSTGRES_USER", "POSTGRES_DB"}
"""What the image of PostgreSQL asks for, and nobody needs to set."""


def of_dockerfile(word: str) -> list[str]:
    """What follows an instruction, each time."""
    return [rest for instruction, rest in DOCKERFILE if instruction == word]


def image_environment() -> dict[str, str]:
    """What the image sets."""
    return dict(pair.split("=", 1) for line in of_dockerfile("ENV") for pair in line.split())


def copies() -> Iterator[tuple[list[str], str]]:
    """What is copied into the image, and where to."""
    for line in of_dockerfile("COPY"):
        *sources, target = line.split()
        yield sources, target


def test_every_file_that_is_copied_exists_and_is_let_in() -> None:
    """``.dockerignore`` keeps all else out, the settings of a checkout (.env) above all."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    copied = [source for sources, _ in copies() for source in sources]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/')[0]}" in ignored, source
    assert not {".env", "dagster_home"} & {source.rstrip("/") for source in copied}


def test_every_command_and_module_exists() -> None:
    """Of services, of health checks, and of the image."""
    commands = [SERVICES[name]["command"] for name in OURS] + [SERVICES[name]["healthcheck"]["test"][1:] for name in OURS]
    commands.append(json.loads(of_dockerfile("CMD")[0]))
    assert commands[-1] == SERVICES["code"]["command"]
    for command in commands:
        assert command[0] in PIP_BRINGS
        assert (BIN / command[0]).exists()
        if "--module-name" in command:
            assert importlib.util.find_spec(command[command.index("--module-name") + 1])
    assert SERVICES["postgres"]["healthcheck"]["test"][1] == "pg_isready"  # of the image of PostgreSQL itself


def test_images_are_pinned_and_nobody_is_root() -> None:
    """By a full version; the user is there before whatever is run."""
    for image in [*of_dockerfile("FROM"), SERVICES["postgres"]["image"]]:
        assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?-[a-z-]+", image), image
    (user,) = of_dockerfile("USER")
    assert user not in {"root", "0"}
    assert any(line.startswith("useradd") and line.endswith(f" {user}") for line in of_dockerfile("RUN"))
    words = [word for word, _ in DOCKERFILE]
    assert words.index("USER") < words.index("CMD")


def test_ports_hosts_and_folders_agree() -> None:
    """Between services, the workspace, the image, the health checks and the proxy; and the pages are on loopback only."""
    (location,) = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text())["load_from"]
    grpc = location["grpc_server"]
    code, pages = SERVICES["code"], SERVICES["webserver"]
    assert grpc["host"] in SERVICES
    for command in (code["command"], code["healthcheck"]["test"]):
        assert command[command.index("--port") + 1] == str(grpc["port"])
    port = pages["command"][pages["command"].index("--port") + 1]
    assert pages["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"127.0.0.1:{port}/" in pages["healthcheck"]["test"][-1]
    assert f"server 127.0.0.1:{port};" in (ROOT / "deploy" / "nginx.conf").read_text()
    assert set(of_dockerfile("EXPOSE")[0].split()) == {port, str(grpc["port"])}
    home = image_environment()["DAGSTER_HOME"]
    assert any(target == f"{home}/" and "deploy/dagster.yaml" in sources for sources, target in copies())
    for name in ("webserver", "daemon"):
        assert SERVICES[name]["command"][-1] == f"{home}/workspace.yaml"
    assert of_dockerfile("VOLUME") == [image_environment()["ATC_HOME"]]
    for name in OURS:
        assert f"atc:{image_environment()['ATC_HOME']}" in SERVICES[name]["volumes"]
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert {volume for volume in mounted if volume.isidentifier()} == set(COMPOSE["volumes"])
    assert all((ROOT / volume).exists() for volume in mounted if volume.startswith("./"))
    assert code["environment"]["ATC_JOURNEYS"].startswith("/etc/atc/")


def test_every_setting_is_documented_and_every_documented_one_is_read() -> None:
    """Names in the code, the image and the compose file are those of the table in docs/deploy.md."""
    folders = ("atc_pipeline", "assets", "resources", "deploy", "dagster_home")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".yaml", ".sql"}]
    read = {name for path in files for name in NAME.findall(path.read_text())}
    used = {name for path in ("Dockerfile", "compose.yaml") for name in NAME.findall((ROOT / path).read_text())}
    assert (read | used) - POSTGRES_IMAGE == DOCUMENTED
    settings = {name for service in SERVICES.values() for name in service.get("environment", {})} | image_environment().keys()
    assert {name for name in settings if name.startswith(("ATC_", "AWS_"))} <= read


def test_secrets_are_given_to_whom_they_concern() -> None:
    """Web server and daemon have the address of Dagster's records, and nothing else that is secret."""
    for name in ("webserver", "daemon"):
        assert set(SERVICES[name]["environment"]) == {"DAGSTER_POSTGRES_URL"}


@dataclass
class Deployment:
    """What the compose file starts, in a folder that has what the image would have, with ports of its own."""

    root: Path
    server: Postgres
    world: Mapping[str, str]
    databases: tuple[str, str]
    ports: dict[str, int] = field(default_factory=lambda: {"4000": free_port(), "3000": free_port()})
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def build(self) -> None:
        """Copy what the Dockerfile copies, and run what it runs that needs neither root nor a registry."""
        for sources, target in copies():
            folder = self.root / (target.strip("/") if target.startswith("/") else f"app/{target}")
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, folder, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    folder.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, folder)
        for line in of_dockerfile("RUN"):
            if line.startswith("python "):
                subprocess.run([BIN / "python", *line.split()[1:]], check=True, cwd=self.root / "app")
        workspace = self.root / "srv/dagster/workspace.yaml"
        workspace.write_text(self.here(workspace.read_text().replace("host: code", "host: 127.0.0.1")))
        (self.root / "var/lib/atc/dagster").mkdir(parents=True)

    def here(self, text: str) -> str:
        """Say what a text of the compose file says, of this folder, these ports and this server."""
        for ours, test in self.ports.items():
            text = re.sub(rf"(?<![0-9]){ours}(?![0-9])", str(test), text)
        for name, database in zip(("dagster", "ledger"), self.databases, strict=True):
            text = text.replace(f"postgres:5432/{name}", f"127.0.0.1:{self.server.port}/{database}")
        text = text.replace("${POSTGRES_PASSWORD}", ESCAPED).replace("${ATC_LIVE:-false}", "true").replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        text = re.sub(r"\$\{[A-Z_]+:-\}", "", text)
        return re.sub(r"(?<![\w.])/(app|srv|var/lib/atc|etc/atc)\b", rf"{self.root}/\1", text)

    def environment(self, service: str) -> dict[str, str]:
        """Return what a process of a service would find."""
        told = {name: self.here(str(text)) for name, text in (image_environment() | SERVICES[service]["environment"]).items()}
        inherited = {name: value for name, value in os.environ.items() if not NAME.fullmatch(name) and name != "PYTHONDONTWRITEBYTECODE"}
        return inherited | told | {"PWD": str(self.root / "app"), "no_proxy": "127.0.0.1,localhost"}

    def start(self, service: str) -> None:
        """Start a service."""
        with (self.root / f"{service}.log").open("wb") as log:
            command = [self.here(word) for word in SERVICES[service]["command"]]
            self.started[service] = subprocess.Popen(
                [BIN / command[0], *command[1:]], cwd=self.root / "app", env=self.environment(service), stdout=log, stderr=log
            )

    def is_healthy(self, service: str) -> bool:
        """Run a service's own health check."""
        assert self.started[service].poll() is None, (self.root / f"{service}.log").read_text()[-3000:]
        word, *command = [self.here(word) for word in SERVICES[service]["healthcheck"]["test"]]
        assert word == "CMD"
        checked = subprocess.run(
            [BIN / command[0], *command[1:]], cwd=self.root / "app", env=self.environment(service), capture_output=True, check=False
        )
        return checked.returncode == 0

    def ask(self, query: str, **variables: object) -> Any:
        """Ask GraphQL; return its data."""
        address = f"http://127.0.0.1:{self.ports['3000']}/graphql"
        answer = requests.post(address, json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self) -> str:
        """Launch the first day, to be sent; return the run."""
        selector = {"repositoryLocationName": "atc_pipeline", "repositoryName": "__repository__", "jobName": "daily"}
        named = {"ops": {"activation": {"config": {"past_days": [str(FIRST)]}}}}
        tags = [{"key": "dagster/partition", "value": str(FIRST)}]
        params = {"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}, "runConfigData": named}
        return str(self.ask(LAUNCH, params=params)["launchRun"]["run"]["runId"])

    def status(self, run: str) -> str:
        """Return a run's status."""
        return str(self.ask(STATUS, run=run)["runOrError"]["status"])

    def log(self, run: str) -> str:
        """Return what a run has said."""
        return "\n".join(event.get("message") or "" for event in self.ask(LOGS, run=run)["logsForRun"]["events"])

    def kill(self) -> None:
        """Send SIGKILL to all that was started, and to what that has started."""
        for pid in [pid for process in self.started.values() for pid in (*descendants(process.pid), process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.started.values():
            process.wait(60)

    def __enter__(self) -> Self:
        """Nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill everything."""
        self.kill()


def databases_of_the_image(server: Postgres) -> tuple[str, str]:
    """Make what the image of PostgreSQL makes and runs when its volume is empty; return the names of the databases."""
    statements = (ROOT / "deploy" / "databases.sql").read_text()
    for name in (SERVICES["postgres"]["environment"]["POSTGRES_DB"], "ledger"):
        server.ask("postgres", f"drop database if exists {name}")
    server.ask("postgres", "create database dagster")
    server.ask("postgres", "\n".join(line for line in statements.splitlines() if not line.startswith("--")))
    return "dagster", "ledger"


@pytest.mark.slow
def test_what_the_compose_file_starts_runs_a_day(tmp_path: Path, server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code location loads from what the image has; a run waits, a second one is queued behind it; its process is killed and the sensor
    marks it as failed; the second runs the day, records it in PostgreSQL and writes the ledger there; and no file has a password."""
    world = make_world(tmp_path / "world")
    with Deployment(tmp_path / "image", server, world, databases_of_the_image(server)) as deployment:
        deployment.build()
        shutil.copytree(Path(world["ATC_HOME"]) / "landing", deployment.root / "var/lib/atc/landing")
        (deployment.root / "etc/atc").mkdir(parents=True)
        shutil.copy(world["ATC_JOURNEYS"], deployment.root / "etc/atc")
        turn = Turn(deployment.root / "var/lib/atc/lake.turn")
        ours = turn.take("ours", "a test", print)
        deployment.start("code")
        until(lambda: deployment.is_healthy("code"), 240)
        deployment.start("webserver")
        deployment.start("daemon")
        until(lambda: deployment.is_healthy("webserver"), 240)
        until(lambda: deployment.is_healthy("daemon"), 240)
        loaded = deployment.ask("{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }")
        assert loaded["workspaceOrError"]["locationEntries"] == [{"name": "atc_pipeline", "loadStatus": "LOADED"}]

        killed = deployment.launch()
        until(lambda: "waiting for run ours of a test" in deployment.log(killed), 240)
        queued = deployment.launch()
        assert deployment.status(killed) == "STARTED"
        (process,) = re.findall(r"for run .*?\(?pid: ?(\d+)", deployment.log(killed))[:1]
        assert deployment.status(queued) == "QUEUED"
        os.kill(int(process), signal.SIGKILL)
        for name, value in deployment.environment("code").items():
            if NAME.fullmatch(name):
                monkeypatch.setenv(name, value)
        with dg.DagsterInstance.get() as instance:

            def is_marked() -> bool:
                with dg.build_sensor_context(instance=instance) as context:
                    dead_runs()(context)
                return deployment.status(killed) == "FAILURE"

            until(is_marked, 120)
            turn.give_back(ours)
            until(lambda: deployment.status(queued) in {"SUCCESS", "FAILURE"}, 240)
            assert deployment.status(queued) == "SUCCESS", deployment.log(queued)
            assert instance.get_materialized_partitions(dg.AssetKey("activation")) == {str(FIRST)}
        (recorded,) = server.ask("dagster", f"select count(*) from event_logs where run_id = '{queued}'")  # noqa: S608
        assert recorded[0] > 100
        sent = server.ask("ledger", "select status, attempts, count(*) from deliveries group by 1, 2 order by 1")
        assert [row[:2] for row in sent] == [("delivered", 1)]
        assert (deployment.root / f"var/lib/atc/lake/activation/date={FIRST}/part.parquet").exists()
        assert not (deployment.root / "var/lib/atc/ledger.duckdb").exists()
        kept = b"".join(path.read_bytes() for path in deployment.root.rglob("*") if path.is_file())
        assert PASSWORD.encode() not in kept
        assert ESCAPED.encode() not in kept
        shown = server.ask("dagster", "select count(*) from event_logs where event like '%s3cret%'")
        shown += server.ask("dagster", "select count(*) from snapshots where encode(snapshot_body, 'escape') like '%s3cret%'")
        assert shown == [(0,), (0,)]
        resources = deployment.ask(
            "{ topLevelResourceDetailsOrError(resourceSelector: {repositoryLocationName: "
            '"atc_pipeline", repositoryName: "__repository__", resourceName: "ledger"}) '
            "{ ... on ResourceDetails { configuredValues { key value } } } }"
        )
        assert f"postgresql://127.0.0.1:{server.port}/ledger" in str(resources)
        assert "s3cret" not in str(resources)
