"""What is known by now of messages that may have arrived: by events that say so, or by somebody who has asked the receiver.

What belongs here: matching them, and writing it down. What does not: finding the events (``last_look``), sending again (``delivery``).
"""

from collections.abc import Mapping
from datetime import date

import polars as pl

from resources.delivery.ledger import Ledger

VERDICTS = ("delivered", "failed")
"""What somebody may know of a message."""


class WrongVerdictError(ValueError):
    """What is said of a message that nothing can be made of."""


def settle_by_receipts(ledger: Ledger, receipts: pl.DataFrame, since: date) -> pl.Series:
    """Call those unknown messages of that day or later delivered of which an event says so; return their keys.

    ``receipts``: ``key?`` and ``message_id?``. A message goes by its key, by what its receiver calls it, or by a Message-ID that begins
    with its key.
    """
    if receipts.is_empty():
        return pl.Series("idempotency_key", [], pl.String)
    unknown = ledger.unknown(since)
    before_at = receipts["message_id"].str.split("@").list.first()
    names = pl.concat([receipts["key"], receipts["message_id"], before_at]).drop_nulls().unique()
    called = pl.col("provider_id").str.strip_chars("<> ")
    arrived = unknown.filter(pl.col("idempotency_key").is_in(names.implode()) | called.is_in(names.implode()).fill_null(value=False))
    if arrived.is_empty():
        return arrived["idempotency_key"]
    verdicts = arrived.select("idempotency_key", status=pl.lit("delivered"), reason=pl.lit("an event says that it arrived"))
    return ledger.decide(verdicts)


def settle_by_hand(ledger: Ledger, messages: Mapping[str, str]) -> pl.Series:
    """Write what somebody knows of unknown messages, by key; return the keys of those. Raises WrongVerdictError, and writes nothing then.

    A message that failed may go out again, if it is not too late for it.
    """
    strange = sorted(verdict for verdict in messages.values() if verdict not in VERDICTS)
    if strange:
        raise WrongVerdictError(f"a message is said to be {strange[0]!r}: expected one of {', '.join(VERDICTS)}")
    accounts = ledger.accounts(pl.Series("idempotency_key", list(messages), pl.String))
    known = dict(accounts.select("idempotency_key", "status").iter_rows())
    for key in messages:
        if key not in known:
            raise WrongVerdictError(f"{key!r} is the key of no message that was ever handed over: {ledger.label} has none")
        if known[key] not in ("unknown", "pending"):
            raise WrongVerdictError(f"{key} is {known[key]}, and was not unknown: leave it out")
    verdicts = pl.DataFrame(
        {"idempotency_key": list(messages), "status": list(messages.values())}, schema={"idempotency_key": pl.String, "status": pl.String}
    )
    return ledger.decide(verdicts.with_columns(reason=pl.lit("settled by hand")))
