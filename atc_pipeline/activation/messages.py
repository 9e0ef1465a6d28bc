"""Outbound messages: what each treated customer in a journey is due, on which channel, when - or why not (SPEC 9).

What belongs here: which steps are due, what went out before, keys, and the table. What does not: which channel passes (``choosing``),
the hour (``timing``), sending (``resources.delivery.delivery``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from atc_pipeline.activation.choosing import OBSTACLES, Chooser, Due, obstacle
from atc_pipeline.activation.steps import Steps
from atc_pipeline.activation.tables import (
    BEST,
    BLACKOUT,
    CALENDAR,
    CUSTOMER,
    DEFAULT,
    EXPIRED,
    KEY_COLLISION,
    NO_CONSENT,
    OUTBOUND_MESSAGES,
    STEP,
    SUPPRESSED,
)
from atc_pipeline.activation.timing import DEFAULT_HOUR, Arrivals, Homes, day_number, ends_of_days
from atc_pipeline.journeys.portfolio import Hours, MessageCap, Portfolio
from atc_pipeline.rules.lots import hexadecimal, sha256, xxh64
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.table import MOMENT

Render = Callable[..., pl.DataFrame]
"""Renders messages (``rows, profiles, portfolio, today=``): one row per message, as ``rendered_messages``, and its ``problem``."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A day's messages, and the texts of those that are sent on channels with a medium (None: there are none)."""

    messages: pl.DataFrame
    rendered: pl.DataFrame | None


def write_messages(
    assignments: pl.LazyFrame,
    profiles: pl.LazyFrame,
    portfolio: Portfolio,
    *,
    today: date,
    now: datetime | None = None,
    earlier: pl.LazyFrame | None = None,
    render: Render | None = None,
) -> Plan:
    """One row per step that is due today for a treated customer in a journey, withheld ones with the reason.

    ``now``: for a run while ``today`` is not over; messages are then due at the next best hour. None = the day is over.
    ``earlier``: messages of the days before, of customers as they are known today; None = there are none.
    ``render``: asked once for each position in the lists of channels, about the messages that get there; None = no text is made.
    """
    steps = Steps.of(portfolio)
    rows = _due(assignments, profiles, portfolio, steps)
    step = rows["step"].to_numpy()
    after = datetime.combine(today + timedelta(days=1), time(), ZoneInfo(portfolio.timezone)) if now is None else now
    kinds, kind_of = _kinds_of_hours(portfolio)
    homes = _homes(rows, steps.minute[step], portfolio)
    arrivals = Arrivals.of(homes, kinds, today + timedelta(days=1) if now is None else today, after)
    patience = day_number(today) + 1 + portfolio.policy.patience_days
    last_on = np.minimum(patience, rows["ends_on"].to_physical().to_numpy() + 1)
    channels = portfolio.channels
    due = Due(
        frame=rows,
        step=step,
        preferred=rows["preferred"].to_numpy(),
        is_suppressed=rows["is_suppressed"].to_numpy(),
        obstacles=rows.select(f"obstacle:{channel.id}" for channel in channels).to_numpy(),
        cell=homes.cell,
        last_on=last_on,
        used=_used(rows, earlier, portfolio, today),
        was_sent=_sent_before(rows, earlier, steps, portfolio),
    )
    asked = partial(_ask, render, profiles, portfolio, today) if render is not None else None
    choice = Chooser(due, steps, portfolio, arrivals, kind_of, asked).choose()
    planned = arrivals.at[0, homes.cell]
    # A list of which no channel is left has no hours either.
    is_lost = (choice.channel < 0) & (steps.listed[step] > 1)
    messages = rows.with_columns(
        pl.lit(today).alias("date"),
        choice.withheld,
        choice.tried,
        channel=_by_number(choice.channel, [channel.id for channel in channels]).fill_null(rows["channels"]),
        medium=_by_number(choice.channel, [channel.medium for channel in channels]),
        address=_addresses(choice.channel, rows, portfolio),
        send_at=_moments(np.where(is_lost | (choice.at == 0), planned, choice.at)),
        planned_at=_moments(planned),
        expires_at=_moments(ends_of_days(homes, last_on)),
        hour_from=pl.when(pl.Series(steps.minute[step] >= 0))
        .then(pl.lit(STEP))
        .otherwise(pl.when(pl.col("best_hour").is_not_null()).then(pl.lit(BEST)).otherwise(pl.lit(DEFAULT))),
        zone=_zones(homes),
        zone_from=_zones_from(homes),
        is_mandatory=pl.Series(steps.is_mandatory[step]),
    )
    return Plan(_in_order(_with_variants(messages, choice.rendered)), choice.rendered)


