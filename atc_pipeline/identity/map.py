"""Who is who: every id that ever arrived and the customer it is today, carried from day to day (SPEC 2).

An id has a *name*: a user's is its ``userId``, a visitor's is ``anon:<anonymousId>``. Names are customers until they are absorbed:
a user by an alias, a visitor by the user it turns out to be. So one table of names absorbed today rewrites the whole map, and
the same kind of table moves everything that later stages remember under an older name (``rules.people.survivors``).

What belongs here: which names become which. What does not: what becomes of their profiles, segments, queues and journeys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from atc_pipeline.identity.tables import ANONYMOUS, CLAIMED, IDENTITY_CHANGES, IDENTITY_MAP, MERGED, USER
from atc_pipeline.rules.ours import is_ours
from atc_pipeline.rules.people import VISITOR, is_identity, name_of_id, name_of_visitor, survivors
from atc_pipeline.tables.table import MOMENT

_ID = ("id_type", "id")
_KNOWN = {name: dtype for name, dtype in IDENTITY_MAP.schema.items() if name != "date"}


@dataclass(frozen=True, eq=False)
class Identities:
    """A day's map of all ids, made while it is written, and what changed in it: who was absorbed, which aliases were ignored."""

    map: pl.LazyFrame
    changes: pl.DataFrame


def map_identities(events: pl.LazyFrame, yesterday: pl.LazyFrame | None, *, today: date, blocked: Sequence[str] = ()) -> Identities:
    """Map every id known by today to its customer: one row per id, sorted by ``id_type`` and ``id``.

    ``events``: ``raw_events`` of today, in any order. ``yesterday``: the map of the day before (None on the first day of the
    lake). Both are streamed: what is held in memory are the ids of one day. Yesterday's map is read once for those ids,
    and once to be rewritten. ``blocked``: ids that name nobody, beside those of SPEC 2. What is ours makes nobody a customer.
    """
    calls = events.filter(~is_ours()).select(
        "message_id", "timestamp", "type", "previous_id", user=_user("user_id", blocked), visitor=_visitor("anonymous_id", blocked)
    )
    before = None if yesterday is None else complete(yesterday).select(*_KNOWN)
    seen, aliases, owners = pl.collect_all([_ids(calls), _aliases(calls, blocked), _owners(calls)], engine="streaming")
    named = aliases.select(id_type=pl.lit(ANONYMOUS), id="visitor", seen_at="timestamp").drop_nulls("id")
    seen = pl.concat([seen, named]).group_by(*_ID).agg(pl.col("seen_at").min()) if named.height else seen
    asked = [aliases.select(id_type=pl.lit(kind), id="previous").drop_nulls("id") for kind in (ANONYMOUS, USER)]
    known, unseen = _look_up(pl.concat([seen.select(*_ID), *asked]), before)
    following, claiming = _tell_apart(aliases, seen, known)
    merges, ruled = _follow(following, known)
    awaited = _find_awaited(unseen, seen, known)
    claims = _claim(_keep_first(owners, claiming), awaited, known)
    new = _list_new(seen, merges, known, today)
    first_known = _find_first_known(calls, claims, new, known)
    arms_of = [frame.select("customer_id", "arm_id") for frame in (first_known, known, awaited, new)]  # the first row counts
    moved = _list_moved(claims, merges, arms_of)
    new = new.update(first_known, on="customer_id") if first_known.height else new
    revealed = known.filter(~pl.col("is_seen")).join(seen, on=_ID, how="semi")["id"]
    changes = pl.concat([ruled, _report_claims(claims, claiming, moved, known)])
    return Identities(
        map=_rewrite_map(new.lazy() if before is None else _merge_in_order(before, new.lazy()), moved, revealed, today),
        changes=changes.with_columns(pl.lit(today).alias("date")).select(*IDENTITY_CHANGES.schema).sort("message_id", "id_type", "id"),
    )


