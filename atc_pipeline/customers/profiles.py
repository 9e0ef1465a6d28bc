"""Customer profiles: one row per customer per day, the system of record (SPEC 3).

Yesterday's state absorbs what is new today; windows give up the day that leaves them. History is never reread, but for
windows over extremes and words (``min``, ``max``, ``first``, ``last``, ``days_since_*`` with ``within_days``).

What belongs here: traits, interests, intents, engagement, consent, habits. What does not: reading events, segments,
predictions (``purchases``).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl

from atc_pipeline.customers import addresses, consent, hours, remembered
from atc_pipeline.customers.accumulators import LOW_BITS, Accumulator, unsafe_sums
from atc_pipeline.customers.features import feature_columns, only
from atc_pipeline.customers.merging import merged, places_of, spread, tally
from atc_pipeline.customers.traits import days_since, value_of
from atc_pipeline.journeys.columns import ProfileColumn, built_in_columns, profile_schema
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules.numbers import quotient
from atc_pipeline.rules.people import survivors

LATENESS_DAYS = 2
"""An event may be dated up to so many days after its arrival day (24 h after its end; two dates where a day has 23 h)."""

STATE = "state"
"""The struct column of a profile that tomorrow's profile is computed from."""

_SEEN = {"customer_id": pl.String(), "first_seen_on": pl.Date(), "last_seen_on": pl.Date()}


def built_in(portfolio: Portfolio) -> Mapping[str, ProfileColumn]:
    """Return the columns that are built in, by name."""
    return built_in_columns(
        channels=[channel.id for channel in portfolio.channels],
        addresses=portfolio.addressed,
        topics=[topic.id for topic in portfolio.topics],
        intents=[intent.id for intent in portfolio.intents],
    )


def table_schema(portfolio: Portfolio) -> dict[str, pl.DataType]:
    """Columns and types of ``customer_profiles``, without the state."""
    return profile_schema(
        channels=tuple(channel.id for channel in portfolio.channels),
        addresses=portfolio.addressed,
        topics=tuple(topic.id for topic in portfolio.topics),
        intents=tuple(intent.id for intent in portfolio.intents),
        traits={trait.id: trait.dtype for trait in portfolio.traits},
    )


def state_schema(portfolio: Portfolio) -> dict[str, pl.DataType]:
    """Fields and types of the ``state`` struct."""
    columns = {name: dtype for accumulator in remembered.carried(portfolio) for name, dtype in accumulator.state_columns().items()}
    settled = (remembered.SETTLED, remembered.SETTLED_VALUED) if portfolio.predictions else ()
    since = {accumulator.name: accumulator.dtype for accumulator in addresses.changes(portfolio).values()}
    return {**columns, **since, **dict.fromkeys(settled, pl.Int64()), remembered.HOURS: hours.COUNTS}


def lookback_days(portfolio: Portfolio) -> int:
    """How many arrival days before D the profile of D reads rollups of."""
    windows = [accumulator.within_days for accumulator in remembered.of_profiles(portfolio) if accumulator.within_days is not None]
    return max([remembered.HOURS_WITHIN_DAYS, *windows]) + LATENESS_DAYS


def rollup_columns(portfolio: Portfolio) -> list[str]:
    """Name the columns of the rollup that profiles are made from: all but the counts of goal events."""
    goals = {accumulator.name for accumulator in remembered.goals(portfolio)}
    return [name for name in remembered.rollup_schema(portfolio) if name not in goals]