def due_again(
    messages: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio, *, today: date, now: datetime, absorbed: pl.LazyFrame
) -> pl.LazyFrame:
    """One row per message of an earlier day, due at the customer's next hour on its channel, or withheld from who may not get it any more.

    ``profiles`` are of ``today``: who has withdrawn since, is suppressed or is gone is not written to. ``absorbed``: who is somebody
    else since; the message stays what it was, and on the channel it was planned for: fallback is part of the plan.
    """
    columns = messages.collect_schema().names()
    listed = "channels" if "channels" in columns else "channel"
    steps = Steps.of(portfolio)
    clocks = steps.frame().select("journey_id", "step_day", "step", same="content", **{listed: "channels"}).lazy()
    known = _known(profiles, portfolio, {})
    rows = (
        survivors(messages.with_columns(planned_for="customer_id"), absorbed)
        .join(known, on="customer_id", how="left")
        .with_row_index("row:")
        .join(clocks, on=["journey_id", "step_day", listed], how="left")
        .sort("row:", pl.col("same") != pl.col("content"), "step", nulls_last=True)  # variants share a day and a list
        .unique("row:", keep="first", maintain_order=True)
        .drop("row:", "same")
        .collect()
    )
    numbers = {channel.id: number for number, channel in enumerate(portfolio.channels)}
    channel = rows["channel"].replace_strict(numbers, default=-1, return_dtype=pl.Int64).to_numpy()
    step = rows["step"].fill_null(-1).to_numpy()
    homes = _homes(rows, np.append(steps.minute, -1)[step], portfolio)
    kinds, kind_of = _kinds_of_hours(portfolio)
    arrivals, kind = Arrivals.of(homes, kinds, today, now), np.append(kind_of, 0)[channel]
    moment, local_on = arrivals.at[kind, homes.cell], arrivals.local_on[kind, homes.cell]
    withheld = _withheld_again(rows, portfolio, moment, _is_blackout(rows, portfolio, local_on))
    changed = {
        "withheld": withheld,
        "send_at": _moments(moment),
        "planned_at": _moments(arrivals.at[0, homes.cell]),
        "address": _addresses(np.where(withheld.is_null().to_numpy(), channel, -1), rows, portfolio),
        "zone": _zones(homes),
        "zone_from": _zones_from(homes),
    }
    again = rows.with_columns(customer_id="planned_for", **{name: value for name, value in changed.items() if name in columns})
    return again.select(columns).lazy()


def other_keys(messages: pl.DataFrame, absorbed: pl.LazyFrame, *, with_older: bool) -> pl.DataFrame:
    """One row per other key that a message may have gone out under: ``idempotency_key, name, other_key``.

    A message is known by every name the customer had since entering the journey (SPEC 8), and ``with_older`` by the keys that
    versions before SHA-256 made. ``absorbed``: ``identity.map.absorbed``. ``messages`` has ``entered_on``, too.
    """
    listed = "channels" if "channels" in messages.columns else "channel"  # an older version wrote steps of one channel, without
    due = messages.lazy().select("idempotency_key", "customer_id", "journey_id", "entered_on", "step_day", channels=listed)
    since = messages["entered_on"].min()
    before = absorbed.filter(pl.col("valid_from") >= since) if since is not None else absorbed.clear()
    renamed = (
        due.join(before, on="customer_id", how="inner")
        .filter(pl.col("valid_from") >= pl.col("entered_on"))  # who was absorbed earlier cannot have been in this entry
        .rename({"absorbed": "name"})
    )
    keys = [renamed.with_columns(other_key=_key("name"))]
    if with_older:
        every = pl.concat([due.with_columns(name="customer_id"), renamed.select(*due.collect_schema().names(), "name")])
        keys.append(every.with_columns(other_key=_older_key("name")))
    return pl.concat([frame.select("idempotency_key", "name", "other_key") for frame in keys]).unique().sort(pl.all()).collect()


