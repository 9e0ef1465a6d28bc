"""Dagster's own web server, on a lake that was made of hostile events."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import polars as pl
import requests

from assets.checks import _shown
from tests.edges.attacks import ATTACKS
from tests.graph.small_world import FIRST, line, make_world, run

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def quiet_home(folder: Path) -> Path:
    """A DAGSTER_HOME in which nothing is told to anybody; in the folder that .env looks for it in when PWD is ``folder``."""
    home = folder / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    return home


def hostile_world(folder: Path) -> tuple[dict[str, str], str]:
    """Run a day of events whose names, values, ids and file are attacks; return the environment and the run."""
    environment = make_world(folder / "world")
    lines = []
    for number, attack in enumerate(ATTACKS):
        names = ("h1", "h2", f"{number} {attack}"[:300])
        bought = {"revenue": 1, "city": ATTACKS[0]}
        lines += [line(one, FIRST, 0, messageId=f"{number}:{one}", event=attack, properties={"category": attack}) for one in names]
        lines += [line(one, FIRST, 1, messageId=f"{number}:{one}:o", event="Order Completed", properties=bought) for one in names]
        alias = {"type": "alias", "previousId": "h1", "userId": "h2" if number else "c00"}
        lines.append(json.dumps(alias | {"messageId": attack, "timestamp": f"{FIRST}T09:00:00Z"}))
    landed = Path(environment["ATC_HOME"], "landing", str(FIRST), "![f](attack-file.png) <img src=attack-file2.png>.ndjson")
    landed.write_text("{broken\n" + "\n".join(lines) + "\n")
    with dg.DagsterInstance.from_config(str(quiet_home(folder))) as instance:
        done = run(environment, FIRST, FIRST, instance=instance)
        failing = pl.DataFrame({"customer_id": ATTACKS, "![h](/attack-header.png)": ATTACKS})
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(dg.AssetKey("raw_events"), check_name="schema", passed=False, metadata=_shown(failing))
        )
    return environment, done.run_id


@contextmanager
def webserver(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Start Dagster's web server on loopback, with its history in ``folder/dagster_home``; return its address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    surroundings = os.environ | environment | {"PWD": str(folder), "DAGSTER_HOME": str(folder / "dagster_home")}
    surroundings.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [Path(sys.executable).with_name("dagster-webserver"), "-h", "127.0.0.1", "-p", str(port), "-m", "atc_pipeline.definitions"]
    with (folder / "webserver.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=surroundings, stdout=log, stderr=log)
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while not _is_up(address):
            assert process.poll() is None, (folder / "webserver.log").read_text()[-2000:]
            assert time.monotonic() < end, (folder / "webserver.log").read_text()[-2000:]
            time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _is_up(address: str) -> bool:
    try:
        return requests.get(f"{address}/server_info", timeout=5).ok
    except requests.RequestException:
        return False
