"""The ledger: what is remembered of a message, across kills and processes."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from resources.ledger import Ledger
from tests.edges.sender import DAY, outbound

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger in a folder that is not there yet."""
    return Ledger(home=str(tmp_path / "home"))


def rows(ledger: Ledger) -> pl.DataFrame:
    """One row per message of the ledger, as somebody with DuckDB sees it."""
    with duckdb.connect(f"{ledger.home}/ledger.duckdb", read_only=True) as connection:
        deliveries: pl.DataFrame = connection.sql("set timezone = 'UTC'; from deliveries order by idempotency_key").pl()
    return deliveries


def outcomes(**statuses: str) -> pl.DataFrame:
    """One row per message, by its number."""
    return pl.DataFrame({"idempotency_key": [f"{int(number[1:]):016x}" for number in statuses], "status": list(statuses.values())})


def test_a_claimed_message_is_pending(ledger: Ledger) -> None:
    """All of a batch is to be sent and is written down, with the decision behind it, in the columns the contract names."""
    batch = outbound(2)
    assert ledger.claim(batch, NOON).equals(batch)
    deliveries = rows(ledger)
    assert deliveries.columns == [
        "idempotency_key", "date", "customer_id", "journey_id", "channel", "status",
        "attempts", "first_attempt_at", "last_attempt_at", "decision",
    ]  # fmt: skip
    assert deliveries.row(1) == ("0000000000000001", DAY, "c1", "journey_1", "email", "pending", 1, NOON, NOON, '{"score":1}')


def test_only_a_delivered_message_is_not_sent_again(ledger: Ledger) -> None:
    """Whatever failed, is unknown or still pending is claimed again and counted; first attempt and key stay, the decision is today's."""
    ledger.claim(outbound(4), NOON)
    ledger.settle(outcomes(n0="delivered", n1="failed", n2="unknown"))
    again = ledger.claim(outbound(5).reverse().with_columns(decision=pl.lit("{}")), NOON + HOUR)
    assert again["customer_id"].to_list() == ["c4", "c3", "c2", "c1"]
    assert rows(ledger).select("customer_id", "status", "attempts", "first_attempt_at", "last_attempt_at", "decision").rows() == [
        ("c0", "delivered", 1, NOON, NOON, '{"score":0}'),
        ("c1", "pending", 2, NOON, NOON + HOUR, "{}"),
        ("c2", "pending", 2, NOON, NOON + HOUR, "{}"),
        ("c3", "pending", 2, NOON, NOON + HOUR, "{}"),
        ("c4", "pending", 1, NOON + HOUR, NOON + HOUR, "{}"),
    ]


def test_a_delivered_message_stays_delivered(ledger: Ledger) -> None:
    """A second sender that lost its answer does not make the first one's success doubtful."""
    ledger.claim(outbound(2), NOON)
    ledger.settle(outcomes(n0="delivered", n1="unknown"))
    ledger.settle(outcomes(n0="unknown", n1="delivered", n7="delivered"))
    assert ledger.statuses(outbound(9)["idempotency_key"]).rows() == [("0000000000000000", "delivered"), ("0000000000000001", "delivered")]


def test_asking_an_absent_ledger_creates_nothing(ledger: Ledger) -> None:
    """A dry run leaves no trace."""
    assert ledger.statuses(outbound(1)["idempotency_key"]).is_empty()
    assert not Path(ledger.home).exists()


def test_a_batch_is_claimed_whole_or_not_at_all(ledger: Ledger) -> None:
    """One row that cannot be written leaves the whole batch unwritten, and the ledger closed."""
    ledger.claim(outbound(1), NOON)
    broken = outbound(3).with_columns(customer_id=pl.when(pl.col("customer_id") != "c2").then("customer_id"))
    with pytest.raises(duckdb.ConstraintException, match="customer_id") as error:
        ledger.claim(broken, NOON)
    assert rows(ledger)["attempts"].to_list() == [1]  # refused beside a connection left open, which the traceback would keep alive
    del error


def test_a_status_nobody_knows_is_refused(ledger: Ledger) -> None:
    """The column holds the contract's four values only."""
    ledger.claim(outbound(1), NOON)
    with pytest.raises(duckdb.ConstraintException, match="CHECK"):
        ledger.settle(outcomes(n0="probably"))
    assert rows(ledger)["status"].to_list() == ["pending"]


def test_a_ledger_in_use_is_waited_for(ledger: Ledger) -> None:
    """While another process has the file open a claim waits, then goes through."""
    ledger.claim(outbound(1), NOON)
    program = f"import duckdb; c = duckdb.connect({f'{ledger.home}/ledger.duckdb'!r}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(duckdb.IOException, match="lock"):
            duckdb.connect(f"{ledger.home}/ledger.duckdb", read_only=True)
        threading.Timer(0.25, other.stdin.write, ["\n"]).start()
        threading.Timer(0.3, other.stdin.flush).start()
        assert ledger.claim(outbound(2), NOON).height == 2
    assert other.returncode == 0
