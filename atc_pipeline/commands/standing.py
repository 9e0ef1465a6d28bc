"""How things stand: ``status``. Everything is only read, also while a run is writing.

What belongs here: asking what is kept for the state. What does not: what of it needs somebody (``explanation.status``).
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta

import polars as pl

from atc_pipeline.activation.tables import HELD, TO_COME, TROUBLES, WAITING
from atc_pipeline.commands.command import Answer, Place
from atc_pipeline.days.activation import PATIENCE_DAYS
from atc_pipeline.days.catalog import tables
from atc_pipeline.explanation.status import FileInUse, Repair, Status, Today, Undelivered
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.tables.store import DamagedDayError, MissingDayError
from resources.channels.channel import WrongSettingError
from resources.channels.connected import Channels
from resources.delivery.ledger import Ledger, LedgerError, WrongLedgerError
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.repair import LAST_MADE, Days, command, day_at, due_by, is_closed

MESSAGES_OF = 7
"""Days of which it is said which messages did not arrive."""
ATTENTION = 1
"""Exit code where something needs somebody."""


class Standing:
    """Says how things stand."""

    name = "status"
    help = "say what is closed, what is to be run, what runs, what did not arrive; exit code 1 where something needs you"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a form."""
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Say it; exit code 1 where something needs somebody."""
        status = standing(place, datetime.now(UTC))  # noqa: TID251  # a command is where the clock is read
        return Answer(status.json() if asked.format == "json" else status.text(), ATTENTION if status.needs_attention else 0)


def standing(place: Place, now: datetime) -> Status:
    """Find out how things stand."""
    lake, running = place.lake, place.lake.running()
    try:
        in_use = place.journeys.in_use()
    except JourneysError as problem:
        file = FileInUse(None, None, str(problem))
        return Status(None, [], None, None, file, [], None, running, None, bool(lake.days(LAST_MADE)))
    portfolio = in_use.portfolio
    today, zone = day_at(now, portfolio.timezone), portfolio.timezone
    last = min(today, portfolio.ends_on or today)
    calendar = [portfolio.starts_on + timedelta(days=number) for number in range((last - portfolio.starts_on).days + 1)]
    days = Days(lake, LandingZone(root=str(place.home / "landing")), tables(portfolio), calendar, today)
    missing, stale = days.missing(), days.first_stale(days.over)
    due = due_by(now, zone)
    is_late = days.have_begun and min(days.written[LAST_MADE]) <= due <= last and not is_closed(lake, due, zone)
    undelivered, ledger_problem = _undelivered(place, portfolio, now, calendar)
    first = min([*missing[:1], *([stale.day] if stale else []), *([due] if is_late else [])], default=None)
    return Status(
        closed=_closed(lake, days, zone),
        missing=missing,
        late=due if is_late else None,
        repair=None if first is None or first > due else _repair(first, days, stale.day if stale else None, _why(stale)),
        file=FileInUse(portfolio.fingerprint, _since(lake, portfolio), in_use.problem),
        undelivered=undelivered,
        ledger_problem=ledger_problem,
        running=running,
        today=_today(days) if calendar and calendar[-1] == today else None,
        has_begun=days.have_begun,
    )


def _why(stale: tuple[date, str, str] | None) -> str:
    return f"{stale[1]} of {stale[0]} {stale[2]}" if stale else ""


def _repair(first: date, days: Days, stale: date | None, why: str) -> Repair:
    last = max(first, days.last_to_run())
    reason = why if stale == first else f"{first} is missing" if first not in days.written[LAST_MADE] else f"{first} was not closed"
    return Repair(first, last, reason, command(first, last))


def _closed(lake: Lake, days: Days, timezone: str) -> date | None:
    """Return the latest day closed with no day before it missing."""
    missing = days.missing()
    decided = sorted(day for day in days.written.get(LAST_MADE, ()) if day < days.today and (not missing or day < missing[0]))
    return next((day for day in reversed(decided) if is_closed(lake, day, timezone)), None)


def _since(lake: Lake, portfolio: Portfolio) -> date | None:
    """Return the first of the latest days in a row that this version decided."""
    since = None
    for day in reversed(lake.days(LAST_MADE)):
        if lake.written_by(LAST_MADE, day).portfolio != portfolio.fingerprint:
            break
        since = day
    return since


def _today(days: Days) -> Today:
    is_decided = days.today in days.written.get(LAST_MADE, ())
    stale = next(days.origins.stale(days.today, days.written, days.landing.signature), None) if is_decided else None
    decided_at = days.lake.written_at(LAST_MADE, days.today) if is_decided else None
    return Today(days.today, len(days.landing.files(days.today)), decided_at, stale is not None)


def _undelivered(place: Place, portfolio: Portfolio, now: datetime, calendar: list[date]) -> tuple[list[Undelivered], str | None]:
    try:
        ledger = Ledger.from_environment(str(place.home), os.environ)
        holding, days = _holding(place, portfolio), calendar[-MESSAGES_OF - 1 :]
        return [row for day in days for row in _of_day(place.lake, ledger, day, now, calendar[-1], holding)], None
    except (LedgerError, WrongLedgerError) as problem:
        return [], str(problem)


def _holding(place: Place, portfolio: Portfolio) -> set[str]:
    """Return the channels on which what may have arrived is held; none where the settings cannot be understood."""
    names = [channel.id for channel in portfolio.channels]
    try:
        connected = Channels.from_environment(str(place.home), os.environ).connect(names, lambda: datetime.now(UTC))  # noqa: TID251
    except WrongSettingError:  # told by the run that would have sent
        return set()
    return {name for name, channel in connected.items() if channel.on_unknown == "hold"}


def _of_day(lake: Lake, ledger: Ledger, day: date, now: datetime, today: date, holding: Collection[str]) -> Iterator[Undelivered]:
    """Yield what did not arrive, by what the day's run wrote and the ledger knows since."""
    try:
        troubles = lake.lazy("activation", day).filter(pl.col("status").is_in([*TROUBLES, *TO_COME])).collect()
        due = lake.lazy("outbound_messages", day).select("idempotency_key", "send_at").collect()
    except (MissingDayError, DamagedDayError):  # there is nothing to say of it; that it is to be made is said elsewhere
        return
    if troubles.is_empty():
        return
    keys = troubles["idempotency_key"]
    known = ledger.statuses(keys).select("idempotency_key", now="status")
    undecided = ledger.undecided(keys)
    current = (
        troubles.join(known, on="idempotency_key", how="left")
        .join(due, on="idempotency_key", how="left")
        .with_columns(status=pl.coalesce("now", "status"))
        .filter(pl.col("status") != "delivered")
        .with_columns(
            is_open=pl.col("idempotency_key").is_in(undecided.implode()) | pl.col("now").is_null(),
            status=pl.when(pl.col("channel").is_in(list(holding)) & pl.col("status").is_in(["unknown", "pending"]))
            .then(pl.lit(_HELD_UNKNOWN))
            .otherwise("status"),
        )
    )
    counts = current.group_by("channel", "status", "is_open").agg(messages=pl.len(), since=pl.col("send_at").min())
    for channel, status, is_open, messages, since in counts.sort("channel", "status", "is_open").iter_rows():
        if status == WAITING:
            is_late = since is not None and since < now - LATE
            yield Undelivered(day, channel, status, messages, not is_late, _what_waits_for(since, is_late=is_late))
        elif status == HELD:
            yield Undelivered(day, channel, status, messages, will_be_tried=False, what_to_do=_what_holds(day, channel))
        elif status == _HELD_UNKNOWN:
            yield Undelivered(day, channel, "unknown", messages, will_be_tried=False, what_to_do=_HOW_TO_SETTLE)
        else:
            will_be_tried = bool(is_open) and day >= today - timedelta(days=PATIENCE_DAYS)
            what_to_do = _what_to_do(day, is_open=is_open, will_be_tried=will_be_tried)
            yield Undelivered(day, channel, status, messages, will_be_tried, what_to_do)


