"""Who is who: aliases, chains, visitors who turn out to be users, shared devices (what a merge moves: ``test_merging``)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atc_pipeline import rules
from atc_pipeline.identity import IDENTITY_CHANGES, IDENTITY_MAP, absorbed, absorbed_by, map_identities

FIRST = date(2026, 3, 1)
SCHEMA = {
    "message_id": pl.String(),
    "type": pl.String(),
    "user_id": pl.String(),
    "anonymous_id": pl.String(),
    "previous_id": pl.String(),
    "timestamp": pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True)
class Call:
    """One accepted event: who it names, when it happened, on which day it arrived."""

    user: str | None = None
    visitor: str | None = None
    previous: str | None = None
    is_alias: bool = False
    minute: int = 0
    number: int = 0
    day: int = 0

    @property
    def message_id(self) -> str:
        """Return an id that sorts like the number."""
        return f"m{self.number:03}"


def seen(user: str | None = None, visitor: str | None = None, minute: int = 0) -> Call:
    """An event of somebody."""
    return Call(user, visitor, minute=minute)


def alias(previous: str | None, user: str | None, minute: int = 0) -> Call:
    """An alias: ``previous`` is ``user`` from now on."""
    return Call(user, previous=previous, is_alias=True, minute=minute)


def frame(calls: Iterable[Call]) -> pl.LazyFrame:
    """One row per event, as in ``raw_events``."""
    rows = [
        (
            call.message_id,
            "alias" if call.is_alias else "track",
            call.user,
            call.visitor,
            call.previous,
            datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=call.minute),
        )
        for call in calls
    ]
    return pl.LazyFrame(rows, schema=SCHEMA, orient="row")


def run(*days: Sequence[Call]) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Map these days one after the other; return each day's map and changes. Messages are numbered in the order given."""
    done: list[tuple[pl.DataFrame, pl.DataFrame]] = []
    number = 0
    for age, calls in enumerate(days):
        numbered = [replace(call, number=number + place) for place, call in enumerate(calls)]
        number += len(calls)
        done.append(mapped(numbered, done[-1][0] if done else None, age))
    return done