def text_of(customer: str) -> pl.Expr:
    """Name a message once and for all: the same customer, journey, entry, step and list of channels is the same message.

    Only the first part can have a colon in it (journeys and channels are names without any), so two messages never have one text. A
    list is named as it is written, so that whichever of its channels is taken, today and when the day is made again, it is one message.
    """
    parts = [customer, "journey_id", pl.col("entered_on").dt.strftime("%Y-%m-%d"), pl.col("step_day").cast(pl.String), "channels"]
    return pl.concat_str(parts, separator=":")


def _due(assignments: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio, steps: Steps) -> pl.DataFrame:
    """One row per treated customer and step of the day that is for them: what is known of the customer, and the message's key.

    A step is for the customers of its variant, where the journey has variants, and for those whose condition holds.
    """
    conditions = {f"when:{place}": condition.expr.fill_null(value=False) for place, condition in enumerate(steps.conditions)}
    drawn = pl.col("variant") if "variant" in assignments.collect_schema() else pl.lit(None, pl.String)  # a day of an older version
    rows = (
        assignments.filter(pl.col("arm") == "treated")
        .select("customer_id", "journey_id", "entered_on", "ends_on", "score", step_day="day_index", drawn=drawn)
        .join(steps.frame().lazy(), on=["journey_id", "step_day"], how="inner")
        .filter(pl.col("only").is_null() | pl.col("only").eq_missing(pl.col("drawn")))
        .drop("only", "drawn")
        .join(_known(profiles, portfolio, conditions), on="customer_id", how="left")
        .with_columns(pl.col("is_suppressed").fill_null(value=False), pl.col("preferred").fill_null(-1), day_index="step_day")
        .with_columns(pl.col("^obstacle:.*$").fill_null(OBSTACLES.index(NO_CONSENT) + 1))
        .collect()
    )
    if conditions:
        holds = np.column_stack([rows[name].fill_null(value=False).to_numpy() for name in conditions] + [np.ones(rows.height, dtype=bool)])
        rows = rows.filter(pl.Series(holds[np.arange(rows.height), steps.condition[rows["step"].to_numpy()]])).drop(*conditions)
    return rows.with_columns(idempotency_key=_key("customer_id"))


def _known(profiles: pl.LazyFrame, portfolio: Portfolio, more: Mapping[str, pl.Expr]) -> pl.LazyFrame:
    """What a profile says of messages: the hour, the zone, ``is_suppressed``, the ``preferred`` channel's number, and by channel the
    number of what is in the way (``obstacle:<id>``) and the address (``address:<id>``)."""
    suppressed = portfolio.policy.suppressed_when
    numbers = {channel.id: number for number, channel in enumerate(portfolio.channels)}
    preferred = pl.lit(-1, pl.Int16)
    if portfolio.engagement is not None and numbers:
        preferred = pl.col("preferred_channel").replace_strict(numbers, default=-1, return_dtype=pl.Int16)
    return profiles.select(
        "customer_id",
        "best_hour",
        "timezone",
        is_suppressed=(suppressed.expr if suppressed is not None else pl.lit(value=False)).fill_null(value=False),
        preferred=preferred,
        **{f"obstacle:{channel.id}": obstacle(channel) for channel in portfolio.channels},
        **{f"address:{channel.id}": pl.col(channel.to) for channel in portfolio.channels if channel.to is not None},
        **more,
    )


def _homes(rows: pl.DataFrame, of_step: np.ndarray, portfolio: Portfolio) -> Homes:
    """Say where rows live and at which minute of the day they are reached: ``of_step``, or where that is -1 at the best hour."""
    best = (rows["best_hour"].fill_null(DEFAULT_HOUR) * 60).to_numpy()
    return Homes.of(rows["timezone"], pl.Series(np.where(of_step >= 0, of_step, best)), portfolio.timezone)


def _zones(homes: Homes) -> pl.Series:
    return pl.Series(homes.names, dtype=pl.String).gather(homes.zone)


def _zones_from(homes: Homes) -> pl.Series:
    return pl.Series([CALENDAR, CUSTOMER], dtype=pl.String).gather(homes.is_known.astype(np.int32))