def absorbed(identity_map: pl.LazyFrame, *, since: date | None = None) -> pl.LazyFrame:
    """One row per name that is another customer's today: ``absorbed``, the ``customer_id`` it is now, and ``valid_from``.

    ``since``: only those who changed on that day or later, which is all that tables of the day before it need.
    """
    changed = identity_map if since is None else identity_map.filter(pl.col("valid_from") >= since)
    return changed.select(name_of_id().alias("absorbed"), "customer_id", "valid_from").filter(pl.col("absorbed") != pl.col("customer_id"))


def absorbed_by(changes: pl.LazyFrame) -> pl.LazyFrame:
    """One row per day and customer of the day before who was absorbed: ``date``, ``absorbed``, ``customer_id``."""
    return changes.filter(pl.col("change").is_in([MERGED, CLAIMED])).select("date", name_of_id().alias("absorbed"), "customer_id")


def arms(identity_map: pl.LazyFrame) -> pl.LazyFrame:
    """One row per customer who was first known under another name: ``customer_id``, ``arm_id``."""
    of_others = complete(identity_map).filter(pl.col("arm_id") != pl.col("customer_id"))
    return of_others.select("customer_id", "arm_id").unique("customer_id")


def complete(identity_map: pl.LazyFrame) -> pl.LazyFrame:
    """Add what maps made before there were arms lack: whoever is in one was drawn by the name they had then."""
    there = identity_map.collect_schema().names()
    lacking = {"arm_id": pl.col("customer_id"), "is_seen": pl.lit(value=True), "seen_at": pl.lit(None, MOMENT)}
    return identity_map.with_columns(**{name: value for name, value in lacking.items() if name not in there})


def _moment() -> pl.Expr:
    return pl.struct("timestamp", "message_id")


def _user(column: str, blocked: Sequence[str]) -> pl.Expr:
    """The user a field names, else null. A visitor's name may come back as a ``userId`` from where we sent it: that is no user."""
    return pl.when(is_identity(column, blocked) & ~pl.col(column).str.starts_with(VISITOR)).then(column)


def _named_visitor(column: str, blocked: Sequence[str]) -> pl.Expr:
    """The visitor whose name a field has, else null."""
    is_name = is_identity(column, blocked) & pl.col(column).str.starts_with(VISITOR)
    return pl.when(is_name).then(pl.col(column).str.strip_prefix(VISITOR))


def _visitor(column: str, blocked: Sequence[str]) -> pl.Expr:
    """The visitor a call names, else null."""
    return pl.coalesce(_named_visitor("user_id", blocked), pl.when(is_identity(column, blocked)).then(column))


def _ids(calls: pl.LazyFrame) -> pl.LazyFrame:
    """One row per id of an event: ``id_type``, ``id``, and of visitors the first time, ``seen_at``."""
    users = calls.select(id="user").drop_nulls("id").unique()
    visitors = calls.select("timestamp", id="visitor").drop_nulls("id").group_by("id").agg(seen_at=pl.col("timestamp").min())
    both = [users.select("id", seen_at=pl.lit(None, MOMENT), id_type=pl.lit(USER)), visitors.with_columns(id_type=pl.lit(ANONYMOUS))]
    return pl.concat(both).select(*_ID, "seen_at")


def _aliases(calls: pl.LazyFrame, blocked: Sequence[str]) -> pl.LazyFrame:
    """One row per alias, in the order in which they are followed: what ``previous`` may be, or by its name the ``visitor`` it is."""
    aliases = calls.filter(pl.col("type") == "alias").sort("timestamp", "message_id")
    named = pl.when(pl.col("user").is_not_null()).then(_named_visitor("previous_id", blocked))
    return aliases.select("message_id", "timestamp", "previous_id", "user", previous=_user("previous_id", blocked), visitor=named)


def _owners(calls: pl.LazyFrame) -> pl.LazyFrame:
    """One row per visitor seen with a user: the first ``user``, and the message that said so, with its time."""
    together = calls.filter(pl.col("user").is_not_null() & pl.col("visitor").is_not_null())
    return together.group_by(id="visitor").agg(pl.col("user", "timestamp", "message_id").min_by(_moment()))


