"""Moves the ledger of a home to where ``ATC_LEDGER`` says: ``python -m resources.delivery.moving``, with nothing running.

What belongs here: that one move. What does not: the ledger (``ledger``).
"""

import os
import sys
from pathlib import Path

from resources.delivery.ledger import LEDGER, Ledger, LedgerError, WrongLedgerError
from resources.delivery.memberships import Memberships
from resources.storage.home import WrongHomeError, home_of

BATCH = 10_000
"""Rows at a time."""


def move(home: str, elsewhere: Ledger) -> int:
    """Take over every row that is not there yet; return how many there were. Raises LedgerError and WrongLedgerError."""
    if not elsewhere.elsewhere:
        raise WrongLedgerError(f"{LEDGER} is not set: there is nowhere to move the ledger of {home} to")
    rows = Ledger(home=home).rows()
    for batch in rows.iter_slices(BATCH):
        elsewhere.take_over(batch)
    members = Memberships(Ledger(home=home)).rows()
    for batch in members.iter_slices(BATCH):
        Memberships(elsewhere).take_over(batch)
    return rows.height + members.height


def main() -> int:
    """Move it, and say what to do with the file; return the exit code."""
    project = Path(__file__).resolve().parents[2]
    try:
        home = home_of(os.environ, project).as_posix()
        elsewhere = Ledger.from_environment(home, os.environ)
        count = move(home, elsewhere)
    except (LedgerError, WrongHomeError, WrongLedgerError) as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    print(f"{count:,} rows of {Ledger(home=home).place} are in {elsewhere.place}. Keep the file as a backup, elsewhere")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