def _is_blackout(rows: pl.DataFrame, portfolio: Portfolio, local_on: np.ndarray) -> pl.Series:
    """Return, by row, whether the policy or the row's journey suppresses the local day, which is counted since 1970."""
    policy = portfolio.policy.suppress
    periods = [(journey.id, each) for journey in portfolio.journeys for each in (*policy, *journey.suppress)]
    suppressed = [
        (pl.col("journey_id") == journey) & pl.lit(pl.Series(local_on)).is_between(day_number(each.first), day_number(each.last))
        for journey, each in periods
    ]
    return rows.with_columns(blackout=pl.any_horizontal(pl.lit(value=False), *suppressed))["blackout"]


def _withheld_again(rows: pl.DataFrame, portfolio: Portfolio, moment: np.ndarray, is_blackout: pl.Series) -> pl.Series:
    """Say why a message that is tried again is not sent after all."""
    met = pl.coalesce(
        *(pl.when(pl.col("channel") == channel.id).then(f"obstacle:{channel.id}") for channel in portfolio.channels),
        pl.lit(None, pl.UInt8),
    ).fill_null(OBSTACLES.index(NO_CONSENT) + 1)
    met = pl.when(met > 0).then(met.replace_strict(dict(enumerate(OBSTACLES, start=1)), default=None, return_dtype=pl.String))
    is_over = pl.lit(pl.Series(moment).cast(MOMENT)) >= pl.col("expires_at") if "expires_at" in rows.columns else pl.lit(value=False)
    why = pl.coalesce(
        pl.when(pl.col("is_suppressed")).then(pl.lit(SUPPRESSED)),
        met,
        pl.when(pl.lit(is_blackout)).then(pl.lit(BLACKOUT)),
        pl.when(is_over).then(pl.lit(EXPIRED)),
        "withheld",
    )
    return rows.with_columns(withheld=why)["withheld"]


def _kinds_of_hours(portfolio: Portfolio) -> tuple[Sequence[Hours | None], np.ndarray]:
    """Return the different hours that channels have, the first of which is any hour, and by channel which of them it has."""
    kinds: list[Hours | None] = list(dict.fromkeys([None, *(channel.hours for channel in portfolio.channels)]))
    return kinds, np.array([kinds.index(channel.hours) for channel in portfolio.channels], dtype=np.int64)


def _used(rows: pl.DataFrame, earlier: pl.LazyFrame | None, portfolio: Portfolio, today: date) -> np.ndarray | None:
    """Count, by row and channel, the messages of the days before that its cap counts; None where no channel has a cap."""
    caps = {number: channel for number, channel in enumerate(portfolio.channels) if channel.cap is not None}
    if not caps or earlier is None or rows.is_empty():
        return None
    is_counted = {number: (pl.col("channel") == channel.id) & _within(channel.cap, today) for number, channel in caps.items()}
    counted = pl.coalesce(*(pl.when(test).then(pl.lit(number, pl.Int64)) for number, test in is_counted.items()))
    sent = earlier.filter(pl.col("withheld").is_null()).select("customer_id", number=counted).filter(pl.col("number").is_not_null())
    # One join, and the rest by numbers: to group by the names of customers first takes twice as long.
    met = (
        sent.join(rows.lazy().select("customer_id").with_row_index("row"), on="customer_id", how="inner").select("row", "number").collect()
    )
    width = len(portfolio.channels)
    cells = met["row"].to_numpy().astype(np.int64) * width + met["number"].to_numpy()
    return np.bincount(cells, minlength=rows.height * width).reshape(rows.height, width)


def _within(cap: MessageCap | None, today: date) -> pl.Expr:
    return pl.col("date") > today - timedelta(days=cap.days if cap else 0)


