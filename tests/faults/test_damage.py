"""Files that are not what was written: named before anything is made of them, and made again by what the message says."""

import gzip
import random
from pathlib import Path

import polars as pl
import pytest

from resources.delivery.ledger import Ledger, LedgerError
from resources.storage.landing import LandingZone, UnreadableFileError
from tests.edges.sender import outbound, wall_clock
from tests.faults.attempt import order, run, run_well
from tests.faults.killing import Calm
from tests.faults.world import DAYS, broken_promises, differences, different_files, morning_after, receiving, resume_from

DAY, BEFORE = DAYS[2], DAYS[1]


def flip(path: Path, chance: random.Random) -> None:
    """Change one bit of a file, anywhere."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut(path: Path, chance: random.Random) -> None:
    """Cut a file short, anywhere."""
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


@pytest.mark.slow
def test_damaged_tables_are_made_again(tmp_path: Path, calm: Calm) -> None:
    """Bits of yesterday's tables are changed, and files cut short: the run names the first and what to run, and sends nothing."""
    chance = random.Random(4)  # noqa: S311
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        for table, damage in (("raw_events", flip), ("customer_profiles", cut), ("journey_state", flip), ("outbound_messages", cut)):
            damage(world.home / "lake" / table / f"date={BEFORE}" / "part.parquet", chance)
        clock.now = morning_after(DAY)
        (failure,) = run(order(world, DAY)).failures
        assert f"raw_events/date={BEFORE}/part.parquet: damaged (" in failure
        assert f"Materialize raw_events for {BEFORE} again" in failure
        assert receiver.requests == []
        run_well(order(world, BEFORE, at=morning_after(DAY)))
        run_well(order(world, DAY))
        assert differences(world, calm.after[DAY]) == []


@pytest.mark.slow
def test_an_upload_that_is_not_complete_waits_for_the_rest(tmp_path: Path, calm: Calm) -> None:
    """The first half of a packed file is in the landing zone when the day is run; the whole of it when it is run again."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        clock.now = morning_after(DAY)
        landed = world.home / "landing" / str(DAY) / "b.ndjson"
        whole = landed.read_bytes()
        landed.unlink()
        packed = landed.with_name("c.ndjson.gz")
        packed.write_bytes(gzip.compress(whole)[:900])
        (failure,) = run(order(world, DAY)).failures
        assert f"{packed}: cannot be read (" in failure
        assert "Is its upload complete? Run the day again when it is" in failure
        assert not (world.home / "lake" / "raw_events" / f"date={DAY}").exists()
        packed.write_bytes(gzip.compress(whole))
        run_well(order(world, DAY))
        named = [f"raw_events/date={DAY}/part.parquet", f"rejected_events/date={DAY}/part.parquet", f"{DAY}.json"]
        assert different_files(world, calm.after[DAY]) == named  # they say what their files are called; all that stands on them is the same
        assert broken_promises(world, calm.after[DAY]) == []


@pytest.mark.slow
def test_a_damaged_ledger_stops_the_run_until_a_whole_one_is_back(tmp_path: Path, calm: Calm) -> None:
    """Nothing is decided, since what was sent must stand, and nothing is sent."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        clock.now = morning_after(DAY)
        ledger = world.home / "ledger.duckdb"
        whole = ledger.read_bytes()
        ledger.write_bytes(whole[: 3 * 4096] + bytes(len(whole) - 3 * 4096))
        (failure,) = run(order(world, DAY)).failures
        assert "nothing was decided, since what was sent already must stand: the delivery ledger" in failure
        assert "put back the last copy of it that was whole" in failure
        assert receiver.requests == []
        ledger.write_bytes(whole)
        run_well(order(world, DAY))
        assert differences(world, calm.after[DAY]) == []


def test_a_changed_bit_anywhere_in_the_ledger_is_told_or_changes_nothing(tmp_path: Path) -> None:
    """DuckDB sums up each block: no bit makes it forget a message, or remember another."""
    chance = random.Random(7)  # noqa: S311
    ledger, messages, path = Ledger(home=str(tmp_path)), outbound(500), tmp_path / "ledger.duckdb"
    ledger.claim(messages, wall_clock())
    ledger.settle(messages.select("idempotency_key", status=pl.lit("delivered"), is_final=pl.lit(value=True)))
    whole, known = path.read_bytes(), ledger.statuses(messages["idempotency_key"])
    told = 0
    for _ in range(60):
        path.write_bytes(whole)
        flip(path, chance)
        try:
            assert ledger.statuses(messages["idempotency_key"]).equals(known)
        except LedgerError:
            told += 1
    assert told > 20


@pytest.mark.parametrize("size", [0, 11, 4096, 3 * 4096 - 1])
def test_a_ledger_without_even_its_headers_is_told_at_once(tmp_path: Path, size: int) -> None:
    """A power cut or a full disk leaves such files; nobody waits a hundred seconds to hear of it."""
    ledger, messages, path = Ledger(home=str(tmp_path)), outbound(1), tmp_path / "ledger.duckdb"
    ledger.claim(messages, wall_clock())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(LedgerError, match=r"is no DuckDB database: put back the last copy of it that was whole"):
        ledger.claim(messages, wall_clock())


def test_a_damaged_parquet_file_in_the_landing_zone_costs_no_process(tmp_path: Path) -> None:
    """Cut short it is always told. A changed bit is told, or gives other rows: the format has no sum over all of a file, as the lake's
    seal is.
    """
    chance = random.Random(11)  # noqa: S311
    landing, day = LandingZone(root=str(tmp_path)), DAY
    path = tmp_path / str(day) / "a.parquet"
    path.parent.mkdir()
    rows = [{"type": "track", "messageId": f"m{number}", "userId": f"c{number % 97}", "event": "Viewed"} for number in range(2000)]
    pl.DataFrame(rows).write_parquet(path)
    whole = path.read_bytes()

    def read() -> str:
        refused = []
        try:
            lines = b"".join(bytes(lines.data) for block in landing.read(day, refused) for lines in block)
        except UnreadableFileError:
            return "told"
        return "told" if refused else str(hash(lines))

    seen = list[str]()
    for damage in (*[cut] * 60, *[flip] * 120):
        path.write_bytes(whole)
        damage(path, chance)
        seen.append(read())
    assert set(seen[:60]) == {"told"}
    assert "told" in seen[60:]
