"""Raw lines to accepted events: parse, reject, deduplicate, and account for every line (SPEC 1).

What belongs here: the Segment Spec as we accept it. What does not: finding and opening files (``resources.landing``),
and anything about customers beyond "this line names one".

JSON is decoded line by line in C (msgspec): it alone tells which line is broken and how, and keeps ``properties``,
``traits`` and ``context`` as the bytes they came in (docs/adr/0003-json.md has the figures).
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import polars as pl

from atc_pipeline import rules

TYPES = ("track", "page", "screen", "identify", "alias", "group")
LARGEST_LINE = 32 * 1024
"""Segment's limit for one call, in bytes."""
DEDUPLICATION_DAYS = 2
"""Earlier arrival days whose accepted events are remembered as seen."""

REASONS = (
    "too_large",
    "malformed_json",
    "unknown_type",
    "missing_identity",
    "missing_event_name",
    "bad_timestamp",
    "from_the_future",
)
"""Why a line is rejected, in the order tested."""

RAW_EVENTS = {
    "date": pl.Date(),
    "message_id": pl.String(),
    "type": pl.String(),
    "event": pl.String(),
    "user_id": pl.String(),
    "anonymous_id": pl.String(),
    "previous_id": pl.String(),
    "timestamp": pl.Datetime("us", "UTC"),
    "event_date": pl.Date(),
    "received_at": pl.Datetime("us", "UTC"),
    "properties": pl.String(),
    "traits": pl.String(),
    "context": pl.String(),
    "source_file": pl.String(),
    "line": pl.Int64(),
}
REJECTED_EVENTS = {
    "date": pl.Date(),
    "source_file": pl.String(),
    "line": pl.Int64(),
    "reason": pl.String(),
    "raw": pl.String(),
}

Scalar = str | int | float | bool | None
_TEXTS = (
    "message_id",
    "type",
    "event",
    "user_id",
    "anonymous_id",
    "previous_id",
    "timestamp",
    "original_timestamp",
    "sent_at",
    "received_at",
)
_DOCUMENTS = ("properties", "traits", "context")


class _Line(msgspec.Struct, rename="camel", gc=False):
    message_id: Scalar = None
    type: Scalar = None
    event: Scalar = None
    user_id: Scalar = None
    anonymous_id: Scalar = None
    previous_id: Scalar = None
    timestamp: Scalar = None
    original_timestamp: Scalar = None
    sent_at: Scalar = None
    received_at: Scalar = None
    properties: msgspec.Raw = msgspec.Raw(b"null")
    traits: msgspec.Raw = msgspec.Raw(b"null")
    context: msgspec.Raw = msgspec.Raw(b"null")


class _AnyLine(msgspec.Struct, rename="camel", gc=False):
    """The same line where a field that should be plain text holds an object or an array."""

    message_id: Any = None
    type: Any = None
    event: Any = None
    user_id: Any = None
    anonymous_id: Any = None
    previous_id: Any = None
    timestamp: Any = None
    original_timestamp: Any = None
    sent_at: Any = None
    received_at: Any = None
    properties: msgspec.Raw = msgspec.Raw(b"null")
    traits: msgspec.Raw = msgspec.Raw(b"null")
    context: msgspec.Raw = msgspec.Raw(b"null")


_DECODER = msgspec.json.Decoder(_Line)
_LENIENT_DECODER = msgspec.json.Decoder(_AnyLine)
_MALFORMED = _Line()


@dataclass(frozen=True, eq=False)
class Ingested:
    """One arrival day's lines, each accounted for: ``lines == len(accepted) + len(rejected) + duplicates + erased``."""

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    lines: int
    duplicates: int
    erased: int


def ingest(lines: pl.DataFrame, recent_ids: pl.Series, *, arrival: date, timezone: str, erased: pl.Series | None = None) -> Ingested:
    """Accept, reject or recognise as a duplicate each line that arrived on one day.

    ``lines``: one row per line that is not blank - ``source_file`` String, ``line`` Int64, ``raw`` Binary.
    ``recent_ids``: message ids accepted on the ``DEDUPLICATION_DAYS`` days before.
    ``erased``: ``erasure_hash`` of each id that must be kept out. A line that names one as its user or previous id, or as its
    anonymous visitor where it names no user, is dropped before anything else and leaves its count only; a malformed line names
    nobody and cannot be matched.
    """
    parsed = _parse(lines)
    if erased is not None and not erased.is_empty():
        parsed = parsed.filter(~_names_one_of(erased))
    parsed = parsed.with_columns(reason=_reason(arrival, timezone))
    rejected = (
        parsed.filter(pl.col("reason").is_not_null())
        .select(pl.lit(arrival).alias("date"), "source_file", "line", "reason", raw="text")
        .sort("source_file", "line")
        .cast(REJECTED_EVENTS)  # type: ignore[arg-type]  # a dict of data types is a schema
    )
    fit = parsed.filter(pl.col("reason").is_null())
    is_repeated = pl.col("message_id").is_in(recent_ids.implode())
    fresh = fit.filter(~is_repeated)
    accepted = (
        fresh.sort("message_id", "timestamp", "line_hash", "source_file", "line")
        .unique("message_id", keep="first", maintain_order=True)
        .with_columns(pl.lit(arrival).alias("date"), event_date=pl.col("timestamp").dt.convert_time_zone(timezone).dt.date())
        .select(*RAW_EVENTS)
        .cast(RAW_EVENTS)  # type: ignore[arg-type]  # a dict of data types is a schema
    )
    duplicates = fit.filter(is_repeated).height + fresh.height - fresh["message_id"].n_unique()
    return Ingested(accepted, rejected, lines=lines.height, duplicates=duplicates, erased=lines.height - parsed.height)


