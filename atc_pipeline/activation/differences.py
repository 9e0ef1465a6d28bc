"""Differences: what a destination must be told, so that it has what it should (SPEC 9.10, 9.11).

The difference is against what it acknowledged, not against yesterday: whatever was not acknowledged is still different on the next run.

What belongs here: comparing, causes, what is held. What does not: who should be a member (``audiences``), telling (``resources.delivery``).
"""

from collections.abc import Collection
from datetime import date

import polars as pl

from atc_pipeline.activation.audiences import checksum, consents_of
from atc_pipeline.activation.identifiers import NOTHING
from atc_pipeline.activation.tables import ADD, CHANGED, CONSENT, ERASED, HELD, LEFT, MEMBER, REMOVE, UPDATE
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules.lots import hexadecimal, xxh64
from atc_pipeline.rules.people import VISITOR, erasure_hash

ANSWER = "answer"
"""What the one answer is called among audiences: no audience of journeys.yaml is."""

MAY_LEAVE, MAY_LEAVE_SHARE = 100, 0.2
"""An audience is held where more than so many would leave it, and more than this share, for no reason of their own."""

KEY = ("audience_id", "destination", "customer_id")

MEMBERSHIP = {
    "audience_id": pl.String(),
    "destination": pl.String(),
    "customer_id": pl.String(),
    "checksum": pl.String(),
    "identifiers": pl.String(),
    "acknowledged_at": pl.Datetime("us", "UTC"),
}
"""What a destination has, as far as it is known; one that never said so (``acknowledged_at`` is null) may have it."""

DIFFERENCE = {
    "date": pl.Date(),
    **dict.fromkeys((*KEY, "operation", "cause", "sent", "identifiers", "fields", "checksum", "status"), pl.String()),
}
"""``sent``: the identifiers to be removed. ``identifiers``, ``fields``, ``checksum``: what is to be there. ``status``: held, or null."""