def mapped(calls: Sequence[Call], yesterday: pl.DataFrame | None, age: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Map one day."""
    identities = map_identities(frame(calls), None if yesterday is None else yesterday.lazy(), today=FIRST + timedelta(days=age))
    return identities.map.collect(), identities.changes


def people(*days: Sequence[Call]) -> dict[str, str]:
    """Who each id is after the last of these days, by name."""
    return who(run(*days)[-1][0])


def who(identity_map: pl.DataFrame) -> dict[str, str]:
    """Who each id is, by name."""
    return {(name if kind == "user" else f"anon:{name}"): who for kind, name, who in identity_map[:, 1:4].iter_rows()}


def changes(*days: Sequence[Call]) -> list[tuple[int, str, str | None, str | None]]:
    """What changed on the last of these days: message, change, id and customer."""
    told = run(*days)[-1][1].select("message_id", "change", "id", "customer_id")
    return [(int(message.removeprefix("m")), *rest) for message, *rest in told.iter_rows()]


# --- Single cases ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        pytest.param([[seen("u")]], {"u": "u"}, id="a user"),
        pytest.param([[seen(None, "a")]], {"anon:a": "anon:a"}, id="a visitor"),
        pytest.param([[seen("u", "a")]], {"u": "u", "anon:a": "u"}, id="both at once"),
        pytest.param([[seen(None, "a")], [seen("u", "a")]], {"u": "u", "anon:a": "u"}, id="a visitor turns out to be a user"),
        pytest.param([[seen("u", "a")], [seen("v", "a")]], {"u": "u", "v": "v", "anon:a": "u"}, id="a shared device is not a merge"),
        pytest.param([[alias("u", "v")]], {"u": "v", "v": "v"}, id="an alias before the first sight of who it absorbs"),
        pytest.param([[alias("u", "v")], [seen("u", "a")]], {"u": "v", "v": "v", "anon:a": "v"}, id="followed when it is seen"),
        pytest.param([[seen("u", "a")], [alias("u", "v")]], {"u": "v", "v": "v", "anon:a": "v"}, id="visitors follow their user"),
        pytest.param([[alias("u", "v")], [alias("v", "w")]], {"u": "w", "v": "w", "w": "w"}, id="a chain from its start"),
        pytest.param([[alias("v", "w")], [alias("u", "v")]], {"u": "w", "v": "w", "w": "w"}, id="a chain from its end"),
        pytest.param([[alias("u", "v"), alias("v", "w")]], {"u": "w", "v": "w", "w": "w"}, id="a chain in a day"),
        pytest.param([[alias("u", "v", 1), alias("u", "w", 0)]], {"u": "w", "w": "w", "v": "v"}, id="of two aliases the first"),
        pytest.param([[alias("u", "v")], [alias("u", "w")]], {"u": "v", "v": "v", "w": "w"}, id="a second alias a day later"),
        pytest.param([[alias("u", "v")], [alias("v", "u")]], {"u": "v", "v": "v"}, id="a cycle of two"),
        pytest.param([[alias("u", "v", 0), alias("v", "w", 1), alias("w", "u", 2)]], {"u": "w", "v": "w", "w": "w"}, id="a cycle of three"),
        pytest.param([[alias("u", "u")]], {"u": "u"}, id="an alias of oneself"),
        pytest.param([[alias("0", "v"), alias(None, "v"), alias("-", "v")]], {"v": "v"}, id="nobody is absorbed"),
        pytest.param([[Call("null", "a", "u", is_alias=True)]], {"anon:a": "anon:a"}, id="nobody absorbs"),
        pytest.param([[seen("anonymous", "a"), seen("u", "00-00")]], {"anon:a": "anon:a", "u": "u"}, id="blocked values are no ids"),
        pytest.param([[seen("u", "a", 1), seen("v", "a", 0)]], {"u": "u", "v": "v", "anon:a": "v"}, id="the earliest claims"),
        pytest.param([[seen("u", "a"), seen("v", "a")]], {"u": "u", "v": "v", "anon:a": "u"}, id="at the same time: the least message"),
        pytest.param([[seen("u", "a", 9)], [seen("v", "a", 0)]], {"u": "u", "v": "v", "anon:a": "u"}, id="first is who arrived first"),
        pytest.param([[seen(None, "a"), seen("anon:a", "b")]], {"anon:a": "anon:a"}, id="a visitor's name sent back to us"),
        pytest.param([[seen("anon:a")], [seen("u", "a")]], {"anon:a": "u", "u": "u"}, id="a visitor known by name only"),
        pytest.param([[alias("anon:a", "u"), alias("u", "anon:a")]], {"anon:a": "anon:a", "u": "u"}, id="a visitor's name is no user"),
    ],
)
def test_who_each_id_is(days: list[list[Call]], expected: dict[str, str]) -> None:
    """Ids by name, and the customers they are after the last day."""
    assert people(*days) == expected


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        pytest.param([[seen("u")], [alias("u", "v")]], [(1, "merged", "u", "v")], id="merged"),
        pytest.param(
            [[seen("u")], [alias("u", "v"), alias("v", "w")]], [(1, "merged", "u", "w")], id="merged into who it is by the evening"
        ),
        pytest.param([[alias("u", "v")]], [], id="nobody was known before"),
        pytest.param([[seen(None, "a")], [seen("u", "a")]], [(1, "claimed", "a", "u")], id="claimed"),
        pytest.param([[seen(None, "a"), seen("u", "a")]], [], id="a visitor of the same day"),
        pytest.param([[seen("u", "a")], [seen("v", "a")]], [], id="a shared device"),
        pytest.param(
            [[alias("u", "v")], [alias("u", "v"), alias("u", "w")]], [(1, "second_alias", "u", "v"), (2, "second_alias", "u", "v")]
        ),
        pytest.param([[alias("u", "v")], [alias("v", "u"), alias("v", "v")]], [(1, "alias_cycle", "v", "v"), (2, "alias_cycle", "v", "v")]),
        pytest.param(
            [[alias(None, "v"), alias("0", "v"), alias("u", None)]],
            [(0, "alias_of_nobody", None, None), (1, "alias_of_nobody", "0", None), (2, "alias_of_nobody", "u", None)],
        ),
        pytest.param(
            [[seen("u"), seen(None, "a")], [replace(alias("u", "v"), visitor="a")]],
            [(2, "claimed", "a", "v"), (2, "merged", "u", "v")],
            id="one message absorbs both",
        ),
    ],
)
def test_what_changed_and_what_was_ignored(days: list[list[Call]], expected: list[tuple[int, str, str | None, str | None]]) -> None:
    """One row per customer of the day before who was absorbed, and per alias that was ignored."""
    assert changes(*days) == expected


def test_the_map_is_dated_by_the_day_since_which_an_id_has_been_this_customer() -> None:
    """An id that nothing happens to keeps its day; whoever changes starts anew, with everybody who follows."""
    days = run([seen("u", "a"), seen("x")], [alias("u", "v")], [alias("v", "w")], [])
    since = {row["id"]: (row["valid_from"] - FIRST).days for row in days[-1][0].iter_rows(named=True)}
    assert since == {"a": 2, "u": 2, "v": 2, "w": 2, "x": 0}


def test_the_tables_are_as_they_say() -> None:
    """Columns and types, sorted by the key, on a day without events too."""
    for identity_map, changed in run([seen("u", "b"), seen("t", "c")], [seen("v", "a"), alias("t", "u")], []):
        assert identity_map.schema == pl.Schema(IDENTITY_MAP)
        assert changed.schema == pl.Schema(IDENTITY_CHANGES)
        assert identity_map.equals(identity_map.sort("id_type", "id"))


def test_absorbed_names_who_changed_since_a_day() -> None:
    """One row per name that is another customer, by the day it became that."""
    identity_map = run([seen("u", "a"), seen("x")], [alias("u", "v")])[-1][0].lazy()
    assert sorted(absorbed(identity_map).select("absorbed", "customer_id").collect().iter_rows()) == [("anon:a", "v"), ("u", "v")]
    assert absorbed(identity_map, since=FIRST + timedelta(days=2)).collect().is_empty()


def test_survivors_are_named_row_by_row() -> None:
    """Rows keep their order and their other columns, and are not merged."""
    rows = pl.LazyFrame({"n": [1, 2, 3, 4], "customer_id": ["u", "v", "anon:a", "u"], "valid_from": [1, 2, 3, 4]})
    who = absorbed(run([seen("u", "a")], [alias("u", "v")])[-1][0].lazy())
    assert rules.survivors(rows, who).collect().rows() == [(1, "v", 1), (2, "v", 2), (3, "v", 3), (4, "v", 4)]
    assert rules.survivors(rows, None) is rows


def test_a_chain_as_long_as_a_day_is_walked_once() -> None:
    """Twenty thousand aliases, each of the one before: all are the last of them."""
    chain = [alias(f"u{number}", f"u{number + 1}", minute=number) for number in range(20_000)]
    calls = [replace(call, number=number) for number, call in enumerate(chain)]
    assert mapped(calls, None, 0)[0]["customer_id"].unique().to_list() == ["u20000"]


# --- Against all of history ------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["u1", "u2", "u3", "u4", "u5", "u6", "0", "null", None, "anon:a1"])
VISITORS = st.sampled_from(["a1", "a2", "a3", "-", None, None])
CALLS = st.one_of(
    st.builds(Call, NAMES, VISITORS, minute=st.integers(0, 3), day=st.integers(0, 4)),
    st.builds(Call, NAMES, VISITORS, NAMES, st.just(value=True), st.integers(0, 3), day=st.integers(0, 4)),
)
HISTORIES = st.lists(CALLS, max_size=30).flatmap(
    lambda calls: st.permutations(range(len(calls))).map(
        lambda numbers: [replace(call, number=number) for call, number in zip(calls, numbers, strict=True)]
    )
)


def is_user(name: str | None) -> bool:
    """Return whether a field of these histories names a user."""
    return name is not None and name.startswith("u")


def recomputed(history: Sequence[Call], age: int) -> dict[str, str]:
    """Map every name known by a day, from all that arrived by then and no map of the day before."""
    arrived = sorted((call for call in history if call.day <= age), key=lambda call: (call.day, call.minute, call.message_id))
    points_to: dict[str, str] = {}

    def end(name: str) -> str:
        return end(points_to[name]) if name in points_to else name

    known: dict[str, str | None] = {}
    for call in arrived:
        visitor = call.user if call.user == "anon:a1" else f"anon:{call.visitor}" if call.visitor in {"a1", "a2", "a3"} else None
        if is_user(call.user):
            known[call.user] = call.user
        if visitor is not None:
            known[visitor] = known.get(visitor) or (call.user if is_user(call.user) else None)
        followed = call.is_alias and is_user(call.user) and is_user(call.previous)
        if followed and call.previous not in points_to and end(call.user) != call.previous:
            points_to[call.previous] = call.user
            known[call.previous] = call.previous
    return {name: end(owner) if owner else name for name, owner in known.items()}


def accepted(history: Sequence[Call]) -> list[Call]:
    """Leave out what ingestion rejects: calls that name nobody."""
    return [call for call in history if is_user(call.user) or call.user == "anon:a1" or call.visitor in {"a1", "a2", "a3"}]


@settings(max_examples=60)
@given(HISTORIES)
def test_the_map_is_that_of_all_history(drawn: list[Call]) -> None:
    """Carried from day to day, the map equals the one made from everything that ever arrived; so do its dates and its changes."""
    history = accepted(drawn)
    identity_map, before, since = None, {}, {}
    for age in range(5):
        today = FIRST + timedelta(days=age)
        identity_map, changed = mapped([call for call in history if call.day == age], identity_map, age)
        expected = recomputed(history, age)
        since = {name: since[name] if before.get(name) == customer else today for name, customer in expected.items()}
        assert who(identity_map) == expected
        assert dict(zip(who(identity_map), identity_map["valid_from"], strict=True)) == since
        was_absorbed = {name: expected[name] for name, customer in before.items() if name == customer != expected[name]}
        assert dict(absorbed_by(changed.lazy()).select("absorbed", "customer_id").collect().iter_rows()) == was_absorbed
        before = expected


@settings(max_examples=30)
@given(HISTORIES, st.randoms(use_true_random=False))
def test_neither_order_nor_files_matter(drawn: list[Call], random: Random) -> None:
    """The same events in another order, in any number of frames, give the same map and the same changes."""
    days = [[call for call in accepted(drawn) if call.day == age] for age in range(5)]
    one, other = None, None
    for age, calls in enumerate(days):
        shuffled = random.sample(calls, len(calls))
        cut = random.randint(0, len(calls))
        files = pl.concat([frame(shuffled[:cut]), frame(shuffled[cut:])])
        again = map_identities(files, None if other is None else other.lazy(), today=FIRST + timedelta(days=age))
        one, changed = mapped(calls, one, age)
        other = again.map.collect()
        assert one.equals(other)
        assert changed.equals(again.changes)