def update_profiles(
    yesterday: pl.LazyFrame | None,
    activity: pl.LazyFrame,
    portfolio: Portfolio,
    *,
    today: date,
    absorbed: pl.LazyFrame | None = None,
) -> pl.LazyFrame:
    """One row per customer who has arrived by ``today``, with all but the columns that need the whole population.

    ``yesterday``: this function's result of the day before (None on the first day of the lake), ``state`` included.
    ``activity``: rollups that arrived in ``lookback_days`` before today and today. ``absorbed``: who was merged into whom, at
    least since the first of those days, with ``valid_from``. Cost: customers + what is new + what leaves a window.
    """
    carried = remembered.carried(portfolio)
    merges = None if absorbed is None else absorbed.collect()
    absorbed = None if merges is None or merges.is_empty() else merges.lazy()
    is_seen = (pl.col("date") == today) & (pl.col("events") > 0)
    made, seen = pl.collect_all(
        [_state(yesterday, portfolio, absorbed, today), survivors(activity.filter(is_seen).select("customer_id"), absorbed).unique()]
    )
    people = (
        made.lazy()
        .select("customer_id")
        .with_row_index("place")
        .join(seen.lazy().with_columns(seen=pl.lit(today)), on="customer_id", how="full", coalesce=True)
        .sort("customer_id")
        .with_row_index("row")
        .collect()
    )
    # In one piece: to gather of many takes thrice as long.
    made = made.rechunk().select(pl.exclude("customer_id").gather(people["place"]), *people)

    def known(rows: pl.LazyFrame) -> pl.DataFrame:
        # From here on a customer is a number, and a place: names take thrice as long, and who moved is looked for a dozen times.
        frame = survivors(rows, absorbed).collect().rechunk()
        numbers = frame.lazy().select("customer_id").join(people.lazy(), on="customer_id", how="left", maintain_order="left")
        numbered = frame.drop("customer_id").with_columns(numbers.select("row").collect().to_series())
        return numbered.filter(pl.col("row").is_not_null()) if numbered["row"].null_count() else numbered

    # What moves today is needed several times: it is one day's rollup, and a few columns of a day's rollup for each window.
    channels = [accumulator.name for accumulator in carried if accumulator.merge == "consent"]
    coming = _faded(known(_coming(activity, carried, today)).lazy(), carried, today).collect()
    leaving = known(_leaving(activity, carried, today))
    ahead = known(_withdrawn_ahead(activity, channels, today))
    moved = [coming, leaving]
    plain = [accumulator for accumulator in carried if accumulator.merge not in ("tally", "consent")]
    news_of_addresses = list(addresses.said(portfolio).values())
    news = merged(moved, "row", people.height, [*plain, *news_of_addresses])
    made = (
        made.lazy()
        .with_columns(column.alias(f"{column.name}+") for column in news)
        .with_columns(
            *(expression for accumulator in plain for expression in accumulator.absorb("+")),
            zone_before="timezone.value",
            first_seen_on=pl.coalesce("first_seen_on", "seen"),
            last_seen_on=pl.coalesce("seen", "last_seen_on"),
        )
        .drop(f"{column.name}+" for column in news)
        .with_columns(news[accumulator.name] for accumulator in news_of_addresses)
        .collect()
    )
    # On most days there is nothing new of most of these, which is cheaper to see than to work out.
    tallies = [accumulator.name for accumulator in carried if accumulator.merge == "tally"]
    changes = [*_changed_tallies(made, moved, tallies), *_changed_consent(made, [coming, ahead], channels)]
    if portfolio.predictions is not None:
        changes += _settled(made, coming, leaving, today)
    made = _with_changes(made, changes)
    rereads = remembered.reread(portfolio)
    if rereads:
        made = made.hstack(merged([known(_reread(activity, rereads, today))], "row", people.height, rereads))
    unsafe = unsafe_sums(made)
    if unsafe:
        raise OverflowError(
            f"{today}: a customer's {', '.join(unsafe)} is near the end of 64 bits: widen accumulators.LOW_BITS' two columns"
        )
    counts = hours.count(
        made.select("row", "zone_before", "is_merged", remembered.HOURS, zone="timezone.value"),
        moved=spread(moved, "row", remembered.HOURS),
        within=lambda: known(_within_hours(activity, today)),
        timezone=portfolio.timezone,
    )
    made = made.with_columns(counts.alias(remembered.HOURS), hours.best(counts).alias("best_hour"))
    several = addresses.of_merged(yesterday, portfolio, absorbed, today).collect()
    made = made.with_columns(*addresses.changed(made, several, _values(portfolio, today), portfolio, today))
    return _columns(made.lazy(), portfolio, today)


