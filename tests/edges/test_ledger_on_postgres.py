"""The ledger in PostgreSQL: its address, which holds a password, and all that a server can do to a run."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import polars.selectors as cs
import psycopg
import pytest

from resources.channels.channel import OnUnknown
from resources.delivery import moving
from resources.delivery.delivery import deliver
from resources.delivery.ledger import LEDGER, Ledger, LedgerError, WrongLedgerError
from tests.edges.postgres import ESCAPED, PASSWORD, Postgres, name_of
from tests.edges.sender import outbound, wall_clock
from tests.edges.test_erasure import DAY, NEXT, make_world

pytestmark = pytest.mark.slow

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@dataclass
class Recorder:
    """A channel that delivers all it is given, two messages at a time, after something has happened."""

    happens: Callable[[int], object] = lambda _: None
    batch_size: int = 2
    is_dry: bool = False
    schedules: bool = True
    on_unknown: OnUnknown = "resend"
    batches: list[list[str]] = field(default_factory=list)

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """Answer for all messages."""
        self.batches.append(messages["customer_id"].to_list())
        self.happens(len(self.batches))
        return messages.select("idempotency_key", status=pl.lit("delivered"), reason=pl.lit(None, pl.String), is_final=pl.lit(value=True))


def ledger_at(address: str, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger at an address that the environment holds."""
    monkeypatch.setenv(LEDGER, address)
    return Ledger.from_environment("nowhere", os.environ)


@pytest.fixture
def database(server: Postgres) -> str:
    """The address of a database of its own."""
    return server.database()


def troubles(server: Postgres) -> dict[str, tuple[str, str]]:
    """By what is wrong: the address, and what is told."""
    encoded, foreign, read_only, locked = (server.database(option) for option in ("encoding 'SQL_ASCII' template template0", "", "", ""))
    server.ask(name_of(foreign), "create table deliveries (customer_id text)")
    server.ask("postgres", f"alter database {name_of(read_only)} set default_transaction_read_only = on")
    server.ask("postgres", f"create role guest login password '{PASSWORD}'")
    return {
        "wrong password": (server.address("postgres", "s3cret%40wrong"), "password authentication failed"),
        "no such database": (server.address("nothing"), 'database "nothing" does not exist'),
        "nobody there": (f"postgresql://atc:{ESCAPED}@127.0.0.1:1/atc", "Connection refused"),
        "not UTF-8": (encoded, "keeps text as SQL_ASCII: create the database with encoding UTF8"),
        "a table of others": (foreign, "a table deliveries that is none of ours, without idempotency_key, date"),
        "read-only": (read_only, "read-only transaction"),
        "no rights": (server.address(name_of(locked), user="guest"), "permission denied"),
    }


