"""The ledger: what is remembered of a message, across kills and processes."""

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import psycopg
import pytest

from resources.delivery.ledger import LEDGER, TABLE, Ledger
from tests.edges.running_dagster import until
from tests.edges.sender import DAY, outbound

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(tmp_path: Path, address: str) -> Ledger:
    """A ledger of each kind, in a folder, or a database, in which there is nothing yet."""
    return Ledger.from_environment(str(tmp_path / "home"), {LEDGER: address})


@pytest.fixture
def file_ledger(tmp_path: Path) -> Ledger:
    """A ledger in a folder that is not there yet."""
    return Ledger(home=str(tmp_path / "home"))


def rows(ledger: Ledger) -> pl.DataFrame:
    """One row per message of the ledger, as somebody with another client sees it."""
    asked = "select * from deliveries order by idempotency_key"
    if ledger.elsewhere:
        with psycopg.connect(os.environ[LEDGER], options="-c timezone=UTC") as server:
            cursor = server.execute(asked)
            columns = [column.name for column in cursor.description or []]
            return pl.DataFrame(cursor.fetchall(), schema=columns, orient="row")
    with duckdb.connect(f"{ledger.home}/ledger.duckdb", read_only=True) as connection:
        deliveries: pl.DataFrame = connection.sql(f"set timezone = 'UTC'; {asked}").pl()
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
        "attempts", "first_attempt_at", "last_attempt_at", "decision", "sender", "reason", "is_final",
        "send_at", "content_hash", "provider_id",
    ]  # fmt: skip
    assert deliveries.row(1) == (
        "0000000000000001",
        DAY,
        "c1",
        "journey_1",
        "email",
        "pending",
        1,
        NOON,
        NOON,
        '{"score":1}',
        None,
        None,
        None,
        datetime(2026, 1, 6, 10, tzinfo=UTC),
        None,
        None,
    )


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
    with pytest.raises((duckdb.ConstraintException, psycopg.errors.NotNullViolation), match="customer_id") as error:
        ledger.claim(broken, NOON)
    assert rows(ledger)["attempts"].to_list() == [1]  # refused beside a connection left open, which the traceback would keep alive
    del error


def test_a_status_nobody_knows_is_refused(ledger: Ledger) -> None:
    """The column holds the contract's four values only."""
    ledger.claim(outbound(1), NOON)
    with pytest.raises((duckdb.ConstraintException, psycopg.errors.CheckViolation), match=r"(?i)check"):
        ledger.settle(outcomes(n0="probably"))
    assert rows(ledger)["status"].to_list() == ["pending"]


def test_a_ledger_in_use_is_waited_for(file_ledger: Ledger) -> None:
    """While another process has the file open a claim waits, then goes through."""
    file_ledger.claim(outbound(1), NOON)
    program = f"import duckdb; c = duckdb.connect({f'{file_ledger.home}/ledger.duckdb'!r}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(duckdb.IOException, match="lock"):
            duckdb.connect(f"{file_ledger.home}/ledger.duckdb", read_only=True)
        threading.Timer(0.25, print, [], {"file": other.stdin, "flush": True}).start()
        assert file_ledger.claim(outbound(2), NOON).height == 2
    assert other.returncode == 0


def test_what_a_living_sender_has_claimed_is_left_to_it(ledger: Ledger) -> None:
    """Until it settles or ends: then what it left pending is anybody's, what it delivered is nobody's."""
    with ledger.sender() as first, ledger.sender() as second:
        assert ledger.claim(outbound(3), NOON, first).height == 3
        assert ledger.claim(outbound(5), NOON, second)["customer_id"].to_list() == ["c3", "c4"]
        assert ledger.claim(outbound(3), NOON, first).height == 3  # its own are its own
        ledger.settle(outcomes(n0="delivered", n1="unknown"))
        assert ledger.claim(outbound(5), NOON, second)["customer_id"].to_list() == ["c1", "c3", "c4"]
    with ledger.sender() as third:
        assert ledger.claim(outbound(5), NOON, third)["customer_id"].to_list() == ["c1", "c2", "c3", "c4"]
    assert not list(Path(ledger.home).glob(".senders/*"))


@pytest.mark.slow
def test_a_killed_sender_leaves_its_claims_to_others(ledger: Ledger) -> None:
    """The lock it lived by goes with its process, however that ends; the file it left is tidied away by the next."""
    program = (
        "import os, sys; from tests.edges.test_ledger import *; ledger = Ledger.from_environment(sys.argv[1], os.environ)\n"
        "with ledger.sender() as me: print(ledger.claim(outbound(2), NOON, me).height, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", program, ledger.home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "2\n"
        with ledger.sender() as me:
            assert ledger.claim(outbound(3), NOON, me)["customer_id"].to_list() == ["c2"]
        other.kill()
        other.wait()
        assert len(list(Path(ledger.home).glob(".senders/*"))) == (0 if ledger.elsewhere else 1)
        with ledger.sender() as me:
            assert [path.name for path in Path(ledger.home).glob(".senders/*")] == ([] if ledger.elsewhere else [me])
            until(lambda: ledger.claim(outbound(3), NOON, me).height == 3, 10)  # a server takes a moment to see it


def test_a_ledger_of_an_older_version_is_read_and_written(file_ledger: Ledger) -> None:
    """Columns that it lacks are added, its rows stay; its keys of 16 digits are noticed from their day on; and it can be made anew."""
    Path(file_ledger.home).mkdir()
    with duckdb.connect(file_ledger.place) as connection:
        connection.execute(re.sub(r",\s+sender varchar,.*(?=\n\))", "", TABLE, flags=re.DOTALL))
        columns = connection.execute("from deliveries").description
        connection.execute("insert into deliveries values ('00', ?, 'c', 'a', 'email', 'delivered', 1, ?, ?, '{}')", [DAY, NOON, NOON])
    assert len(columns) == 10
    assert not file_ledger.has_older_keys(DAY)
    file_ledger.claim(outbound(2), NOON)
    file_ledger.settle(outcomes(n0="failed").with_columns(reason=pl.lit("no"), is_final=pl.lit(value=True)))
    assert file_ledger.has_older_keys(DAY)
    assert not file_ledger.has_older_keys(DAY + timedelta(days=1))
    file_ledger.forget(["c1"])
    assert rows(file_ledger).select("idempotency_key", "status", "reason", "is_final").rows() == [
        ("00", "delivered", None, None),
        ("0000000000000000", "failed", "no", True),
    ]


def test_calls_of_threads_take_turns(ledger: Ledger) -> None:
    """Twenty at once write one row each, and none meets another's unfinished one."""
    with ThreadPoolExecutor(20) as threads:
        claimed = list(threads.map(lambda batch: ledger.claim(batch, NOON).height, outbound(20).iter_slices(1)))
    assert claimed == [1] * 20
    assert rows(ledger).height == 20