def update_again(
    profiles: pl.LazyFrame,
    yesterday: pl.LazyFrame | None,
    activity: pl.LazyFrame,
    portfolio: Portfolio,
    features: Sequence[str],
    *,
    today: date,
    absorbed: pl.LazyFrame | None = None,
) -> pl.LazyFrame:
    """Make only these features of a day's ``profiles`` again (``features.definitions``), and keep its other columns.

    ``yesterday``: the profiles of the day before, where these features were made again already.
    """
    narrowed = only(portfolio, features)
    made = update_profiles(yesterday, activity, narrowed, today=today, absorbed=absorbed).collect()
    part = ranked(made, rank_values([count_values(made, narrowed)]), narrowed).lazy()
    # What is not defined any more is null, as on a day that is made whole; predictions are made later in the day, all of them.
    sections = {"channels", "addresses", "interests", "intents"}
    sections |= {"engagement"} if narrowed.engagement or not portfolio.engagement else set()
    sections |= {"predictions"} if not portfolio.predictions else set()
    names = {trait.id for trait in narrowed.traits}
    names |= {name for name, column in built_in(narrowed).items() if column.section in sections}
    names |= built_in(narrowed).keys() - set(profiles.collect_schema())  # built in since the day was made
    fields = {*feature_columns(narrowed), remembered.SETTLED, remembered.SETTLED_VALUED} & set(state_schema(narrowed))
    new = part.select("customer_id", *names, state_again=pl.col(STATE))
    state = [pl.col("state_again" if name in fields else STATE).struct.field(name) for name in state_schema(portfolio)]
    return (
        profiles.drop(*names, strict=False)
        .join(new, on="customer_id", how="left", maintain_order="left")
        .select(*table_schema(portfolio), pl.struct(state).alias(STATE))
        .sort("customer_id")  # what there was may lie by shard
    )


def purchases(profiles: pl.LazyFrame) -> pl.LazyFrame:
    """One row per customer: number, first and last of the days with an order; on how many something was bought, for how much."""
    state = pl.col(STATE).struct

    def days(recent: str, settled: str) -> pl.Expr:
        return state.field(settled).fill_null(0) + state.field(recent).list.len().fill_null(0)

    high, low = (state.field(f"predictions.value.{part}").cast(pl.Float64) for part in ("high", "low"))
    return profiles.select(
        "customer_id",
        orders=days(remembered.PURCHASE_DAYS, remembered.SETTLED),
        first_order_on=state.field("predictions.first_on"),
        last_order_on=state.field("predictions.last_on"),
        valued_orders=days(remembered.VALUED_DAYS, remembered.SETTLED_VALUED),
        order_value_total=high * float(2**LOW_BITS) + low,
    )


