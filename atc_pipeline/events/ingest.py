"""Raw lines to accepted events: parse, reject, deduplicate, and account for every line (SPEC 1).

What belongs here: the Segment Spec as we accept it. What does not: finding and opening files (``resources.storage.landing``), decoding
(``lines``), and anything about customers beyond "this line names one".
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.events.lines import DOCUMENTS, EARLIEST, Lines, read_lines
from atc_pipeline.events.tables import RAW_EVENTS, REASONS, REJECTED_EVENTS, TYPES
from atc_pipeline.rules.lots import hexadecimal
from atc_pipeline.rules.people import customer_id, erasure_hash, is_identity
from atc_pipeline.tables.parts import lazily

DEDUPLICATION_DAYS = 2
"""Earlier arrival days whose accepted events are remembered as seen."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Some lines that are not blank: those fit to be accepted unless they are duplicates, the rejected, and how many there were.

    ``mended``: of the fit ones, how many had half a surrogate pair in a text.
    """

    fit: pl.DataFrame
    rejected: pl.DataFrame
    lines: int
    erased: int
    mended: int
    size: int


@dataclass(frozen=True, eq=False)
class Ingested:
    """One arrival day's lines, each accounted for: ``lines == len(accepted) + len(rejected) + duplicates + erased``.

    ``mended``: how many had half a surrogate pair in a text, and were read with U+FFFD in its place.

    Tables of a day that is too large to be held are lazy, and its duplicates are known once ``accepted`` was read.
    """

    accepted: pl.DataFrame | pl.LazyFrame
    rejected: pl.DataFrame | pl.LazyFrame
    lines: int
    erased: int
    mended: int
    dropped: list[int]

    @property
    def duplicates(self) -> int:
        """How many lines repeat the message id of another one."""
        return sum(self.dropped)


Park = Callable[[pl.DataFrame], pl.LazyFrame]
"""Puts a table where it takes no memory, and returns how to read it again."""

HELD = 2**30
"""Bytes of lines whose events are held in memory; a larger day is parked in sorted runs of so many, and merged."""
ROW = 512
"""Bytes that a line counts for at least: about what its row takes, however short it is."""
STEP = 2**20
"""A parked run is known by the message id that begins each so many bytes of it."""
RANGE = 64
"""Steps that are merged at a time."""
AT_ONCE = 2
"""Blocks judged at a time. Decoding needs the interpreter's lock; the other half of the work does not."""


def ingest(
    blocks: Iterable[Sequence[Lines]],
    recent_ids: pl.Series | pl.LazyFrame,
    *,
    arrival: date,
    timezone: str,
    erased: pl.Series | None = None,
    blocked: Sequence[str] = (),
    park: Park | None = None,
) -> Ingested:
    """Accept, reject or recognise as a duplicate each line that arrived on one day.

    ``recent_ids``: message ids accepted on the ``DEDUPLICATION_DAYS`` days before.
    ``erased``: ``erasure_hash`` of each id that must be kept out. A line that names one as its user or previous id, or as its
    anonymous visitor where it names no user, is dropped before anything else and leaves its count only; a malformed line names
    nobody and cannot be matched. ``blocked``: ids that name nobody, beside those of SPEC 2.
    ``park``: what to do with the events of a day that is larger than ``HELD``; without it they are held in memory, too.
    """
    recent = (recent_ids.to_frame() if isinstance(recent_ids, pl.Series) else recent_ids).lazy().select(pl.first().alias("message_id"))
    fit, rejected = [pl.DataFrame(schema=_FIT)], [pl.DataFrame(schema=REJECTED_EVENTS.schema)]
    runs, parked_rejects, dropped = list[pl.LazyFrame](), list[pl.LazyFrame](), list[int]()
    starts: list[pl.Series] = []
    lines = erased_lines = mended = held = 0
    for judged in _work_in_turn(blocks, lambda block: judge(block, arrival=arrival, timezone=timezone, erased=erased, blocked=blocked)):
        fit.append(judged.fit)
        rejected.append(judged.rejected)
        lines, erased_lines, held = lines + judged.lines, erased_lines + judged.erased, held + judged.size
        mended += judged.mended
        if park is not None and held >= HELD:
            gathered = _in_one_piece(fit)
            dropped.append(_count_repeats(gathered))
            run = _keep_first_of_each(gathered)
            starts.append(_starts(run))
            runs.append(park(run))
            parked_rejects.append(park(pl.concat(rejected)))
            del gathered, run
            rejected, held = rejected[:1], 0
    rest, rest_rejected = _in_one_piece(fit), pl.concat(rejected)
    if not runs:
        known = recent.collect()
        return Ingested(_settle(rest, known), rest_rejected, lines, erased_lines, mended, [_count_repeats(rest, known)])
    runs.append(rest.lazy())
    in_runs = sum(dropped)

    def merged() -> Iterator[pl.DataFrame]:
        dropped[:] = [in_runs]
        for within in _ranges(pl.concat(starts)):
            several = pl.concat([run.filter(within) for run in runs]).collect()
            known = recent.filter(within).collect()
            dropped.append(_count_repeats(several, known))
            yield _settle(several, known)

    return Ingested(
        lazily(merged, RAW_EVENTS.schema), pl.concat([*parked_rejects, rest_rejected.lazy()]), lines, erased_lines, mended, dropped
    )