LATE = timedelta(minutes=45)
"""How long after its hour a message may wait until somebody is told: the schedule looks every 15 minutes, and a run takes 10."""
_HELD_UNKNOWN = "held unknown"
_HOW_TO_SETTLE = (
    "They may have arrived, would arrive twice, and so are held. An Email Delivered event settles them, or the job settle_unknown, once "
    "you have asked the receiver; it lists their keys."
)


def _what_waits_for(since: datetime | None, *, is_late: bool) -> str:
    if is_late:
        return f"They were due at {since:%Y-%m-%d %H:%M} UTC: is the schedule send_due on, and its channel well? Or run the job send_due."
    return "The schedule send_due hands them over when their hour has come."


def _what_holds(day: date, channel: str) -> str:
    config = f'{{"ops": {{"hand_over": {{"config": {{"accept_volume": ["{channel}"]}}}}}}}}'
    return (
        f"Many more than on other days: the run of {day} failed with the figures. Where that is meant: "
        f"dagster job execute -m atc_pipeline.definitions -j send_due --config-json '{config}'"
    )


def _what_to_do(day: date, *, is_open: bool, will_be_tried: bool) -> str:
    if will_be_tried:
        return f"The next run of today or of the day just over tries them again, through {day + timedelta(days=PATIENCE_DAYS)}."
    config = f'{{"ops": {{"activation": {{"config": {{"past_days": ["{day}"]}}}}}}}}'
    named = f"{command(day, day, 'key:activation')} --config-json '{config}'"
    if not is_open:
        return f"The receiver refused them: activation of that day says why. Nobody tries them again; to send them after all: {named}"
    return f"Nobody tries them again: they are older than {PATIENCE_DAYS} days. Ask the receiver, or send them, with the same keys: {named}"