def count_values(profiles: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame:
    """One row per column ``of`` the profiles that is ranked, and ``value``: how many have it, ``n``."""
    counts = [pl.DataFrame(schema=_VALUES)]
    for of in dict.fromkeys(_ranked_by(portfolio).values()):
        runs = (profiles[of].drop_nulls().cast(pl.Float64) + 0.0).sort().rle().struct.unnest()
        counts.append(runs.select(pl.lit(of).alias("of"), "value", n=pl.col("len").cast(pl.Int64)))
    return pl.concat(counts)


def rank_values(counts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per column ``of`` profiles and ``value``, sorted: the ``percentile`` of who has it, in the whole population (SPEC 3).

    Customers with a value <= mine / customers with a value. The one step of a profile that needs all customers at once; ``counts``:
    those of all shards.
    """
    together = counts[0] if len(counts) == 1 else pl.concat(counts).group_by("of", "value").agg(pl.col("n").sum()).sort("of", "value")
    return together.select(
        "of", "value", percentile=quotient(pl.col("n").cum_sum().over("of"), pl.col("n").sum().over("of")).cast(pl.Float64)
    )


def ranked(profiles: pl.DataFrame, percentiles: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame:
    """Fill in the percentiles, of ``rank_values``."""
    columns = []
    for trait, of in _ranked_by(portfolio).items():
        known = percentiles.filter(pl.col("of") == of)
        mine = profiles[of].cast(pl.Float64)
        place = pl.Series(np.searchsorted(known["value"].to_numpy(), mine.fill_null(math.nan).to_numpy()), dtype=pl.UInt32)
        columns.append(known["percentile"].gather(pl.select(pl.when(mine.is_not_null()).then(place)).to_series()).alias(trait))
    return profiles.with_columns(columns)


_VALUES = {"of": pl.String(), "value": pl.Float64(), "n": pl.Int64()}


def _ranked_by(portfolio: Portfolio) -> dict[str, str]:
    """Return what each percentile ranks."""
    return {trait.id: trait.property for trait in portfolio.traits if trait.kind == "percentile" and trait.property is not None}


def _coming(activity: pl.LazyFrame, carried: Sequence[Accumulator], today: date) -> pl.LazyFrame:
    """One row per rollup that counts from today on: arrived today, or arrived before and dated today."""
    is_due = ((pl.col("date") == today) & (pl.col("event_date") <= today)) | ((pl.col("date") < today) & (pl.col("event_date") == today))
    return activity.filter(is_due).with_columns(
        pl.when(pl.col("event_date") > today - timedelta(days=days)).then(name).alias(name) for name, days in _sliding(carried).items()
    )


def _faded(coming: pl.LazyFrame, carried: Sequence[Accumulator], today: date) -> pl.LazyFrame:
    """Weigh what fades by its age: today, or on the last day of it that comes for the customer, which is set."""
    fading = [accumulator for accumulator in carried if accumulator.merge == "decay"]
    together = {
        accumulator.on: [mate.name for mate in fading if mate.on == accumulator.on] for accumulator in fading if accumulator.on is not None
    }
    last = {on: pl.when(pl.max_horizontal(names) > 0).then("event_date").max().over("row").alias(on) for on, names in together.items()}
    as_of = {accumulator.name: pl.lit(today) if accumulator.on is None else pl.col(accumulator.on) for accumulator in fading}
    return coming.with_columns(last.values()).with_columns(
        # What is younger than the last of its kind adds nothing to it.
        accumulator.decayed((as_of[accumulator.name] - pl.col("event_date")).dt.total_days().fill_null(0).clip(lower_bound=0))
        for accumulator in fading
    )


def _withdrawn_ahead(activity: pl.LazyFrame, channels: Sequence[str], today: date) -> pl.LazyFrame:
    """One row per rollup that arrived today and is not of today yet, with nothing but what was withdrawn: that counts at once."""
    ahead = (pl.col("date") == today) & (pl.col("event_date") > today)
    remembered_columns = [name for channel in channels for name in consent.columns(channel)]
    nothing = [pl.lit(None, dtype=consent.GRANTS).alias(f"{channel}.granted") for channel in channels]
    return activity.filter(ahead).select("customer_id", *remembered_columns).with_columns(nothing)


def _changed_consent(state: pl.DataFrame, news: Sequence[pl.DataFrame], channels: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Per channel that something was said about: one row per customer who did, with what is remembered of it."""
    for channel in channels:
        columns = ["row", *consent.columns(channel)]
        new = pl.concat([rows.select(columns).filter(consent.is_said(channel)) for rows in news])
        if new.height:
            before = state.select(columns)[new["row"].unique()]
            yield consent.merged(pl.concat([before, new]).lazy(), ["row"], channel).collect()


def _leaving(activity: pl.LazyFrame, carried: Sequence[Accumulator], today: date) -> pl.LazyFrame:
    """One row per rollup that leaves a window today, its numbers negative: every one of them came in before."""
    sliding = _sliding(carried)
    tallies = [remembered.HOURS, *(accumulator.name for accumulator in carried if accumulator.merge == "tally")]
    dates = [today - timedelta(days=days) for days in sorted(set(sliding.values()))]
    return (
        activity.filter((pl.col("date") < today) & pl.col("event_date").is_in(dates))
        .select("customer_id", "event_date", *sliding)
        .with_columns(
            _negative(pl.when(pl.col("event_date") == today - timedelta(days=days)).then(name), is_tally=name in tallies).alias(name)
            for name, days in sliding.items()
        )
    )


def _sliding(carried: Sequence[Accumulator]) -> dict[str, int]:
    """Return the days of each window that is kept up by addition and subtraction."""
    return {accumulator.name: accumulator.within_days for accumulator in carried if accumulator.within_days is not None} | {
        remembered.HOURS: remembered.HOURS_WITHIN_DAYS
    }


def _negative(value: pl.Expr, *, is_tally: bool) -> pl.Expr:
    if not is_tally:
        return -value
    entry = pl.element().struct
    return value.list.eval(pl.struct(entry.field("value"), -entry.field("n")))


def _state(yesterday: pl.LazyFrame | None, portfolio: Portfolio, absorbed: pl.LazyFrame | None, today: date) -> pl.LazyFrame:
    """One row per customer of yesterday as far as they are somebody today: who became one is one row (``is_merged``)."""
    fields = state_schema(portfolio)
    columns = {addresses.before(column): column for column in addresses.changes(portfolio)}
    if yesterday is None:
        return pl.LazyFrame(schema={**_SEEN, **fields, **dict.fromkeys(columns, pl.String()), "is_merged": pl.Boolean()})
    state = yesterday.select(
        *_SEEN,
        pl.col(STATE).struct.field(list(fields)),
        *(pl.col(column).alias(name) for name, column in columns.items()),
        is_merged=pl.lit(value=False),
    )
    new = None if absorbed is None else absorbed.filter(pl.col("valid_from") == today)
    if new is None or new.limit(1).collect().is_empty():
        return state
    involved = pl.concat([new.select("customer_id"), new.select(customer_id="absorbed")]).unique()
    carried = remembered.carried(portfolio)
    people = (
        survivors(state.join(involved, on="customer_id", how="semi").sort("customer_id"), new)
        .with_columns(
            pl.col(accumulator.name)
            * accumulator.left((pl.col(accumulator.on).max().over("customer_id") - pl.col(accumulator.on)).dt.total_days())
            for accumulator in carried
            if accumulator.on is not None
        )
        .sort("customer_id", maintain_order=True)
        .with_columns(number=pl.col("customer_id").rle_id())
        .collect()
    )
    names = people.select("customer_id").unique(maintain_order=True)
    state_of = merged([people], "number", names.height, [accumulator for accumulator in carried if accumulator.merge != "decay"])
    together = (
        names.hstack(state_of)
        .lazy()
        .join(
            people.lazy()
            .group_by("customer_id")
            .agg(
                pl.col("first_seen_on").min(),
                pl.col("last_seen_on").max(),
                *(pl.col(name).sum() for name in fields if name in (remembered.SETTLED, remembered.SETTLED_VALUED)),
                *(pl.col(name).first() for name in (*columns, *addresses.since(portfolio))),  # of several: ``addresses.of_merged``
                # By size, because how Polars groups and rounds a sum of real numbers depends on its number of threads; it drops a sort
                # before a plain sum.
                *(pl.col(accumulator.name).sort().cum_sum().last() for accumulator in carried if accumulator.merge == "decay"),
                is_merged=pl.len() > 1,
            ),
            on="customer_id",
        )
        .join(people.lazy().select("customer_id", remembered.HOURS).unique("customer_id", keep="first"), on="customer_id")
    )
    apart = state.join(involved, on="customer_id", how="anti")
    return pl.concat([apart, together.select(*_SEEN, *(pl.col(name).cast(dtype) for name, dtype in fields.items()), *columns, "is_merged")])


def _changed_tallies(state: pl.DataFrame, moved: Sequence[pl.DataFrame], names: Sequence[str]) -> Iterator[pl.DataFrame]:
    """One row per customer to whom something came or whom something left, with the tally as it is now (null: nothing is left)."""
    for name in names:
        news = spread(moved, "row", name)
        if news.height:
            changed = news["row"].unique()
            before = spread([state.select("row", name)[changed]], "row", name)
            tallied = tally(pl.concat([rows for rows in (before, news) if rows.height]), "row", name)
            yield pl.DataFrame([changed, tallied[name].gather(places_of(tallied["row"], state.height).gather(changed))])


def _settled(state: pl.DataFrame, coming: pl.DataFrame, leaving: pl.DataFrame, today: date) -> Iterator[pl.DataFrame]:
    """Count the days with an order, and with one of value, that leave the window or arrive when it is too late to tell them apart."""
    oldest = today - timedelta(days=remembered.PURCHASES_WITHIN_DAYS)
    is_sold = pl.any_horizontal(pl.col("predictions.value.high", "predictions.value.low") != 0)
    kinds = (
        (remembered.PURCHASE_DAYS, remembered.SETTLED, pl.col("predictions.last_on").is_not_null()),
        (remembered.VALUED_DAYS, remembered.SETTLED_VALUED, is_sold),
    )
    for recent, settled, is_there in kinds:
        late = coming.filter((pl.col("event_date") <= oldest) & is_there)  # which is not in the window's column any more
        gone = leaving.filter(pl.col(recent).is_not_null())
        if late.is_empty() and gone.is_empty():
            continue
        days = pl.concat([frame.lazy().select("row", "event_date") for frame in (late, gone)]).unique()
        counted = days.group_by("row").agg(pl.len().cast(pl.Int64).alias("more"))
        before = state.lazy().select("row", settled).join(counted, on="row")
        yield before.select("row", pl.col(settled).fill_null(0) + pl.col("more")).collect()


def _with_changes(state: pl.DataFrame, changes: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put what changed for a customer in the place of what was."""
    columns = []
    for changed in changes:
        rows = places_of(changed["row"], state.height)
        is_changed = rows.is_not_null()
        columns += [
            pl.when(is_changed).then(changed[name].gather(rows)).otherwise(name).alias(name) for name in changed.columns if name != "row"
        ]
    return state.with_columns(columns)


def _within_hours(activity: pl.LazyFrame, today: date) -> pl.LazyFrame:
    first = today - timedelta(days=remembered.HOURS_WITHIN_DAYS)
    return activity.filter(pl.col("event_date").is_between(first, today, closed="right")).select("customer_id", remembered.HOURS)


def _reread(activity: pl.LazyFrame, accumulators: Sequence[Accumulator], today: date) -> pl.LazyFrame:
    """One row per rollup within the longest of these windows, with what is within each."""
    first = {accumulator: today - timedelta(days=accumulator.within_days or 0) for accumulator in accumulators}
    return activity.filter(pl.col("event_date").is_between(min(first.values()), today, closed="right")).select(
        "customer_id",
        *(
            pl.when(pl.col("event_date") > since).then(name).alias(name)
            for accumulator, since in first.items()
            for name in accumulator.columns()
        ),
    )


def _columns(state: pl.LazyFrame, portfolio: Portfolio, today: date) -> pl.LazyFrame:
    """Turn accumulators into the columns of the table."""
    values = {"date": pl.lit(today), **_values(portfolio, today)}
    fields = state_schema(portfolio)
    return state.select(
        *(values[name].cast(dtype).alias(name) for name, dtype in table_schema(portfolio).items()),
        (pl.struct(pl.col(name).cast(dtype) for name, dtype in fields.items()) if fields else pl.lit(None)).alias(STATE),
    )


def _values(portfolio: Portfolio, today: date) -> dict[str, pl.Expr]:
    traits = {trait.id: value_of(trait, today) for trait in portfolio.traits}
    return {"customer_id": pl.col("customer_id"), **built_in_values(portfolio, today), **traits}


def built_in_values(portfolio: Portfolio, today: date) -> dict[str, pl.Expr]:
    """Return the value of each built-in column, from what is remembered."""
    topics = [f"interest_{topic.id}" for topic in portfolio.topics]
    total = pl.sum_horizontal(topics) if topics else pl.lit(0.0)
    return {
        "first_seen_on": pl.col("first_seen_on"),
        "last_seen_on": pl.col("last_seen_on"),
        "tenure_days": days_since("first_seen_on", today),
        "timezone": pl.col("timezone.value"),
        **{f"consent_{channel.id}": consent.is_given(f"consent_{channel.id}") for channel in portfolio.channels},
        **{f"bounced_{channel}": addresses.has_bounced(channel, column) for channel, column in addresses.addressed(portfolio).items()},
        **{topic: pl.when(total > 0).then(pl.col(topic) / total).otherwise(0.0) for topic in topics},
        **{
            f"intent_{intent.id}": pl.min_horizontal(1.0, quotient(pl.col(f"intent_{intent.id}"), intent.full_at))
            for intent in portfolio.intents
        },
        "engagement": _engagement(portfolio),
        "preferred_channel": _preferred_channel(portfolio),
        "best_hour": pl.col("best_hour"),
        # Of these the value is set later in the day, by a model (purchases.PREDICTED).
        **{name: pl.lit(None) for name, column in built_in(portfolio).items() if column.section == "predictions"},
    }


def _engagement(portfolio: Portfolio) -> pl.Expr:
    if not remembered.engagement(portfolio):
        return pl.lit(None, dtype=pl.Float64)
    touches, responses = remembered.engagement(portfolio)
    # Each is as of its own day: the older the responses are than the touches, the less is left of them.
    older = (pl.col(str(touches.on)) - pl.col(str(responses.on))).dt.total_days()
    ratio = pl.col(responses.name) / pl.col(touches.name) * responses.left(older)
    return pl.when(pl.col(touches.name) > 0).then(pl.min_horizontal(1.0, ratio.fill_null(0.0)))


def _preferred_channel(portfolio: Portfolio) -> pl.Expr:
    # Sums of halves are not exact: equal ones may differ in their last digits. They are as of the customer's last response.
    channels = {channel: pl.col(accumulator.name).round(9) for channel, accumulator in remembered.responses_by_channel(portfolio).items()}
    most = pl.max_horizontal(*channels.values()) if channels else pl.lit(0.0)
    return pl.coalesce(
        *(pl.when((responses == most) & (most > 0)).then(pl.lit(channel)) for channel, responses in channels.items()),
        pl.lit(None, dtype=pl.String),
    )