def wanted_members(members: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """One row per audience, destination and member: what is to be there."""
    to = [(audience.id, destination) for audience in portfolio.audiences for destination in audience.to]
    places = pl.LazyFrame(to, schema={"audience_id": pl.String, "destination": pl.String}, orient="row")
    return members.join(places, on="audience_id", how="inner").select(*KEY, "identifiers", "fields", "checksum")


def wanted_answers(assignments: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """One row per destination and customer in a journey: the answer that is to be there.

    Control customers are as if in none: what is done for them because of it would break the experiment. ``profiles``: with the traits
    that are published. The traits are told with an answer, and are no reason to tell it again.
    """
    if portfolio.publish is None:
        return pl.LazyFrame(schema={name: DIFFERENCE[name] for name in (*KEY, "identifiers", "fields", "checksum")})
    treated = assignments.filter((pl.col("arm") == "treated") & pl.col("journey_id").is_not_null())
    answers = treated.select("customer_id", "journey_id", "entered_on", "ends_on").join(profiles, on="customer_id", how="left")
    fields = pl.struct(
        pl.col("journey_id").alias("journey"),
        pl.col("entered_on").cast(pl.String).alias("journey_entered_on"),
        pl.col("ends_on").cast(pl.String).alias("journey_ends_on"),
        *portfolio.publish.traits,
    ).struct.json_encode()
    places = pl.LazyFrame({"destination": list(portfolio.publish.to)})
    return (
        answers.with_columns(fields=fields, says=pl.format("{} {}", "journey_id", "entered_on"))
        .with_columns(audience_id=pl.lit(ANSWER), identifiers=pl.lit(NOTHING), checksum=checksum(["says"]))
        .join(places, how="cross")
        .select(*KEY, "identifiers", "fields", "checksum")
    )


NO_ANSWER = '{"journey":null,"journey_entered_on":null,"journey_ends_on":null}'
"""What is told of whoever is in no journey any more."""


def differences(
    wanted: pl.LazyFrame,
    known: pl.LazyFrame,
    profiles: pl.LazyFrame,
    absorbed: pl.LazyFrame,
    erased: pl.Series,
    portfolio: Portfolio,
    *,
    today: date,
) -> pl.DataFrame:
    """One row per audience, destination and customer who is not there as they should be, sorted: ``DIFFERENCE``.

    ``known``: what destinations have (``MEMBERSHIP``). ``profiles``: with the consent of the audiences' channels. ``absorbed``:
    ``identity.map.absorbed``. ``erased``: the fingerprints of everybody erased.
    """
    asked = wanted.select(*KEY, "checksum")
    has = known.select(*KEY, pl.col("checksum").alias("was"), "acknowledged_at")
    both = asked.join(has, on=KEY, how="full", coalesce=True)
    is_as_it_should = pl.col("checksum").eq(pl.col("was")).fill_null(value=False) & pl.col("acknowledged_at").is_not_null()
    is_again = pl.col("was").is_null() | pl.col("checksum").eq(pl.col("was"))
    changed = (
        both.filter(~is_as_it_should)
        .with_columns(
            operation=pl.when(pl.col("checksum").is_null()).then(pl.lit(REMOVE)).when(is_again).then(pl.lit(ADD)).otherwise(pl.lit(UPDATE))
        )
        .select(*KEY, "operation")
        .collect()
    )
    gone = changed.filter(pl.col("operation") == REMOVE)
    causes = _causes(gone, wanted, profiles, absorbed, erased, portfolio)
    there = changed.lazy().filter(pl.col("operation") != REMOVE)
    rows = pl.concat(
        [
            there.with_columns(cause=pl.when(pl.col("operation") == ADD).then(pl.lit(MEMBER)).otherwise(pl.lit(CHANGED))),
            causes.lazy().select(*KEY, "operation", "cause"),
        ]
    )
    sent = known.select(*KEY, pl.col("identifiers").alias("sent"))
    return (
        rows.join(sent, on=KEY, how="left")
        .join(wanted.select(*KEY, "identifiers", "fields", "checksum"), on=KEY, how="left")
        .with_columns(pl.lit(today).alias("date"), status=pl.lit(None, pl.String))
        .with_columns(
            fields=pl.when((pl.col("audience_id") == ANSWER) & (pl.col("operation") == REMOVE)).then(pl.lit(NO_ANSWER)).otherwise("fields")
        )
        .select(*DIFFERENCE)
        .cast(pl.Schema(DIFFERENCE))
        .sort(KEY)
        .collect()
    )


def keep_shared(rows: pl.DataFrame, wanted: pl.LazyFrame) -> pl.DataFrame:
    """Take out of what is removed whatever somebody else who is to be there is known by, too: a family's address stays.

    ``rows``: ``differences``.
    """
    is_told = pl.col("sent").is_not_null() & (pl.col("audience_id") != ANSWER)
    place = ["audience_id", "destination", "part"]
    leaving = rows.filter(is_told).select(*KEY, part=_parts("sent")).explode("part").filter(pl.col("part") != "")
    if leaving.is_empty():
        return rows
    staying = wanted.select("audience_id", "destination", by="customer_id", part=_parts("identifiers")).explode("part")
    shared = leaving.lazy().join(staying, on=place, how="inner").filter(pl.col("by") != pl.col("customer_id")).select(*KEY, "part").unique()
    kept = leaving.lazy().join(shared, on=[*KEY, "part"], how="anti").group_by(KEY).agg("part").collect()
    text = pl.concat_str(pl.lit("{"), pl.col("part").list.join(","), pl.lit("}"))
    return (
        rows.join(kept.select(*KEY, left=text), on=KEY, how="left", maintain_order="left")
        .with_columns(sent=pl.when(is_told).then(pl.coalesce("left", pl.lit(NOTHING))).otherwise("sent"))
        .drop("left")
    )


def _parts(column: str) -> pl.Expr:
    """Take the text of identifiers apart: neither a name nor a hash has a comma in it."""
    return pl.col(column).str.strip_chars("{}").str.split(",")


def hold(rows: pl.DataFrame, known: pl.LazyFrame, accepted: Collection[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Hold whoever would leave an audience for no reason of their own, where it would lose too many; and say of each which it would.

    The second has a row per audience and destination that is held: ``audience_id, destination, has, would_leave``. ``accepted``: audiences
    that may shrink all the same.
    """
    place = ["audience_id", "destination"]
    leaving = rows.lazy().filter((pl.col("operation") == REMOVE) & (pl.col("cause") == LEFT)).group_by(place).agg(would_leave=pl.len())
    has = known.group_by(place).agg(has=pl.len())
    shrinking = (
        leaving.join(has, on=place, how="left")
        .filter(
            pl.col("would_leave") > MAY_LEAVE,
            pl.col("would_leave") > MAY_LEAVE_SHARE * pl.col("has"),
            ~pl.col("audience_id").is_in(sorted(accepted)),
        )
        .select(*place, "has", "would_leave")
        .sort(place)
        .collect()
    )
    held = shrinking.select(*place, is_held=pl.lit(value=True))
    is_held = pl.col("is_held").fill_null(value=False) & (pl.col("operation") == REMOVE) & (pl.col("cause") == LEFT)
    marked = rows.join(held, on=place, how="left", maintain_order="left")
    return marked.with_columns(status=pl.when(is_held).then(pl.lit(HELD)).otherwise("status")).drop("is_held"), shrinking


def message_id(destination: str, customer: str, day: str) -> pl.Expr:
    """Name what is told of a customer's answer on a day, from columns of these names."""
    return hexadecimal(xxh64(pl.concat_str(pl.lit(ANSWER), destination, customer, pl.col(day).cast(pl.String), separator=":")))


def _causes(
    gone: pl.DataFrame, wanted: pl.LazyFrame, profiles: pl.LazyFrame, absorbed: pl.LazyFrame, erased: pl.Series, portfolio: Portfolio
) -> pl.DataFrame:
    """Say why each is no member any more, and leave out those who may stay in an audience that keeps them."""
    if gone.is_empty():
        return gone.with_columns(cause=pl.lit(None, pl.String))
    known_as = absorbed.select(pl.col("absorbed").alias("customer_id"), survivor="customer_id").unique("customer_id")
    people = gone.lazy().join(known_as, on="customer_id", how="left").with_columns(now=pl.coalesce("survivor", "customer_id"))
    consents = [
        profiles.select(now="customer_id", audience_id=pl.lit(audience), may=consent) for audience, consent in consents_of(portfolio)
    ]
    nobody = pl.LazyFrame(schema={"now": pl.String, "audience_id": pl.String, "may": pl.Boolean})
    there = wanted.select("audience_id", "destination", now="customer_id", is_there=pl.lit(value=True))
    is_visitor = pl.col("customer_id").str.starts_with(VISITOR)
    visitor = people.with_columns(id=pl.col("customer_id").str.strip_prefix(VISITOR))
    fingerprint = pl.when(is_visitor).then(erasure_hash("anonymous", "id")).otherwise(erasure_hash("user", "id"))
    keeping = [
        (audience.id, destination, True) for audience in portfolio.audiences if audience.leave == "keep" for destination in audience.to
    ]
    kept = pl.LazyFrame(keeping, schema={"audience_id": pl.String, "destination": pl.String, "is_kept": pl.Boolean}, orient="row")
    cause = (
        pl.when(pl.col("fingerprint").is_in(erased.implode()))
        .then(pl.lit(ERASED))
        .when(~pl.col("may").fill_null(value=True))
        .then(pl.lit(CONSENT))
        .when(pl.col("survivor").is_not_null() & pl.col("is_there").fill_null(value=False))
        .then(pl.lit(CHANGED))
        .otherwise(pl.lit(LEFT))
    )
    return (
        visitor.with_columns(fingerprint=fingerprint)
        .join(pl.concat([nobody, *consents]), on=["audience_id", "now"], how="left")
        .join(there, on=["audience_id", "destination", "now"], how="left")
        .join(kept, on=["audience_id", "destination"], how="left")
        .with_columns(cause=cause)
        .filter(~((pl.col("cause") == LEFT) & pl.col("is_kept").fill_null(value=False)))
        .select(*KEY, "operation", "cause")
        .collect()
    )
