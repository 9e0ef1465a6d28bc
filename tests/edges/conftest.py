"""What tests of several modules share that takes long to start."""

from collections.abc import Iterator

import pytest

from resources.delivery.ledger import LEDGER
from tests.edges.postgres import Postgres, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server, for all tests of the session."""
    with postgres() as running:
        yield running


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kind of ledger in turn: ``ATC_LEDGER`` of the test, and nothing for the file that is used without."""
    if request.param == "duckdb":
        monkeypatch.delenv(LEDGER, raising=False)
        return ""
    server: Postgres = request.getfixturevalue("server")
    address = server.database()
    monkeypatch.setenv(LEDGER, address)
    return address