def erasure_hash(id_type: Literal["user", "anonymous"], column: str) -> pl.Expr:
    """The SHA-256 of ``user:<id>`` or ``anonymous:<id>`` in hexadecimal: how an id is remembered that must not be kept."""
    return pl.concat_str(pl.lit(f"{id_type}:"), pl.col(column)).chash.sha2_256()  # type: ignore[attr-defined, no-any-return]  # polars_hash


def _names_one_of(erased: pl.Series) -> pl.Expr:
    """True where a line is of one of the ids, or names one as its previous id, which may be of either kind.

    Whoever shares a device with an erased person keeps their own events: an anonymous id counts where no user is named.
    """

    def is_erased(id_type: Literal["user", "anonymous"], column: str) -> pl.Expr:
        return erasure_hash(id_type, column).is_in(erased.implode()).fill_null(value=False)

    return (
        is_erased("user", "user_id")
        | (~rules.is_identity("user_id") & is_erased("anonymous", "anonymous_id"))
        | is_erased("user", "previous_id")
        | is_erased("anonymous", "previous_id")
    )


def _parse(lines: pl.DataFrame) -> pl.DataFrame:
    decoded = [_decode(raw) for raw in lines["raw"]]
    columns = {name: pl.Series(name, [_text(getattr(line, name)) for line in decoded], dtype=pl.String) for name in _TEXTS} | {
        name: pl.Series(name, [_document(getattr(line, name)) for line in decoded], dtype=pl.String) for name in _DOCUMENTS
    }
    times = ("timestamp", "original_timestamp", "sent_at", "received_at")
    return (
        lines.with_columns(
            **columns,
            text=pl.Series([raw.decode(errors="replace") for raw in lines["raw"]], dtype=pl.String),
            is_too_large=pl.Series([len(raw) > LARGEST_LINE for raw in lines["raw"]], dtype=pl.Boolean),
            is_malformed=pl.Series([line is _MALFORMED for line in decoded], dtype=pl.Boolean),
            is_timed=columns["timestamp"].is_not_null(),
        )
        .with_columns(parse_time(name).alias(name) for name in times)
        .with_columns(
            # Segment's correction for a device whose clock is wrong: the delay before sending is trusted, the clock is not.
            timestamp=pl.when("is_timed")
            .then("timestamp")
            .otherwise(pl.col("received_at") - (pl.col("sent_at") - pl.col("original_timestamp"))),
            line_hash=rules.xxh64(pl.col("text")),
        )
        .with_columns(
            message_id=pl.when(pl.col("message_id").fill_null("") == "")
            .then(rules.hexadecimal(pl.col("line_hash")))
            .otherwise("message_id")
        )
    )


def _decode(raw: bytes) -> _Line | _AnyLine:
    try:
        raw.decode()
        return _DECODER.decode(raw)
    except (UnicodeDecodeError, RecursionError):
        return _MALFORMED
    except msgspec.ValidationError:
        pass
    except msgspec.DecodeError:
        return _MALFORMED
    try:
        return _LENIENT_DECODER.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return _MALFORMED


def _text(value: object) -> str | None:
    if type(value) is str or value is None:
        return value
    if type(value) is int or type(value) is float:
        return msgspec.json.encode(value).decode()
    return None


def _document(raw: msgspec.Raw) -> str | None:
    text = bytes(raw).decode()
    return None if text == "null" else text


_ISO_8601 = r"^\s*([1-9]\d{3}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2})(?::(\d{2}))?(?:[.,](\d{1,9}))?)?\s*(?:([Zz])|([+-])(\d{2}):?(\d{2})?)?\s*$"


def parse_time(column: str) -> pl.Expr:
    """Read ISO 8601 text as a UTC time in microseconds; a time without a zone is UTC, anything else is null."""
    part = pl.col(column).str.extract_groups(_ISO_8601).struct
    wall = pl.concat_str(
        part.field("1"),
        pl.lit(" "),
        part.field("2").fill_null("00:00"),
        pl.lit(":"),
        part.field("3").fill_null("00"),
        pl.lit("."),
        part.field("4").fill_null("0").str.slice(0, 6).str.pad_end(6, "0"),
    ).str.to_datetime("%Y-%m-%d %H:%M:%S%.6f", time_unit="us", strict=False)
    minutes = part.field("7").cast(pl.Int64).fill_null(0) * 60 + part.field("8").cast(pl.Int64).fill_null(0)
    offset = pl.duration(minutes=pl.when(part.field("6") == "-").then(-minutes).otherwise(minutes))
    return (wall - offset).dt.replace_time_zone("UTC")


def _reason(arrival: date, timezone: str) -> pl.Expr:
    end_of_day = datetime.combine(arrival + timedelta(days=1), time(), ZoneInfo(timezone))
    latest = end_of_day.astimezone(ZoneInfo("UTC")) + timedelta(hours=24)
    tests = {
        "too_large": pl.col("is_too_large"),
        "malformed_json": pl.col("is_malformed"),
        "unknown_type": ~pl.col("type").is_in(TYPES).fill_null(value=False),
        "missing_identity": rules.customer_id().is_null(),
        "missing_event_name": (pl.col("type") == "track") & (pl.col("event").fill_null("").str.strip_chars() == ""),
        "bad_timestamp": pl.col("timestamp").is_null(),
        "from_the_future": pl.col("timestamp") > latest,
    }
    return pl.coalesce(*(pl.when(tests[reason]).then(pl.lit(reason)) for reason in REASONS))
