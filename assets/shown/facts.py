"""What the catalog shows of a day of a table: row counts, and a small table or chart where one helps.

What belongs here: metadata of materializations. What does not: checks, and anything that decides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np
import polars as pl

from atc_pipeline.activation.tables import CALENDAR, WITHHELD, WOULD_SEND
from atc_pipeline.decision.gates import RULINGS
from atc_pipeline.escaping import markdown, plain
from atc_pipeline.identity.tables import CLAIMED, IGNORED, MERGED
from atc_pipeline.rules.lots import sha256

Facts = Mapping[str, Any]

ROW_COUNT = "dagster/row_count"
BAR_WIDTH = 24
SHOWN_MERGES = 20
SHOWN_SKIPPED = 50

SHOWN_ROWS = 50
"""Rows of a table, and numbers of one kind, that Dagster is told of: it keeps them for ever, and of the others it is told how many."""
SHOWN_LETTERS = 80
"""Of a name or value in such a table."""

OVERLAPPING = 8
"""How many of the largest micro-segments are compared with each other."""
MOST_LOOKED_AT = 20_000
"""Customers whose values a distribution is drawn from: of a million it costs no more than of these, and says the same."""


def facts_of(table: str, frame: pl.DataFrame, yesterday: pl.LazyFrame | None = None) -> Facts:
    """Describe a day of a table; ``yesterday``: the day before, read only by those that tell what has changed."""
    described, compared = _DESCRIBED.get(table), _COMPARED.get(table)
    facts = compared(frame, yesterday) if compared else described(frame) if described else {}
    return {ROW_COUNT: frame.height, **facts}


def of_shards(table: str, rows: Sequence[int], first: pl.LazyFrame | None, yesterday: pl.LazyFrame | None = None) -> Facts:
    """Describe a day that was made by shard, and of which nobody has all rows: how many there are, how evenly they lie, and the first.

    ``first``, ``yesterday``: the first shard of the day, and of the day before.
    """
    counts = {"shards": len(rows), "smallest_shard": min(rows), "largest_shard": max(rows)}
    shown = facts_of(table, first.collect(), yesterday) if first is not None and table in {*_DESCRIBED, *_COMPARED} else {}
    return {**{f"shard_0/{name}": fact for name, fact in shown.items() if name != ROW_COUNT}, **counts, ROW_COUNT: sum(rows)}


@dataclass(frozen=True)
class Bar:
    """A cell that is drawn: a bar so many blocks long."""

    length: float

    def __str__(self) -> str:
        return f"`{'█' * max(1, round(self.length))}`" if self.length > 0 else ""


def markdown_table(frame: pl.DataFrame, most: int = SHOWN_ROWS, letters: int = SHOWN_LETTERS) -> dg.MetadataValue:
    """Show a small frame as a table."""
    return as_table(frame.columns, frame.rows(), most, letters)


def as_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], most: int = SHOWN_ROWS, letters: int = SHOWN_LETTERS
) -> dg.MetadataValue:
    """Show rows as a table: the first of them, and how many more there are. Whatever a cell says is text."""
    cut = [[f"and {len(rows) - most:,} more", *[None] * (len(header) - 1)]] if len(rows) > most else []
    shown = [*rows[:most], *cut]
    is_number = [all(isinstance(row[place], int | None) for row in shown) for place in range(len(header))]
    rule = "".join(f" {'---:' if right else '---'} |" for right in is_number)
    return dg.MetadataValue.md("\n".join([_line(header, letters), f"|{rule}", *(_line(row, letters) for row in shown)]))


def _line(cells: Sequence[object], letters: int) -> str:
    return f"| {' | '.join(_cell(cell, letters) for cell in cells)} |"


def _cell(value: object, letters: int) -> str:
    match value:
        case None:
            return ""
        case bool() | Bar():
            return str(value)
        case int():
            return f"{value:,}"
        case _:
            return markdown(str(value), letters)


def bars(counts: pl.DataFrame) -> dg.MetadataValue:
    """Show names and their counts, largest first, as a bar chart; of those left out, how many there are and what they sum up to."""
    shown, rest = counts.head(SHOWN_ROWS), counts.slice(SHOWN_ROWS)
    largest = shown.to_series(1).max() or 1
    assert isinstance(largest, int)
    rows: list[tuple[object, ...]] = [(name, count, Bar(BAR_WIDTH * count / largest)) for name, count in shown.iter_rows()]
    rows += [] if rest.is_empty() else [(f"and {rest.height:,} more", rest.to_series(1).sum(), None)]
    return as_table([*counts.columns, ""], rows, len(rows))


def _counted(frame: pl.DataFrame, name: pl.Expr, of: str) -> pl.DataFrame:
    return frame.group_by(name).len(of).sort(pl.col(of), name.meta.output_name(), descending=[True, False])


def _events(frame: pl.DataFrame) -> Facts:
    return {"events": bars(_counted(frame, pl.coalesce("event", "type").alias("event"), "events"))} if frame.height else {}


def _rejects(frame: pl.DataFrame) -> Facts:
    if frame.is_empty():
        return {}
    # Where an example is, not what: the line may name a customer, and what Dagster was told cannot be taken back (assets.jobs.erasure).
    examples = frame.group_by("reason", maintain_order=True).agg(
        pl.len().alias("lines"), pl.col("source_file").first(), pl.col("line").first()
    )
    return {"rejected_by_reason": markdown_table(examples.sort("reason"))}


def _coverage(frame: pl.DataFrame) -> Facts:
    """Say how much each feature matched, and which values were skipped: what they look like and where they are, as what Dagster was
    told cannot be taken back.
    """
    skipped = frame.filter(pl.col("skipped") > 0).sort("skipped", "feature", descending=[True, False])
    shown = skipped.select("feature", "event", "read", "skipped", looks_like="sample", message_id="sample_message_id")
    matched = frame.unique(["feature", "part"]).group_by("feature").agg(pl.col("matched").sum())
    facts = {"matched_by_feature": bars(matched.sort("matched", "feature", descending=[True, False]))} if frame.height else {}
    return {**facts, "values_skipped": markdown_table(shown.head(SHOWN_SKIPPED))} if skipped.height else facts


def _models(frame: pl.DataFrame) -> Facts:
    """Say what the models of the day were fitted on, and why one was not."""
    shown = ["fitted_on", "customers", "repeat_customers", "value_fitted_on", "valued_customers", "bounded_customers", "note"]
    return {"models": markdown_table(frame.select(shown))}


def _identities(frame: pl.DataFrame) -> Facts:
    absorbed = frame.filter(pl.col("change").is_in([MERGED, CLAIMED]))
    counts = {change: frame.filter(pl.col("change") == change).height for change in (MERGED, CLAIMED, *IGNORED)}
    shown = absorbed.sort(pl.col("change") != MERGED, maintain_order=True).head(SHOWN_MERGES)
    # By message, not by name: what Dagster was told cannot be taken back (assets.jobs.erasure), and the table says who it was.
    return {
        **counts,
        "customers_absorbed": absorbed.height,
        "first_absorbed": markdown_table(shown.select("change", "id_type", "message_id")),
        "first_ignored": markdown_table(frame.filter(pl.col("change").is_in(IGNORED)).select("change", "message_id").head(SHOWN_MERGES)),
    }


def _profiles(frame: pl.DataFrame) -> Facts:
    """Say of every column how far it is filled and how its values are spread; the fill rate as a number, to be plotted over days."""
    if frame.is_empty():
        return {"new_customers": 0}
    schema = {
        name: dtype for name, dtype in frame.schema.items() if name not in ("date", "customer_id") and not isinstance(dtype, pl.Struct)
    }
    empty = frame.select(list(schema)).null_count().row(0)
    filled = {name: 1 - missing / frame.height for name, missing in zip(schema, empty, strict=True)}
    looked_at = frame.select(list(schema)).gather_every(max(1, frame.height // MOST_LOOKED_AT))
    numbers = [name for name, dtype in schema.items() if dtype.is_numeric()]
    words = [name for name, dtype in schema.items() if dtype in (pl.String(), pl.Boolean())]
    return {
        "new_customers": int((frame["first_seen_on"] == frame["date"]).sum()),
        "numbers": as_table(
            ["column", "filled", "", "least", "median", "90 % are at most", "largest"], _spread(looked_at, numbers, filled)
        ),
        "words": as_table(["column", "filled", "", "most frequent", "of those filled", "different"], _frequent(looked_at, words, filled)),
        **_plotted("filled", {name: round(share, 4) for name, share in filled.items() if share < 1}),
    }


def _spread(frame: pl.DataFrame, names: Sequence[str], filled: Mapping[str, float]) -> list[list[object]]:
    """One row per column of numbers: how far it is filled, and its least, median, ninth decile and largest value."""
    # All columns in one sort, with what is missing last: a third of the time that a quantile per column takes.
    values = np.sort(frame.select(pl.col(names).cast(pl.Float64).fill_null(np.nan)).to_numpy(), axis=0)
    rows = []
    for column, name in enumerate(names):
        known = int(np.searchsorted(values[:, column], np.inf, side="right"))
        at = (0, known // 2, int(0.9 * known), known - 1) if known else ()
        rows.append([name, *_share(filled[name]), *(f"{values[place, column]:,.4g}" for place in at)])
    return rows


def _frequent(frame: pl.DataFrame, names: Sequence[str], filled: Mapping[str, float]) -> list[list[object]]:
    """One row per column of words: how far it is filled, its most frequent value, and how many different ones there are.

    A value that only one customer has may be who it is, and what Dagster was told cannot be taken back (``assets.jobs.erasure``).
    """
    rows = []
    for name in names:
        values, counts = frame[name].drop_nulls().value_counts(name="number")
        numbers = counts.to_numpy()
        is_most = numbers == numbers.max(initial=0)
        is_shared = numbers.max(initial=0) > 1
        most = [values.filter(pl.Series(is_most)).min(), f"{numbers.max() / numbers.sum():.0%}"] if is_shared else ["", ""]
        rows.append([name, *_share(filled[name]), *most, values.len()])
    return rows


def _share(share: float) -> tuple[str, Bar]:
    return f"{share:.1%}", Bar(10 * share)


def _plotted(what: str, numbers: Mapping[str, float]) -> Facts:
    """Tell numbers that Dagster plots over days, each under a key of its own: the first of them, if there are many."""
    return {f"{what}/{plain(name)}": number for name, number in list(numbers.items())[:SHOWN_ROWS]}


def _memberships(frame: pl.DataFrame, yesterday: pl.LazyFrame | None) -> Facts:
    """Say how large each micro-segment is, who came and went, and how far they overlap; sizes as numbers, to be plotted over days."""
    is_new = pl.col("member_since") == pl.col("date")
    counts = frame.group_by("segment_id").agg(pl.len(), is_new.sum().alias("entered")).rows()
    before = {} if yesterday is None else dict(yesterday.group_by("segment_id").len().collect().iter_rows())
    # Who was there yesterday or came today, and is not there today, has left.
    sizes = [(name, customers, entered, before.get(name, 0) + entered - customers) for name, customers, entered in counts]
    sizes += [(name, 0, 0, before[name]) for name in before.keys() - {name for name, *_ in counts}]
    sizes.sort(key=lambda size: (-size[1], size[0]))
    largest = [name for name, *_ in sizes[:OVERLAPPING]]
    overlap, segments_each = _overlap(frame, largest)
    return {
        "segments": _sized(sizes),
        "overlap_of_the_largest": as_table(["of those in", *(f"in {number}" for number in range(1, len(largest) + 1))], overlap),
        "segments_per_customer": as_table(
            ["in segments", "customers", ""], [[number, f"{share:.1%}", Bar(2 * BAR_WIDTH * share)] for number, share in segments_each]
        ),
        "entered_today": sum(entered for _, _, entered, _ in sizes),
        "left_today": sum(left for _, _, _, left in sizes),
        **_plotted("size", {name: customers for name, customers, _, _ in sizes}),
    }


def _sized(sizes: Sequence[tuple[str, int, int, int]]) -> dg.MetadataValue:
    largest = max((customers for _, customers, _, _ in sizes), default=0) or 1
    rows = [
        [name, customers, f"+{entered:,}", f"-{left:,}", Bar(BAR_WIDTH * customers / largest)] for name, customers, entered, left in sizes
    ]
    return as_table(["segment", "customers", "entered", "left", ""], rows)


def _overlap(frame: pl.DataFrame, largest: Sequence[str]) -> tuple[list[list[str]], list[tuple[int, float]]]:
    """Return which share of each of these segments is in each other one, and which share of the customers in how many segments."""
    bits = {name: 1 << place for place, name in enumerate(largest)}
    bit = pl.col("segment_id").replace_strict(bits, default=0, return_dtype=pl.Int64)
    # One customer's segments are one number, its bits: there are but 2^8 of these, however many customers.
    is_looked_at = pl.col("customer_id").hash() % max(1, frame.height // MOST_LOOKED_AT) == 0
    kinds = (
        frame.lazy()
        .filter(is_looked_at)
        .group_by("customer_id")
        .agg(bit.sum().alias("bits"), pl.len().alias("segments"))
        .group_by("bits", "segments")
        .len()
        .collect()
    )
    is_in = (kinds["bits"].to_numpy()[:, None] >> np.arange(len(largest))) & 1
    both = is_in.T @ (is_in * kinds["len"].to_numpy()[:, None])
    rows = [
        [
            f"{row + 1} {name}",
            *("" if row == column else f"{both[row, column] / max(1, both[row, row]):.0%}" for column in range(len(largest))),
        ]
        for row, name in enumerate(largest)
    ]
    return rows, kinds.group_by("segments").agg(pl.col("len").sum() / kinds["len"].sum()).sort("segments").rows()


def _queues(frame: pl.DataFrame) -> Facts:
    return {
        "queues": bars(_counted(frame, pl.col("journey_id").alias("journey"), "customers")),
        "journeys_queued": frame["journey_id"].n_unique(),
    }


def _funnel(frame: pl.DataFrame) -> Facts:
    lost = [name for name in RULINGS if name != "chosen" and frame[name].sum() > 0]
    by_journey = frame.select("journey_id", "queued", "carried", *lost, "chosen", "started").sort(
        "queued", "journey_id", descending=[True, False]
    )
    facts = {
        "funnel": markdown_table(by_journey),
        "lost_at": bars(frame.select(lost).sum().unpivot(variable_name="gate", value_name="options")),
    }
    limited = frame.drop_nulls("places").select("journey_id", "places", "wanted", "started", "price")
    return facts if limited.is_empty() else {**facts, "limited_places": markdown_table(limited.sort("price", descending=True))}


def _state(frame: pl.DataFrame) -> Facts:
    return {"in_flight": frame["ended_on"].null_count()}


def _assignments(frame: pl.DataFrame) -> Facts:
    counts = {name: frame.filter(pl.col("decision") == name).height for name in ("start", "continue", "switch", "none")}
    if frame.is_empty():
        return counts
    decisions = frame.group_by(pl.col("journey_id").alias("journey").fill_null("(none)"), "decision").len("customers")
    by_journey = decisions.pivot("decision", index="journey", values="customers", sort_columns=True)
    by_journey = by_journey.sort(pl.sum_horizontal(pl.exclude("journey")), "journey", descending=[True, False])
    return {"decisions_by_journey": markdown_table(by_journey), **counts}


def _messages(frame: pl.DataFrame) -> Facts:
    """Tell what became of all that was due, channel by channel; at which local hours it arrives; which channels were passed over."""
    if frame.is_empty():
        return {"to_send": 0}
    sent = frame.filter(pl.col("withheld").is_null())
    facts = {"due": frame.height, "to_send": sent.height, "waterfall": as_table(*_waterfall(frame))}
    if sent.height:
        facts["local_hours"] = as_table(*_hours(sent))
    if sent.filter(pl.col("zone_from") == CALENDAR).height:
        facts["in_the_calendars_zone"] = sent.filter(pl.col("zone_from") == CALENDAR).height
    tried = frame.select(pl.col("tried").explode(empty_as_null=False, keep_nulls=False).str.split_exact(":", 1)).unnest("tried")
    if tried.height:
        passed_over = tried.rename({"field_0": "channel", "field_1": "reason"}).group_by("channel", "reason").len("passed_over")
        facts["tried"] = markdown_table(passed_over.sort("passed_over", "channel", "reason", descending=[True, False, False]))
    return facts


def _waterfall(frame: pl.DataFrame) -> tuple[list[str], list[list[object]]]:
    """From what was due, reason by reason in the order tested, to what is sent: by channel, and all of it as a bar."""
    channels = frame["channel"].unique().sort().to_list()
    counts = {(channel, why): number for channel, why, number in frame.group_by("channel", "withheld").len().iter_rows()}
    unknown = sorted({why for _, why in counts if why is not None and why not in WITHHELD})
    reasons = [why for why in (*WITHHELD, *unknown) if any((channel, why) in counts for channel in channels)]

    def line(name: str, numbers: Sequence[int]) -> list[object]:
        return [name, *numbers, sum(numbers), Bar(BAR_WIDTH * sum(numbers) / frame.height)]

    due = [sum(counts.get((channel, why), 0) for why in (None, *reasons)) for channel in channels]
    lines = [line("due", due)]
    lines += [line(why, [counts.get((channel, why), 0) for channel in channels]) for why in reasons]
    lines.append(line("to send", [counts.get((channel, None), 0) for channel in channels]))
    return ["", *channels, "all", "share"], lines


def _hours(sent: pl.DataFrame) -> tuple[list[str], list[list[object]]]:
    """Return at which hour of the day, where the customers live, how many messages arrive."""
    times = sent.group_by("zone", "send_at").len()
    counts = [0] * 24
    for zone, at, number in times.iter_rows():
        counts[at.astimezone(ZoneInfo(zone)).hour] += number
    first, last = (next(hour for hour in order if counts[hour]) for order in (range(24), range(23, -1, -1)))
    most = max(counts)
    return ["hour", "messages", ""], [[f"{hour:02}", counts[hour], Bar(BAR_WIDTH * counts[hour] / most)] for hour in range(first, last + 1)]


def _rendered(frame: pl.DataFrame) -> Facts:
    """Say how long messages are, and how many different ones there are, by content."""
    size = pl.col("bytes")
    by_content = frame.group_by("content", "channel").agg(
        pl.len().alias("messages"),
        pl.col("content_hash").n_unique().alias("different"),
        size.min().alias("shortest"),
        size.median().cast(pl.Int64).alias("median"),
        size.max().alias("longest"),
    )
    facts = {"megabytes": round(int(frame["bytes"].sum()) / 1e6, 3)}
    return (
        {**facts, "bytes_by_content": markdown_table(by_content.sort("messages", "content", descending=[True, False]))}
        if frame.height
        else {}
    )


def _library(frame: pl.DataFrame) -> Facts:
    """Say what there is to say, and who would get it today: the blocks of a content in their order by name."""
    if frame.is_empty():
        return {}
    shown = frame.select(
        "content",
        "medium",
        pl.col("block").fill_null("(subject)"),
        "variant",
        pl.when(pl.col("share").is_null()).then("when").otherwise(pl.format("{} %", pl.col("share") * 100)).alias("who"),
        "customers",
        "words",
        pl.col("lix").round(0).cast(pl.Int64),
        pl.col("guardrails").list.join(", "),
    )
    return {"contents": frame["content"].n_unique(), "library": markdown_table(shown)}


def _deliveries(frame: pl.DataFrame) -> Facts:
    if frame.is_empty():
        return {}
    by_status = frame.group_by("channel", "status").len("messages").sort("channel", "status")
    is_dry = frame["status"].is_in([WOULD_SEND, "withheld"]).all()
    facts: dict[str, Any] = {"DRY RUN: by_status" if is_dry else "by_status": markdown_table(by_status)}
    handed_over = frame.filter(pl.col("sent_at").is_not_null())
    if handed_over.height:
        hour = pl.col("sent_at").dt.strftime("%Y-%m-%d %H:00").alias("hour_utc")
        by_hour = handed_over.group_by("channel", hour, "status").agg(messages=pl.len(), again=(pl.col("attempts") - 1).sum())
        facts["by_hour"] = markdown_table(by_hour.sort("channel", "hour_utc", "status"))
    reasons = frame.drop_nulls("reason").group_by("channel", "status", "reason").len("messages")
    if reasons.height:
        facts["reasons"] = markdown_table(reasons.sort("messages", "channel", "status", "reason", descending=[True, False, False, False]))
    return facts


def _members(frame: pl.DataFrame) -> Facts:
    """Say how large each audience is; sizes as numbers, to be plotted over days."""
    if frame.is_empty():
        return {}
    sizes = _counted(frame, pl.col("audience_id").alias("audience"), "members")
    return {"members": bars(sizes), **_plotted("members", dict(sizes.iter_rows()))}


def _changes(frame: pl.DataFrame) -> Facts:
    counts = frame.group_by(pl.col("journey_id").alias("journey"), "change").len("customers").sort("journey", "change")
    return {"by_journey": markdown_table(counts)} if frame.height else {}


def _syncs(frame: pl.DataFrame) -> Facts:
    counts = frame.group_by("audience_id", "destination", "operation", "cause", "status").len("customers")
    return {"by_cause": markdown_table(counts.sort(pl.all()))} if frame.height else {}


def _answers(frame: pl.DataFrame) -> Facts:
    counts = frame.group_by("destination", "operation", "status").len("customers").sort("destination", "operation", "status")
    return {"by_status": markdown_table(counts)} if frame.height else {}


def reasons_of(frame: pl.DataFrame) -> dg.MetadataValue:
    """Show why customers are not where they should be, the most frequent reason first."""
    rejected = (
        frame.filter(pl.col("reason").is_not_null() & (pl.col("status") != "acknowledged"))
        .group_by("audience_id", "destination", "status", "reason")
        .len("customers")
    )
    return markdown_table(rejected.sort("customers", "audience_id", "destination", "reason", descending=[True, False, False, False]))


def samples_of(frame: pl.DataFrame, most: int = 10) -> dg.MetadataValue:
    """Show some rows, each customer as a hash: what Dagster was told cannot be taken back (``assets.jobs.erasure``)."""
    sampled = frame.with_columns(customer=sha256(pl.col("customer_id")).str.slice(0, 12)).sort("customer").head(most)
    return markdown_table(sampled.select("customer", "audience_id", "destination", "operation", "cause", "status"))


_COMPARED: Mapping[str, Callable[[pl.DataFrame, pl.LazyFrame | None], Facts]] = {"micro_segment_memberships": _memberships}

_DESCRIBED: Mapping[str, Callable[[pl.DataFrame], Facts]] = {
    "raw_events": _events,
    "rejected_events": _rejects,
    "feature_coverage": _coverage,
    "identity_changes": _identities,
    "customer_profiles": _profiles,
    "purchase_models": _models,
    "journey_queues": _queues,
    "journey_state": _state,
    "journey_assignments": _assignments,
    "journey_funnel": _funnel,
    "outbound_messages": _messages,
    "rendered_messages": _rendered,
    "content_library": _library,
    "activation": _deliveries,
    "audience_members": _members,
    "audience_changes": _changes,
    "audience_syncs": _syncs,
    "answers": _answers,
}
