"""A real PostgreSQL server for tests: started on loopback by whoever may start it, with a password, and without patience for disks."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tests.edges.web import free_port

PASSWORD = "s3cret@word"  # noqa: S105
ESCAPED = "s3cret%40word"


def programs() -> Path:
    """Return the folder with initdb and pg_ctl; without it the test is skipped, but in CI it fails."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))  # where Debian puts it
    program = installed[-1] if installed else shutil.which("initdb")
    if program is None and os.environ.get("CI"):
        pytest.fail("PostgreSQL is not installed, and CI may not go without: apt-get install postgresql")
    if program is None:
        pytest.skip("PostgreSQL is not installed")
    return Path(program).parent


@dataclass
class Postgres:
    """A running server; each test has a database of its own."""

    folder: Path
    bin: Path
    port: int
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def address(self, database: str, password: str = ESCAPED, user: str = "atc") -> str:
        """Return the address of a database."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def database(self, options: str = "") -> str:
        """Create a database; return its address."""
        name = f"test_{next(self.numbers)}"
        self.ask("postgres", f"create database {name} {options}")
        return self.address(name)

    def ask(self, database: str, statement: str) -> list[tuple[object, ...]]:
        """Run a statement, as the superuser; return its rows."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def cut(self, database: str) -> None:
        """End all connections to a database."""
        self.ask("postgres", f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'")  # noqa: S608

    def bytes_of(self, database: str) -> bytes:
        """Return what is in the files of a database."""
        self.ask(database, "checkpoint")
        ((number,),) = self.ask(database, "select oid from pg_database where datname = current_database()")
        return b"".join(path.read_bytes() for path in (self.folder / "data" / "base" / str(number)).iterdir())

    def control(self, *arguments: str) -> None:
        """Start or stop the server."""
        command = [str(self.bin / "pg_ctl"), "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), *arguments]
        subprocess.run([*unprivileged(), *command], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def start(self) -> None:
        """Start it, where it was."""
        settings = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= -c fsync=off -c full_page_writes=off"
        self.control("-o", settings, "start")

    def stop(self) -> None:
        """Cut all connections and stop it."""
        self.control("-m", "immediate", "stop")


def name_of(address: str) -> str:
    """Return the name of the database at an address."""
    return address.rpartition("/")[2]


def unprivileged() -> list[str]:
    """Return how a command is run by somebody who is not root: PostgreSQL refuses to be."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server in a folder of its own, and stop it."""
    bin_ = programs()
    folder = Path(tempfile.mkdtemp(prefix="atc-postgres-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        made = ["-D", str(folder / "data"), "-U", "atc", "--pwfile", str(folder / "password"), "--auth=scram-sha-256"]
        command = [*unprivileged(), str(bin_ / "initdb"), *made, "-E", "UTF8", "--locale=C.UTF-8", "-N"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        server = Postgres(folder, bin_, free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