def test_a_server_that_cannot_be_used_is_told_without_the_password_and_nothing_is_sent(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with it: the message says where it is and what the server says, and no channel is asked for anything."""
    for case, (address, told) in troubles(server).items():
        email, ledger = Recorder(), ledger_at(address, monkeypatch)
        with pytest.raises(LedgerError, match=re.escape(told)) as error:
            deliver(outbound(3), {"email": email}, ledger, wall_clock)
        assert f"the delivery ledger postgresql://127.0.0.1:{address.rpartition(':')[2]}" in str(error.value), case
        shown = "".join(map(str, (error.value, error.value.__cause__, error.value.__cause__ and error.value.__cause__.__cause__)))
        assert "s3cret" not in shown, case
        assert not email.batches, case


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://atc:hush@hush@host/atc",
        "postgresql://atc:hush/hush@host/atc",
        "postgresql://atc:12/hush@host/atc",
        "postgresql://atc:%hush@host/atc",
        "postgresql://atc:hush@host:port/atc",
        "mysql://atc:hush@host/atc",
        "ledger-hush.duckdb",
        "/folder/hush.sqlite",
        "/folder/?hush/ledger.duckdb",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(address: str) -> None:
    """A letter that is not escaped makes other parts of what is part of a password: nothing of it is told."""
    with pytest.raises(WrongLedgerError, match=r"^ATC_LEDGER is .*postgresql://user:password@host:5432/database") as error:
        Ledger.from_environment("home", {LEDGER: address})
    assert "hush" not in str(error.value)


def test_a_file_may_be_anywhere(tmp_path: Path) -> None:
    """By its full path; what locks it lies beside it."""
    ledger = Ledger.from_environment(str(tmp_path / "home"), {LEDGER: str(tmp_path / "kept" / "sent.duckdb")})
    assert ledger.claim(outbound(2), NOON).height == 2
    assert ledger.statuses(outbound(2)["idempotency_key"])["status"].to_list() == ["pending"] * 2
    assert ledger.place == str(tmp_path / "kept" / "sent.duckdb")
    assert not (tmp_path / "home").exists()


def test_a_process_with_another_environment_is_told(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the address, or with another one, nobody writes elsewhere than the code location says."""
    ledger = ledger_at(database, monkeypatch)
    for other in ("", "/folder/ledger.duckdb", database + "_2"):
        monkeypatch.setenv(LEDGER, other)
        with pytest.raises(LedgerError, match=r"ATC_LEDGER says otherwise .*reload the code location"):
            ledger.claim(outbound(1), NOON)


def test_a_run_that_is_cut_off_writes_down_what_it_sent_and_sends_no_more(
    server: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server ends its connections others may claim what was its own: the batch under way is settled, and the next is not sent."""
    ledger = ledger_at(database, monkeypatch)
    email = Recorder(lambda batch: server.cut(name_of(database)) if batch == 2 else None)
    with pytest.raises(LedgerError, match="has lost its connection to this run"):
        deliver(outbound(8), {"email": email}, ledger, wall_clock)
    assert len(email.batches) == 2
    assert ledger.statuses(outbound(8)["idempotency_key"])["status"].to_list() == ["delivered"] * 4
    assert set(deliver(outbound(8), {"email": email}, ledger, wall_clock)["status"]) == {"delivered"}
    assert sorted(customer for batch in email.batches for customer in batch) == sorted(outbound(8)["customer_id"])


def test_a_server_that_goes_down_stops_sending_and_what_was_under_way_is_uncertain(
    server: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was handed over while nobody could write is pending: the next run sends it again, under its key, and nothing else twice."""
    ledger = ledger_at(database, monkeypatch)
    email = Recorder(lambda batch: server.stop() if batch == 2 else None)
    with pytest.raises(LedgerError, match="Connection refused"):
        deliver(outbound(8), {"email": email}, ledger, wall_clock)
    server.start()
    assert len(email.batches) == 2
    assert ledger.statuses(outbound(8)["idempotency_key"])["status"].to_list() == ["delivered"] * 2 + ["pending"] * 2
    deliver(outbound(8), {"email": (again := Recorder())}, ledger, wall_clock)
    assert again.batches == [["c2", "c3"], ["c4", "c5"], ["c6", "c7"]]


def test_nobody_claims_while_another_does(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that does not end keeps others out until they are told; asking waits for nobody."""
    ledger = ledger_at(database, monkeypatch)
    ledger.claim(outbound(1), NOON)
    monkeypatch.setattr("resources.storage.postgres.SETTINGS", {"lock_timeout": "200ms"})
    with psycopg.connect(database) as slow:
        slow.execute("select pg_advisory_xact_lock(x'415443'::int, 0)")
        assert ledger.statuses(outbound(1)["idempotency_key"]).height == 1
        with pytest.raises(LedgerError, match="lock timeout"):
            ledger.claim(outbound(2), NOON)
    assert ledger.claim(outbound(2), NOON).height == 2


def test_no_byte_of_who_is_forgotten_stays_in_the_table(server: Postgres, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is written anew: deleted rows would stay in its pages. Others' rows are as they were."""
    ledger = ledger_at(database, monkeypatch)
    batch = outbound(500).with_columns(customer_id=pl.format("somebody {}", "customer_id"))
    ledger.claim(batch, NOON)

    hers = re.compile(rb"somebody c17(?![0-9])")
    assert hers.search(server.bytes_of(name_of(database)))
    ledger.forget(["somebody c17"])
    left = server.bytes_of(name_of(database))
    assert not hers.search(left)
    assert b"somebody c18" in left
    assert ledger.search(["somebody"]).height == 499
    ledger.forget(["somebody c17"])


@pytest.mark.slow
def test_a_person_is_erased_from_it(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from the file: found, removed, searched again, and counted by the tombstone; others' rows stay."""
    monkeypatch.setenv(LEDGER, database)
    world = make_world(tmp_path / "home", DAY, NEXT)
    before = world.deliveries()
    assert not (world.home / "ledger.duckdb").exists()
    world.erase()
    assert world.deliveries() == [row for row in before if row[2] == "bob"]
    assert len(before) == 3
    (tombstone,) = (world.home / "tombstones").glob("*.json")
    assert json.loads(tombstone.read_text())["erasures"][0]["rows_found"]["ledger"] == 2


def test_a_ledger_is_moved_before_anything_is_sent_by_the_new_one(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside a file that knows what was sent an empty database is refused; moved, every row is there as it was, however often."""
    monkeypatch.setenv("ATC_HOME", str(tmp_path))
    before = Ledger(home=str(tmp_path))
    deliver(outbound(3), {"email": Recorder()}, before, wall_clock)
    before.claim(outbound(4), NOON)
    monkeypatch.setenv(LEDGER, database)
    after, email = Ledger.from_environment(str(tmp_path), os.environ), Recorder()
    with pytest.raises(LedgerError, match=r"ledger.duckdb is there: what it says was sent would be sent again.*resources.delivery.moving"):
        deliver(outbound(4), {"email": email}, after, wall_clock)
    assert not email.batches
    assert [moving.main(), moving.main()] == [0, 0]
    assert capsys.readouterr().out.startswith("4 rows of ")
    utc = cs.datetime().dt.convert_time_zone("UTC")
    assert after.rows().with_columns(utc).equals(before.rows().with_columns(utc))
    assert set(deliver(outbound(4), {"email": email}, after, wall_clock)["status"]) == {"delivered"}
    assert email.batches == [["c3"]]
    monkeypatch.delenv(LEDGER)
    assert moving.main() == 1
    assert "ATC_LEDGER is not set" in capsys.readouterr().err


def test_texts_are_kept_as_they_are(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL has no NUL in a text: it comes back all the same, and so does what it is kept as, quotes, and other alphabets."""
    ledger = ledger_at(database, monkeypatch)
    texts = [
        "a\0b",
        "a\ufdd0b",
        "a\ufdd00b",
        "'; drop table deliveries; --",
        "$now %(now)s %s {}",
        "\\N",
        "",
        "\u00c4NN\u0130 \U0001f600\n\t\r",
    ]
    batch = outbound(len(texts)).with_columns(customer_id=pl.Series(texts), decision=pl.Series(texts))
    ledger.claim(batch, NOON)
    assert ledger.search([""]).sort("idempotency_key")["customer_id"].to_list() == texts
    for text in texts[:4]:
        assert text in ledger.search([text])["customer_id"].to_list()
        ledger.forget([text])
    assert ledger.search([""]).sort("idempotency_key")["decision"].to_list() == texts[4:]