def _look_up(ids: pl.DataFrame, yesterday: pl.LazyFrame | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per id of today that was known yesterday, as it stood in the map; and per user who was not seen by then but has an
    id of today.
    """
    if yesterday is None:
        return pl.DataFrame(schema=_KNOWN), pl.DataFrame(schema=_KNOWN)
    # By type: half the time of a key of two columns (1.4 s instead of 2.2 s, 300,000 among 20 million).
    by_kind = [
        yesterday.filter(pl.col("id_type") == kind).join(ids.lazy().filter(pl.col("id_type") == kind), on="id", how="semi")
        for kind in (ANONYMOUS, USER)
    ]
    named = ids.lazy().filter(pl.col("id_type") == ANONYMOUS)
    unseen = yesterday.filter(~pl.col("is_seen")).join(named, on="id", how="semi")
    known, unseen_now = pl.collect_all([pl.concat(by_kind), unseen], engine="streaming")
    return known, unseen_now


def _tell_apart(aliases: pl.DataFrame, seen: pl.DataFrame, known: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tell the aliases of users from those of visitors, whose columns are those of ``_owners``.

    What counts is whom the day knows, not what came first on it: a user if there is one of that name, else a visitor if there is one,
    else a user to come.
    """
    if aliases.is_empty():
        return aliases, aliases.with_columns(id="visitor")
    named = pl.col("id").is_in(aliases["previous"].drop_nulls().implode())
    everybody = pl.concat([seen.filter(named).select(*_ID), known.filter(named & pl.col("is_seen")).select(*_ID)])
    users, visitors = (everybody.filter(pl.col("id_type") == kind)["id"].implode() for kind in (USER, ANONYMOUS))
    is_visitor = pl.col("user").is_not_null() & pl.col("previous").is_in(visitors) & ~pl.col("previous").is_in(users)
    aliases = aliases.with_columns(id=pl.when(is_visitor).then("previous").otherwise("visitor"))
    return aliases.filter(pl.col("id").is_null()), aliases.filter(pl.col("id").is_not_null())


def _follow(aliases: pl.DataFrame, known: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Follow the day's aliases, one after the other.

    Returns the names absorbed (``absorbed``, ``customer_id``), and one row per alias that merged somebody known before today
    or was ignored. What an alias does depends on those before it, hence a loop.
    """
    named = pl.concat([aliases["previous"], aliases["user"]]).drop_nulls().unique()
    before = known.filter((pl.col("id_type") == USER) & pl.col("id").is_in(named.implode()))
    customer: dict[str, str] = dict(before.select("id", "customer_id").iter_rows())
    into: dict[str, str] = {}

    def now(user: str) -> str:
        name, passed = customer.get(user, user), []
        while name in into:
            passed.append(name)
            name = into[name]
        into.update(dict.fromkeys(passed, name))  # so that a chain of a day's length is walked once, not from each of its ids
        return name

    rulings: list[tuple[str, str | None, str | None, str]] = []
    for message_id, previous_id, user, previous in aliases.select("message_id", "previous_id", "user", "previous").iter_rows():
        if user is None or previous is None:
            rulings.append((message_id, previous_id, None, "alias_of_nobody"))
        elif now(previous) != previous:
            rulings.append((message_id, previous_id, previous, "second_alias"))
        elif now(user) == previous:
            rulings.append((message_id, previous_id, previous, "alias_cycle"))
        else:
            into[previous] = now(user)
            if previous in customer:
                rulings.append((message_id, previous_id, previous, MERGED))
    merges = {"absorbed": list(into), "customer_id": [now(name) for name in list(into)]}
    ruled = [
        (message_id, USER, previous_id, None if previous is None else now(previous), change)
        for message_id, previous_id, previous, change in rulings
    ]
    schema = {name: dtype for name, dtype in IDENTITY_CHANGES.schema.items() if name != "date"}
    return pl.DataFrame(merges, schema={"absorbed": pl.String, "customer_id": pl.String}), pl.DataFrame(ruled, schema=schema, orient="row")


def _keep_first(owners: pl.DataFrame, claiming: pl.DataFrame) -> pl.DataFrame:
    """One row per visitor seen with a user or named by an alias: the first of both."""
    both = pl.concat([owners, claiming.select(owners.columns)])
    return both.group_by("id").agg(pl.col("user", "timestamp", "message_id").min_by(_moment())) if claiming.height else owners


def _find_awaited(unseen: pl.DataFrame, seen: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """One row per visitor who is new today and whom an alias of an earlier day named: ``id``, ``customer_id``."""
    unseen = unseen.select("id", "customer_id", "arm_id")
    if unseen.is_empty():
        return unseen
    of_type = {kind: seen.filter(id_type=kind) for kind in (ANONYMOUS, USER)}
    awaited = unseen.join(of_type[ANONYMOUS], on="id", how="semi").join(of_type[USER], on="id", how="anti")
    return awaited.join(known.filter(id_type=ANONYMOUS), on="id", how="anti")


def _claim(owners: pl.DataFrame, awaited: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """One row per visitor who turns out to be a user today: ``id``, ``message_id`` and ``user`` (null where it was awaited), and the
    ``customer_id`` before today's merges.

    The first user a visitor was ever seen with stays: who is not themselves any more is not claimed again.
    """
    visitors = known.filter(pl.col("id_type") == ANONYMOUS)
    owned = visitors.filter(pl.col("customer_id") != name_of_id())
    users = known.filter(pl.col("id_type") == USER).select(user="id", customer_id="customer_id")
    claims = owners.join(pl.concat([owned.select("id"), awaited.select("id")]), on="id", how="anti").join(users, on="user", how="left")
    claims = claims.select("id", "message_id", "user", customer_id=pl.coalesce("customer_id", "user"))
    return pl.concat([claims, awaited.select("id", "customer_id")], how="diagonal")


def _list_new(seen: pl.DataFrame, merges: pl.DataFrame, known: pl.DataFrame, today: date) -> pl.DataFrame:
    """One row per id that the map does not have yet, sorted like it; each a customer of its own, for now."""
    named = merges.select(id_type=pl.lit(USER), id="absorbed", seen_at=pl.lit(None, MOMENT)).join(seen, on=_ID, how="anti")
    new = pl.concat([seen.with_columns(is_seen=pl.lit(value=True)), named.with_columns(is_seen=pl.lit(value=False))])
    new = new.join(known, on=_ID, how="anti").sort(*_ID)
    return new.with_columns(customer_id=name_of_id(), valid_from=pl.lit(today), arm_id=name_of_id()).select(*_KNOWN)


def _find_first_known(calls: pl.LazyFrame, claims: pl.DataFrame, new: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """One row per new user who was first known as a visitor: ``customer_id``, and that visitor's name as ``arm_id``.

    Of several visitors it is the one known longest; of those who are as new as the user, whoever was seen first. An event that names
    both is the user's.
    """
    if claims.is_empty():
        return pl.DataFrame(schema={"customer_id": pl.String, "arm_id": pl.String})
    theirs = claims.join(new.filter(pl.col("id_type") == USER).select(user="id"), on="user", how="semi").select(customer_id="user", id="id")
    since = pl.struct("valid_from", pl.col("seen_at").fill_null(pl.col("valid_from").cast(MOMENT)), "id")
    of_visitors = known.filter(pl.col("id_type") == ANONYMOUS).select("id", "arm_id", since=since)
    earlier = theirs.join(of_visitors, on="id").group_by("customer_id").agg(pl.col("arm_id").min_by("since"))
    theirs = theirs.join(earlier, on="customer_id", how="anti")
    if theirs.is_empty():
        return earlier
    moments = calls.select("timestamp", "message_id", "user", id="visitor")
    alone = moments.filter(pl.col("user").is_null()).join(theirs.lazy(), on="id")
    named = moments.rename({"user": "customer_id"}).join(theirs.lazy().select("customer_id").unique(), on="customer_id", how="semi")
    sightings = [
        alone.select("customer_id", "timestamp", "message_id", arm_id=name_of_visitor("id")),
        named.select("customer_id", "timestamp", "message_id", arm_id="customer_id"),
    ]
    first = pl.concat(sightings).group_by("customer_id").agg(pl.col("arm_id").min_by(_moment())).collect(engine="streaming")
    return pl.concat([earlier, first.filter(pl.col("arm_id") != pl.col("customer_id"))])


def _list_moved(claims: pl.DataFrame, merges: pl.DataFrame, arms_of: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per name absorbed today: ``absorbed``, the ``customer_id`` it is from now on, and the ``arm_id`` of that one."""
    if claims.is_empty() and merges.is_empty():
        return pl.DataFrame(schema={"absorbed": pl.String, "customer_id": pl.String, "arm_id": pl.String})
    claimed = claims.select(name_of_visitor("id").alias("absorbed"), "customer_id")
    now = pl.concat([merges, survivors(claimed.lazy(), merges.lazy()).collect()])
    first_arms = pl.concat(arms_of).unique("customer_id", keep="first", maintain_order=True)
    return now.join(first_arms, on="customer_id", how="left")


def _report_claims(claims: pl.DataFrame, claiming: pl.DataFrame, moved: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """One row per visitor known before today who was claimed, and per alias that names a visitor who is somebody already."""
    if claims.is_empty() and claiming.is_empty():
        return pl.DataFrame(schema={name: dtype for name, dtype in IDENTITY_CHANGES.schema.items() if name != "date"})
    visitors = known.filter(pl.col("id_type") == ANONYMOUS).select("id", "customer_id")
    claimed = claims.join(visitors, on="id", how="semi").select("id", "message_id", change=pl.lit(CLAIMED))
    ignored = claiming.join(claims, on=["id", "message_id"], how="anti").select("id", "message_id", change=pl.lit("second_claim"))
    now = moved.select("absorbed", "customer_id")
    return (
        pl.concat([claimed, ignored])
        .join(now.select(name="absorbed", claimed_by="customer_id"), left_on=name_of_visitor("id"), right_on="name", how="left")
        .join(visitors.rename({"customer_id": "absorbed"}), on="id", how="left")
        .join(now.rename({"customer_id": "merged_into"}), on="absorbed", how="left")
        .select(
            "message_id",
            pl.lit(ANONYMOUS).alias("id_type"),
            "id",
            customer_id=pl.coalesce("claimed_by", "merged_into", "absorbed"),
            change="change",
        )
    )


def _rewrite_map(base: pl.LazyFrame, moved: pl.DataFrame, revealed: pl.Series, today: date) -> pl.LazyFrame:
    """Give every id the customer it is today; ``revealed``: users whom only an alias had named, and who were seen today."""
    if moved.is_empty() and not len(revealed):
        return base.with_columns(pl.lit(today).alias("date")).select(*IDENTITY_MAP.schema)
    now = moved.lazy().select(
        pl.col("absorbed").alias("customer_id"), pl.col("customer_id").alias("survivor:"), pl.col("arm_id").alias("arm:")
    )
    is_revealed = (pl.col("id_type") == USER) & pl.col("id").is_in(revealed.implode()) if len(revealed) else pl.lit(value=False)
    return (
        base.join(now, on="customer_id", how="left", maintain_order="left")
        .with_columns(
            pl.lit(today).alias("date"),
            customer_id=pl.coalesce("survivor:", "customer_id"),
            valid_from=pl.when(pl.col("survivor:").is_not_null()).then(pl.lit(today)).otherwise("valid_from"),
            arm_id=pl.coalesce("arm:", "arm_id"),
            is_seen=pl.col("is_seen") | is_revealed,
        )
        .select(*IDENTITY_MAP.schema)
    )


def _merge_in_order(yesterday: pl.LazyFrame, new: pl.LazyFrame) -> pl.LazyFrame:
    """Put new ids in their places: both frames are sorted, and stay streams (a third of the time of sorting 20 million)."""
    parts = [
        yesterday.filter(pl.col("id_type") == kind).merge_sorted(new.filter(pl.col("id_type") == kind), key="id")
        for kind in (ANONYMOUS, USER)
    ]
    return pl.concat(parts)
