"""Clusters on loopback: Spark with a master and workers of its own, and Sail, which speaks to PySpark like Spark.

What belongs here: starting and stopping them, of what ``make spark`` has put into ``.spark``. What does not: what is done on them.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / ".spark"
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(PACKAGES)]), "PYTHONWARNINGS": "ignore"}
"""With which a process speaks to a cluster."""
PATIENCE_SECONDS = 90


def lacking(*, java: bool) -> str | None:
    """Say what is not installed that a cluster needs, and how it is; None where nothing is lacking."""
    if not (PACKAGES / "pyspark").exists():
        return "PySpark is not installed: make spark"
    return "Java is not installed: apt-get install openjdk-17-jre-headless" if java and shutil.which("java") is None else None


@contextmanager
def spark(folder: Path, workers: int) -> Iterator[str]:
    """Start a standalone cluster of so many workers with a core each; lend its address."""
    port, page = _free_port(), _free_port()
    home = PACKAGES / "pyspark"
    environment = os.environ | {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_NO_DAEMONIZE": "1"}
    address, deploy = f"spark://127.0.0.1:{port}", "org.apache.spark.deploy"
    commands = [["master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page)]]
    for number in range(workers):
        work = str(folder / f"worker-{number}")
        settings = ["--host", "127.0.0.1", "--cores", "1", "--memory", "1g", "--webui-port", str(_free_port()), "--work-dir", work]
        commands.append(["worker.Worker", *settings, address])
    running: list[subprocess.Popen[bytes]] = []
    try:
        for place, (program, *settings) in enumerate(commands):
            with (folder / f"spark-{place}.log").open("wb") as log:
                command = [str(home / "bin" / "spark-class"), f"{deploy}.{program}", *settings]
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
            if place == 0:
                _await(lambda: _alive(page) is not None, folder / "spark-0.log")
        _await(lambda: _alive(page) == workers, folder / "spark-0.log")
        yield address
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextmanager
def sail(folder: Path) -> Iterator[str]:
    """Start Sail; lend its address."""
    port = _free_port()
    command = [sys.executable, str(PACKAGES / "bin" / "sail"), "spark", "server", "--ip", "127.0.0.1", "--port", str(port)]
    with (folder / "sail.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield f"sc://127.0.0.1:{port}"  # whoever speaks to it waits until it answers
    finally:
        process.kill()
        process.wait()


def _alive(page: int) -> int | None:
    """Return how many workers the master knows; None where it does not answer yet."""
    try:
        answer = requests.get(f"http://127.0.0.1:{page}/json/", timeout=5).json()
    except (requests.RequestException, ValueError):
        return None
    return int(answer["aliveworkers"])


def _await(is_so: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > until:
            raise RuntimeError(log.read_text(errors="replace")[-3000:])
        time.sleep(0.3)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