def _sent_before(rows: pl.DataFrame, earlier: pl.LazyFrame | None, steps: Steps, portfolio: Portfolio) -> np.ndarray | None:
    """Return, by row and channel, whether its content went out there in this entry already, by another step; None: of nobody."""
    step, message = ["journey_id", "step_day", "channel", "content"], ["customer_id", "journey_id", "channel", "content"]
    if earlier is None or rows.is_empty():
        return None
    listed = steps.frame().select("step", "journey_id", "content", today="step_day", channel=pl.col("channels").str.split("|"))
    due = listed.filter(pl.col("step").is_in(rows["step"].unique().implode())).explode("channel").drop("step").unique()
    sent = earlier.filter(pl.col("withheld").is_null())
    # In two passes, for as a rule no content is sent twice: a few words of each row are read then, and no customer.
    ways = sent.select(step).unique().collect().join(due, on=["journey_id", "channel", "content"])
    ways = ways.filter(pl.col("step_day") != pl.col("today"))
    if ways.is_empty():
        return None
    last = sent.join(ways.lazy(), on=step, how="inner").group_by(*message, "today").agg(sent_on=pl.col("date").max()).collect()
    here = rows.select("customer_id", "journey_id", "content", "entered_on", today="step_day").with_row_index("row")
    met = here.join(last, on=["customer_id", "journey_id", "content", "today"]).filter(pl.col("sent_on") >= pl.col("entered_on"))
    numbers = {channel.id: number for number, channel in enumerate(portfolio.channels)}
    was_sent = np.zeros((rows.height, len(numbers)), dtype=bool)
    was_sent[met["row"].to_numpy(), met["channel"].replace_strict(numbers, return_dtype=pl.Int64).to_numpy()] = True
    return was_sent


def _ask(render: Render, profiles: pl.LazyFrame, portfolio: Portfolio, today: date, rows: pl.DataFrame) -> pl.DataFrame:
    return render(rows, profiles, portfolio, today=today)


def _by_number(number: np.ndarray, values: Sequence[str | None]) -> pl.Series:
    """Return the value of each number; null of -1."""
    return pl.Series([*values, None], dtype=pl.String).gather(np.where(number < 0, len(values), number))


def _addresses(chosen: np.ndarray, rows: pl.DataFrame, portfolio: Portfolio) -> pl.Series:
    """Return the address of each message that is sent on a channel that has one."""
    number = pl.lit(pl.Series(chosen))
    addresses = [
        pl.when(number == place).then(f"address:{channel.id}") for place, channel in enumerate(portfolio.channels) if channel.to is not None
    ]
    return rows.with_columns(address=pl.coalesce(*addresses, pl.lit(None, pl.String)))["address"]


def _moments(microseconds: np.ndarray) -> pl.Series:
    return pl.Series(microseconds).cast(MOMENT)


def _with_variants(messages: pl.DataFrame, rendered: pl.DataFrame | None) -> pl.DataFrame:
    """Name the variants that content was made of, where it was made here."""
    if rendered is None or "variant" not in rendered.columns:
        return messages
    made = rendered.select("idempotency_key", "customer_id", made="variant")
    joined = messages.join(made, on=["idempotency_key", "customer_id"], how="left", maintain_order="left")
    return joined.with_columns(variant=pl.coalesce("made", "variant")).drop("made")


def _in_order(messages: pl.DataFrame) -> pl.DataFrame:
    """Rank messages within their channel in the order they are handed over in, what is withheld after the others (SPEC 9.6)."""
    collides = pl.col("idempotency_key").is_duplicated() & pl.col("withheld").is_null()
    sent = messages.with_columns(withheld=pl.when(collides).then(pl.lit(KEY_COLLISION)).otherwise("withheld"))
    ordered = sent.sort("idempotency_key", "customer_id")
    channel = ordered["channel"].rank("dense").to_numpy().astype(np.int64)
    is_withheld = ordered["withheld"].is_not_null().to_numpy()
    moment = ordered["send_at"].rank("dense").to_numpy().astype(np.int64)
    is_optional = ~ordered["is_mandatory"].to_numpy()
    group = ((channel * 2 + is_withheld) << 32 | moment) * 2 + is_optional
    score = ordered["score"].fill_null(-np.inf).to_numpy()
    order = np.lexsort((-score, group))  # which keeps the order by key of what is equal
    counts = np.bincount(channel)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1) - (np.cumsum(counts) - counts)[channel[order]]
    return ordered.with_columns(rank=pl.Series(rank)).select(*OUTBOUND_MESSAGES.schema).cast(OUTBOUND_MESSAGES.schema)


def _key(customer: str) -> pl.Expr:
    return sha256(text_of(customer)).str.slice(0, 32)


def _older_key(customer: str) -> pl.Expr:
    return hexadecimal(xxh64(text_of(customer)))