Task = TypeVar("Task")
Result = TypeVar("Result")


def _work_in_turn(tasks: Iterable[Task], work: Callable[[Task], Result]) -> Iterator[Result]:
    """Do several tasks at once; return the results in order, and never be more than a task ahead."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _in_one_piece(fit: list[pl.DataFrame]) -> pl.DataFrame:
    """Put rows together, and let go of all parts but the first, which is empty: else there would be two copies beside the sorted one."""
    whole = pl.concat(fit).rechunk()  # rows are taken from one chunk ten times as fast as from several
    del fit[1:]
    return whole


def _keep_first_of_each(fit: pl.DataFrame) -> pl.DataFrame:
    """Keep of the lines with one message id the least by (timestamp, line hash, file, line), in order of message id."""
    fit = fit.rechunk()
    # By several columns Polars compares rows encoded as bytes: a third of the time that the ids alone take.
    order = fit.select(pl.arg_sort_by("message_id", "timestamp", "line_hash", "source_file", "line")).to_series()
    ids = fit["message_id"].gather(order)
    return fit[order.filter(ids.ne_missing(ids.shift()))]


def _settle(fit: pl.DataFrame, recent: pl.DataFrame) -> pl.DataFrame:
    """Accept the first of each message id, unless it was accepted on a day before."""
    fresh = fit.join(recent, on="message_id", how="anti") if recent.height else fit
    return _keep_first_of_each(fresh).select(*RAW_EVENTS.schema)


def _count_repeats(fit: pl.DataFrame, recent: pl.DataFrame | None = None) -> int:
    """Count the lines that repeat a message id, by the ids alone: else a line that is lost on the way would pass for one of them."""
    ids = fit.select("message_id").unique()
    return fit.height - (ids if recent is None or recent.is_empty() else ids.join(recent, on="message_id", how="anti")).height


def _starts(run: pl.DataFrame) -> pl.Series:
    """Return the message ids with which each ``STEP`` bytes of a run begin."""
    size = pl.sum_horizontal(pl.col(name).str.len_bytes().fill_null(0).cast(pl.Int64) for name in (*DOCUMENTS, "extra", "message_id")) + 256
    step = size.cum_sum() // STEP
    return run.filter(step != step.shift(fill_value=-1))["message_id"]


def _ranges(starts: pl.Series) -> Iterator[pl.Expr]:
    """Divide the message ids into ranges of about ``RANGE`` steps each."""
    bounds = [None, *starts.sort().unique(maintain_order=True).gather_every(RANGE, RANGE), None]
    for least, beyond in pairwise(bounds):
        conditions = [pl.lit(value=True)] if least is None else [pl.col("message_id") >= least]
        yield pl.all_horizontal(conditions if beyond is None else [*conditions, pl.col("message_id") < beyond])


def _names_erased(erased: pl.Series, blocked: Sequence[str]) -> pl.Expr:
    """True where a line is of one of the ids, or names one as its previous id, which may be of either kind.

    Whoever shares a device with an erased person keeps their own events: an anonymous id counts where no user is named.
    """

    def is_erased(id_type: Literal["user", "anonymous"], column: str) -> pl.Expr:
        return erasure_hash(id_type, column).is_in(erased.implode()).fill_null(value=False)

    return (
        is_erased("user", "user_id")
        | (~is_identity("user_id", blocked) & is_erased("anonymous", "anonymous_id"))
        | is_erased("user", "previous_id")
        | is_erased("anonymous", "previous_id")
    )


_WRITTEN_IDS = {
    "user_id": r'"user(?:Id|_id)"\s*:\s*"?([^",}]*)',
    "anonymous_id": r'"anonymous(?:Id|_id)"\s*:\s*"?([^",}]*)',
    "previous_id": r'"previous(?:Id|_id)"\s*:\s*"?([^",}]*)',
}


def _add_ids_of_cut_lines(lines: pl.DataFrame) -> pl.DataFrame:
    """Find ids in the text of lines that are too large and, cut when they were read, no JSON any more."""
    is_cut = lines["is_too_large"] & lines["is_malformed"]
    if not is_cut.any():
        return lines
    text = pl.col("raw").cast(pl.String, strict=False)
    written = (pl.when(is_cut).then(text.str.extract(pattern)).otherwise(name).alias(name) for name, pattern in _WRITTEN_IDS.items())
    return lines.with_columns(written)


_FIT = RAW_EVENTS.schema | {"line_hash": pl.UInt64()}


def judge(block: Sequence[Lines], *, arrival: date, timezone: str, erased: pl.Series | None = None, blocked: Sequence[str] = ()) -> Judged:
    """Tell the lines that are fit to be accepted from those that are rejected."""
    lines = kept = read_lines(block)
    if erased is not None and not erased.is_empty():
        kept = _add_ids_of_cut_lines(kept).filter(~_names_erased(erased, blocked))
    kept = kept.with_columns(
        pl.lit(arrival).alias("date"),
        event_date=pl.col("timestamp").dt.convert_time_zone(timezone).dt.date(),
        reason=_reason(arrival, timezone, blocked),
    )
    unfit = kept.filter(pl.col("reason").is_not_null())
    fit = kept.filter(pl.col("reason").is_null()) if unfit.height else kept
    # Copies, as a view of a short line would keep the whole block in memory; and what is no UTF-8 becomes text here.
    raw = pl.Series("raw", [line.decode(errors="replace") for line in unfit["raw"]], dtype=pl.String)
    return Judged(
        _name_nameless(fit).select(*_FIT),
        unfit.with_columns(raw).select(*REJECTED_EVENTS.schema),
        lines=lines.height,
        erased=lines.height - kept.height,
        mended=int(fit["is_mended"].sum()),
        size=max(sum(len(part.data) for part in block), lines.height * ROW),
    )


def _name_nameless(fit: pl.DataFrame) -> pl.DataFrame:
    """Call an event without a messageId by the hash of its line."""
    nameless = fit.select((pl.col("message_id").fill_null("") == "").arg_true()).to_series()
    if nameless.is_empty():
        return fit
    hashes = fit[nameless].select(hexadecimal(pl.col("line_hash"))).to_series()
    return fit.with_columns(fit["message_id"].scatter(nameless, hashes))


def _reason(arrival: date, timezone: str, blocked: Sequence[str]) -> pl.Expr:
    end_of_day = datetime.combine(arrival + timedelta(days=1), time(), ZoneInfo(timezone))
    latest = end_of_day.astimezone(ZoneInfo("UTC")) + timedelta(hours=24)
    tests = {
        "too_large": pl.col("is_too_large"),
        "malformed_json": pl.col("is_malformed"),
        "unknown_type": ~pl.col("type").is_in(TYPES).fill_null(value=False),
        "missing_identity": customer_id(blocked).is_null(),
        "missing_event_name": (pl.col("type") == "track") & (pl.col("event").fill_null("").str.strip_chars() == ""),
        "bad_timestamp": pl.col("timestamp").is_null() | (pl.col("timestamp") < EARLIEST),
        "from_the_future": pl.col("timestamp") > latest,
    }
    return pl.coalesce(*(pl.when(tests[reason]).then(pl.lit(reason)) for reason in REASONS))
