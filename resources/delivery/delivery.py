"""Delivery: messages through their channels, with the ledger written before and after each batch.

What belongs here: the order of claiming, sending and settling that makes a kill harmless, and when to give a channel up. What does
not: how a message travels (``channels``), how it is remembered (``ledger``), which days may be sent at all (the asset).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import dagster as dg
import polars as pl

from atc_pipeline.activation.tables import ACTIVATION, HELD, KEY_COLLISION, NOT_ON_THE_LIST, NOT_TRIED, PENDING, STALE, WAITING
from atc_pipeline.escaping import log_line
from resources.channels.channel import MORE, Channel, Clock
from resources.delivery import ledger as books
from resources.delivery.ledger import Ledger
from resources.delivery.round import Round
from resources.storage.handed import Handed

GIVEN_UP_AFTER = 3
"""Batches in a row of which the receiver took and decided nothing, after which its channel is left alone for the run: waiting for
each of a million messages in turn would keep the other channels waiting, too."""
READ_AT_ONCE = 20_000
"""Messages whose texts are read at a time: some 50 MB."""

_OUTCOME = {"idempotency_key": pl.String, "status": pl.String, "reason": pl.String}
_ORDER = ("rank", "send_at", "idempotency_key")


def _no_objection(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.select("idempotency_key", reason=pl.lit(None, pl.String)).clear()


def _as_they_are(messages: pl.DataFrame) -> pl.DataFrame:
    return messages


@dataclass(frozen=True)
class Terms:
    """What holds beside the plan, when messages are handed over; nothing does unless it is said.

    ``late_hours``, by channel: what is later than that after its ``send_at`` is ``stale``. ``only_to``: patterns of the addresses that
    may be written to; empty = all. ``held``: channels whose volume nobody has accepted yet. ``object``: of a batch, one row per message
    that is not to go out after all, with the reason. ``with_texts``: messages with what was rendered for them, and in ``lacks_text``
    whether what had to be is not there.
    """

    late_hours: Mapping[str, int] = field(default_factory=dict)
    only_to: tuple[str, ...] = ()
    held: Collection[str] = ()
    object: Callable[[pl.DataFrame], pl.DataFrame] = _no_objection
    with_texts: Callable[[pl.DataFrame], pl.DataFrame] = _as_they_are


def deliver(
    messages: pl.DataFrame,
    channels: Mapping[str, Channel],
    ledger: Ledger,
    now: Clock,
    other_keys: pl.DataFrame | None = None,
    terms: Terms | None = None,
    run: Round | None = None,
) -> pl.DataFrame:
    """One row per message, sorted by key: the columns of ``activation``.

    ``messages`` is ``outbound_messages`` of a day with one more column, ``decision`` (the decision row as JSON text, kept in the ledger).
    ``other_keys`` are the keys a message may have gone out under before (``messages.other_keys``): it is then the same message, and
    is sent under the key it has in the ledger, if it is sent at all. ``run``: what the run has seen of its channels so far.

    ``status`` is ``delivered`` (now or ever before); ``failed`` (certainly not arrived), ``unknown`` (perhaps), ``pending`` (another
    process is sending it), ``not_tried`` (its channel was given up before its turn), ``waiting`` (for its time, or for a channel that was
    stopped) or ``held`` (nobody has accepted the volume); ``withheld``; or, in a dry run, ``would_send``.

    A message that was delivered is not sent again. One that failed is sent again whenever it is asked for, with the same key; so is
    one whose outcome is unknown, unless its channel holds it (``on_unknown``). Two messages with one key are both withheld. A dry run
    reads the ledger and writes nothing.
    """
    terms, run = terms or Terms(), run or Round()
    known = _known(messages, ledger, other_keys)
    keyed = (
        messages.join(known, on="idempotency_key", how="left", maintain_order="left")
        .rename({"idempotency_key": "own_key"})
        .with_columns(idempotency_key=pl.coalesce("ledger_key", "own_key"))
        .with_columns(withheld=pl.when(pl.col("idempotency_key").is_duplicated()).then(pl.lit(KEY_COLLISION)).otherwise("withheld"))
        .with_columns(withheld=pl.coalesce("withheld", _not_on_the_list(messages, terms.only_to)))
    )
    is_delivered = (pl.col("known") == "delivered").fill_null(value=False) & (pl.col("withheld") != KEY_COLLISION).fill_null(value=True)
    to_send = keyed.filter(pl.col("withheld").is_null() & ~is_delivered)
    to_send = to_send.sort([name for name in _ORDER if name in to_send.columns], nulls_last=True)
    missing = sorted(set(to_send["channel"]) - channels.keys())
    if missing:
        raise ValueError(f"messages go out by {', '.join(map(repr, missing))}, but only these channels are connected: {sorted(channels)}")
    shift = _Shift(channels, ledger, now, terms, run)
    outcomes = pl.concat([pl.DataFrame(schema=_OUTCOME), *shift.send_all(to_send)])
    left = to_send.join(outcomes, on="idempotency_key", how="anti")
    accounts = ledger.accounts(keyed["idempotency_key"])
    elsewhere = accounts.join(left, on="idempotency_key", how="semi").select(
        "idempotency_key",
        "status",
        reason=pl.when(pl.col("status") == "unknown")
        .then(pl.coalesce("reason", pl.lit(books.HELD)))
        .otherwise(pl.lit("handed over by another process")),
    )
    result = keyed.join(pl.concat([outcomes, elsewhere]), on="idempotency_key", how="left").join(
        accounts.select("idempotency_key", "attempts", "sent_at", "provider_id"), on="idempotency_key", how="left"
    )
    return (
        result.select(
            "date",
            pl.col("own_key").alias("idempotency_key"),
            "customer_id",
            "journey_id",
            "channel",
            status=pl.when(is_delivered)
            .then(pl.lit("delivered"))
            .when(pl.col("withheld").is_not_null())
            .then(pl.lit("withheld"))
            .otherwise(pl.coalesce("status", pl.lit("unknown"))),
            reason=pl.when(~is_delivered & (pl.col("status") != "delivered").fill_null(value=True)).then(pl.coalesce("withheld", "reason")),
            sent_at="sent_at",
            attempts=pl.col("attempts").fill_null(0),
            provider_id="provider_id",
        )
        .select(*ACTIVATION.schema)
        .sort("idempotency_key", "customer_id")
    )


def unanswered_messages(messages: pl.DataFrame, not_tried: pl.Series, ledger: Ledger, other_keys: pl.DataFrame | None) -> pl.DataFrame:
    """Keep of messages that were sent before those that nobody has answered for: unknown, never taken, or (by key) ``not_tried``."""
    known = messages.join(_known(messages, ledger, other_keys), on="idempotency_key", how="left", maintain_order="left")
    is_open = pl.col("ledger_key").is_in(ledger.undecided(known["ledger_key"].drop_nulls()).implode())
    was_passed_over = pl.col("ledger_key").is_null() & pl.col("idempotency_key").is_in(not_tried.implode())
    return known.filter(pl.col("withheld").is_null() & (is_open.fill_null(value=False) | was_passed_over)).select(messages.columns)


def arrived_messages(messages: pl.DataFrame, ledger: Ledger, other_keys: pl.DataFrame | None) -> pl.DataFrame:
    """Keep of messages those that are known to have arrived."""
    arrived = _known(messages, ledger, other_keys).filter(pl.col("known") == "delivered")
    return messages.join(arrived, on="idempotency_key", how="semi", maintain_order="left")


def _known(messages: pl.DataFrame, ledger: Ledger, other_keys: pl.DataFrame | None) -> pl.DataFrame:
    """One row per message the ledger has: ``idempotency_key``, the ``ledger_key`` it is found under, and its status there (``known``).

    Of several keys the one that arrived, else the one that may have.
    """
    own = ledger.statuses(messages["idempotency_key"]).select("idempotency_key", ledger_key="idempotency_key", known="status")
    if other_keys is None:
        return own
    renamed = ledger.under_other_keys(other_keys).select("idempotency_key", ledger_key="other_key", known="status")
    certainty = pl.col("known").replace_strict({"delivered": 0, "pending": 1, "unknown": 1, "failed": 2}, return_dtype=pl.Int64)
    return pl.concat([own, renamed]).sort(certainty, maintain_order=True).unique("idempotency_key", keep="first", maintain_order=True)


def _not_on_the_list(messages: pl.DataFrame, only_to: Collection[str]) -> pl.Expr:
    """Why a message is withheld that is to nobody on the list; what has no address is on none."""
    nothing = pl.lit(None, pl.String)
    if not only_to:
        return nothing
    address = pl.col("address") if "address" in messages.columns else nothing
    patterns = "|".join(f"(?:{_pattern(glob)})" for glob in only_to)
    is_listed = address.str.strip_chars().str.to_lowercase().str.contains(patterns).fill_null(value=False)
    return pl.when(~is_listed).then(pl.lit(NOT_ON_THE_LIST)).otherwise(nothing)


def _pattern(glob: str) -> str:
    """Return the regular expression of a pattern of addresses: ``*`` and ``?`` stand for anything, all else for itself."""
    return "^" + "".join({"*": ".*", "?": "."}.get(letter, f"\\x{{{ord(letter):x}}}") for letter in glob.strip().lower()) + "$"


@dataclass(frozen=True)
class _Shift:
    """Hands over what is to be sent, channel by channel as their pace lets it."""

    channels: Mapping[str, Channel]
    ledger: Ledger
    now: Clock
    terms: Terms
    run: Round

    def send_all(self, to_send: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Yield one row per message that was sent or is not to be now: ``idempotency_key, status, reason``."""
        live = pl.col("channel").is_in([name for name, channel in self.channels.items() if not channel.is_dry])
        for name in to_send.filter(~live)["channel"].unique().sort():
            yield self.channels[name].send(to_send.filter(pl.col("channel") == name)).select(*_OUTCOME)
        due = []
        for (_,), messages in to_send.filter(live).group_by("channel", maintain_order=True):
            put_off, now_due = self._put_off(messages)
            yield put_off
            if now_due.height:
                due.append(now_due)
        if not due:
            return  # and nothing is written, not even that somebody is here
        with self.ledger.sender() as sender:
            queues = {messages["channel"][0]: _Queue(self, messages, sender) for messages in due}
            queues = dict(sorted(queues.items()))
            while queues:
                name = self.run.next(list(queues))
                if queues[name].is_empty:
                    del queues[name]
                    continue
                if not self.run.has_time_for(name):
                    yield queues.pop(name).put_off(WAITING, "the run has taken as long as it may; the next run of send_due goes on")
                    continue
                self.run.wait_for(name)
                yield queues[name].hand_over()

    def _put_off(self, messages: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Divide messages of a channel into what is not to go out in this run, as outcomes, and the rest."""
        name = messages["channel"][0]
        if name in self.terms.held:
            return _left(messages, HELD, "many more than on other days: accept_volume lets them go"), messages.clear()
        if name in self.run.stopped:
            return _left(messages, WAITING, self.why_stopped(name)), messages.clear()
        if self.channels[name].schedules:
            return _left(messages.clear(), WAITING), messages
        is_due = (pl.col("send_at") <= self.now()).fill_null(value=False)
        return _left(messages.filter(~is_due), WAITING), messages.filter(is_due)

    def why_stopped(self, name: str) -> str:
        return f"the channel was stopped for the run: {self.run.stopped[name]}"


class _Queue:
    """The messages of one channel on their way, batch after batch."""

    def __init__(self, shift: _Shift, messages: pl.DataFrame, sender: str) -> None:
        self.name: str = messages["channel"][0]
        self.shift, self.sender = shift, sender
        self.channel = shift.channels[self.name]
        self.left = messages
        self.in_vain = 0
        self._read = messages.clear()
        self._handed: Handed | None = getattr(self.channel, "handed", None)

    @property
    def is_empty(self) -> bool:
        """Return whether there is none left."""
        return self.left.is_empty() and self._read.is_empty()

    def hand_over(self) -> pl.DataFrame:
        """Claim, send and settle one batch; return what became of it, or of all that is left where the channel is left alone."""
        if self.name in self.shift.run.stopped:
            return self.put_off(WAITING, self.shift.why_stopped(self.name))
        if self.in_vain == GIVEN_UP_AFTER:
            status = NOT_TRIED if self.channel.schedules else WAITING
            return self.put_off(status, f"the channel was given up after {GIVEN_UP_AFTER} batches in a row that were not taken")
        batch, refused = self._sift(self._next())
        if batch.is_empty():
            return refused
        run, began = self.shift.run, self.shift.run.clock()
        claimed = self.shift.ledger.claim(batch, self.shift.now(), self.sender, self._may_have_arrived(batch))
        if claimed.is_empty():
            return refused
        answers = self.channel.send(claimed)
        lacking = [pl.lit(None, dtype).alias(name) for name, dtype in MORE.items() if name not in answers.columns]
        outcomes = (
            claimed.select("idempotency_key", "channel")
            .join(answers.with_columns(lacking), on="idempotency_key", how="left", maintain_order="left")
            .with_columns(pl.col("status").fill_null("unknown"), pl.col("is_final").fill_null(value=False))
        )
        self.shift.ledger.settle(outcomes)
        self._forget_noted(outcomes)
        _log_troubles(outcomes)
        self.in_vain = 0 if outcomes["is_final"].any() else self.in_vain + 1
        longest = outcomes["wait_seconds"].max()
        run.note_batch(
            self.name,
            began,
            (outcomes["status"] == "delivered").to_list(),
            longest if isinstance(longest, float) else None,
        )
        if self.name in run.stopped:
            _warn(f"{self.name}: stopped for this run: {run.stopped[self.name]}; the rest waits")
        elif self.in_vain == GIVEN_UP_AFTER:
            _warn(f"{self.name}: given up for this run after {self.in_vain} batches in a row that were not taken; the rest is not tried")
        return pl.concat([refused, outcomes.select(*_OUTCOME)])

    def put_off(self, status: str, reason: str) -> pl.DataFrame:
        """Say of all that is left why it is, and have nothing left."""
        rest = pl.concat([self._read.select(self.left.columns), self.left])
        self.left, self._read = self.left.clear(), self._read.clear()
        return _left(rest, status, reason)

    def _next(self) -> pl.DataFrame:
        """Take the next batch from what is left, with its texts."""
        if self._read.is_empty():
            self._read = self.shift.terms.with_texts(self.left.head(READ_AT_ONCE))
            self.left = self.left.slice(READ_AT_ONCE)
        size = self.shift.run.most_at_once(self.name, self.channel.batch_size)
        batch, self._read = self._read.head(size), self._read.slice(size)
        return batch

    def _sift(self, batch: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Look a last time; return what may go out, and outcomes of what may not."""
        objections = self.shift.terms.object(batch).select("idempotency_key", objection="reason").unique("idempotency_key", keep="first")
        late_hours = self.shift.terms.late_hours.get(self.name)
        is_stale = (
            (pl.col("send_at") + timedelta(hours=late_hours) < self.shift.now()).fill_null(value=False)
            if late_hours is not None
            else pl.lit(value=False)
        )
        lacks_text = pl.col("lacks_text") if "lacks_text" in batch.columns else pl.lit(value=False)
        objection = pl.coalesce("objection", pl.when(is_stale).then(pl.lit(STALE)), pl.when(lacks_text).then(pl.lit("no_content")))
        # What was taken before a run died is out, whatever speaks against it now: the channel will say so.
        is_taken = pl.col("idempotency_key").is_in(list(self._handed.answered() if self._handed is not None else ()))
        looked_at = batch.join(objections, on="idempotency_key", how="left", maintain_order="left").with_columns(
            objection=pl.when(~is_taken).then(objection)
        )
        refused = looked_at.filter(pl.col("objection").is_not_null())
        outcomes = refused.select(
            "idempotency_key",
            status=pl.when(_may_be_there()).then(pl.lit("unknown")).otherwise(pl.lit("withheld")),
            reason="objection",
        )
        return looked_at.filter(pl.col("objection").is_null()).drop("objection"), outcomes

    def _may_have_arrived(self, batch: pl.DataFrame) -> pl.Series | None:
        """Return which of a batch may have been on their way when their sender died, where a message must not be sent twice."""
        if self.channel.on_unknown == "resend":
            return None
        if self._handed is None or self.shift.ledger.is_shared:
            return batch["idempotency_key"]  # what another host has noted cannot be seen from here
        noted = self._handed.noted()
        return batch["idempotency_key"].filter(batch["idempotency_key"].is_in(list(noted)))

    def _forget_noted(self, outcomes: pl.DataFrame) -> None:
        """Let the channel forget what is remembered in the ledger now."""
        if self._handed is not None:
            try:
                self._handed.forget(outcomes["idempotency_key"].to_list())
            except OSError as problem:  # what stays noted is only held, should its sender die
                _warn(f"{self.name}: what was handed over stays noted: {problem.strerror or problem}")


def _may_be_there() -> pl.Expr:
    """True of messages that an earlier run had handed over, and that may have arrived."""
    return pl.col("known").is_in(["unknown", PENDING]).fill_null(value=False)


def _left(messages: pl.DataFrame, status: str, reason: str | None = None) -> pl.DataFrame:
    """Say of messages that are not handed over now what is true: those that an earlier run had handed over may have arrived."""
    before = pl.col("known").replace({PENDING: "unknown"})
    return messages.select("idempotency_key", status=pl.coalesce(before, pl.lit(status)), reason=pl.lit(reason, pl.String))


def _log_troubles(outcomes: pl.DataFrame) -> None:
    """Say why messages were not delivered, the five commonest reasons of a batch."""
    troubles = outcomes.filter(pl.col("status") != "delivered").group_by("channel", "status", "reason").len("messages")
    for row in troubles.sort("messages", "status", "reason", descending=[True, False, False]).head(5).iter_rows(named=True):
        _warn(f"{row['channel']}: {row['messages']} of {outcomes.height} messages {row['status']}: {row['reason'] or 'no reason given'}")


def _warn(text: str) -> None:
    dg.get_dagster_logger(__name__).warning(log_line(text))
