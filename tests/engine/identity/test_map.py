"""Who is who: aliases, chains, visitors who turn out to be users, shared devices (what a merge moves: ``test_merging``)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atc_pipeline.identity.map import absorbed, absorbed_by, arms, map_identities
from atc_pipeline.identity.tables import IDENTITY_CHANGES, IDENTITY_MAP
from atc_pipeline.rules.people import BLOCKED_IDENTITY, is_identity, survivors

FIRST = date(2026, 3, 1)
SCHEMA = {
    "message_id": pl.String(),
    "type": pl.String(),
    "user_id": pl.String(),
    "anonymous_id": pl.String(),
    "previous_id": pl.String(),
    "timestamp": pl.Datetime("us", "UTC"),
    "context": pl.String(),
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
            None,
        )
        for call in calls
    ]
    return pl.LazyFrame(rows, schema=SCHEMA, orient="row")


def run(*days: Sequence[Call]) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Map these days one after the other; return each day's map and changes.

    Messages are numbered in the order given, and stand in the opposite one: nothing may depend on where a row stands.
    """
    done: list[tuple[pl.DataFrame, pl.DataFrame]] = []
    number = 0
    for age, calls in enumerate(days):
        numbered = [replace(call, number=number + place) for place, call in enumerate(calls)]
        number += len(calls)
        done.append(mapped(numbered[::-1], done[-1][0] if done else None, age))
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


def arms_by_name(identity_map: pl.DataFrame) -> dict[str, str]:
    """By which name each id is drawn, by its own."""
    return dict(zip(who(identity_map), identity_map["arm_id"], strict=True))


def changes(*days: Sequence[Call]) -> list[tuple[int, str, str | None, str | None]]:
    """What changed on the last of these days: message, change, id and customer."""
    told = run(*days)[-1][1].select("message_id", "change", "id", "customer_id")
    return [(int(message.removeprefix("m")), *rest) for message, *rest in told.iter_rows()]


# --- Single cases ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
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
        pytest.param([[alias("u", "anon:a")], [seen("u")]], {"anon:a": "anon:a", "u": "u"}, id="a visitor's name absorbs nobody"),
        pytest.param([[seen(None, "a"), alias("a", "u", 1)]], {"anon:a": "u", "u": "u"}, id="a server's alias of a visitor"),
        pytest.param([[seen(None, "a")], [alias("a", "u")]], {"anon:a": "u", "u": "u"}, id="a server's alias a day later"),
        pytest.param([[alias("a", "u", 0), seen(None, "a", 1)]], {"anon:a": "u", "u": "u"}, id="seen later on the day of the alias"),
        pytest.param([[alias("a", "u")], [seen(None, "a")]], {"a": "u", "anon:a": "u", "u": "u"}, id="seen days after the alias"),
        pytest.param([[alias("a", "u")], [seen("v", "a")]], {"a": "u", "anon:a": "u", "u": "u", "v": "v"}, id="named before it was seen"),
        pytest.param([[alias("a", "u")], [seen("a", "a")]], {"a": "u", "anon:a": "u", "u": "u"}, id="seen as both: a user"),
        pytest.param([[seen("a"), seen(None, "a"), alias("a", "u")]], {"a": "u", "u": "u", "anon:a": "anon:a"}, id="known as both: a user"),
        pytest.param([[alias("anon:a", "u")]], {"anon:a": "u", "u": "u"}, id="a visitor by name, known by that alone"),
        pytest.param([[seen("a"), alias("anon:a", "u")]], {"a": "a", "anon:a": "u", "u": "u"}, id="a visitor by name, a user too"),
        pytest.param([[seen("u", "a")], [alias("a", "v")]], {"anon:a": "u", "u": "u", "v": "v"}, id="a visitor is claimed once"),
        pytest.param([[seen("u", "a", 1), alias("a", "v", 0)]], {"anon:a": "v", "u": "u", "v": "v"}, id="an alias before the login"),
        pytest.param([[seen("u", "a", 0), alias("a", "v", 1)]], {"anon:a": "u", "u": "u", "v": "v"}, id="a login before the alias"),
        pytest.param([[seen(None, "a"), alias("a", "u"), alias("u", "v")]], {"anon:a": "v", "u": "v", "v": "v"}, id="and follows its user"),
        pytest.param([[seen(None, "a"), alias("null", "u"), alias("a", "none")]], {"anon:a": "anon:a", "u": "u"}, id="blocked names"),
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
        pytest.param([[seen(None, "a")], [alias("a", "u")]], [(1, "claimed", "a", "u")], id="claimed by an alias"),
        pytest.param([[seen(None, "a")], [alias("a", "u"), alias("u", "v")]], [(1, "claimed", "a", "v")], id="claimed for who it is then"),
        pytest.param([[seen("u", "a")], [alias("a", "v")]], [(1, "second_claim", "a", "u")], id="somebody else's visitor"),
        pytest.param([[seen(None, "a"), alias("a", "u"), alias("a", "v")]], [(2, "second_claim", "a", "u")], id="two on a day"),
        pytest.param([[alias("a", "u")], [seen(None, "a"), alias("a", "v")]], [(2, "second_claim", "a", "u")], id="who was awaited"),
        pytest.param(
            [[seen(None, "a"), seen(None, "b")], [Call("u", "a", "b", is_alias=True)]],
            [(2, "claimed", "a", "u"), (2, "claimed", "b", "u")],
            id="one message claims two",
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
        assert identity_map.schema == IDENTITY_MAP.schema
        assert changed.schema == IDENTITY_CHANGES.schema
        assert identity_map.equals(identity_map.sort("id_type", "id"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("days", "expected"),
    [
        pytest.param([[seen("u")]], {"u": "u"}, id="a user"),
        pytest.param([[seen(None, "a")], [seen("u", "a")]], {"anon:a": "anon:a", "u": "anon:a"}, id="it stays through login"),
        pytest.param([[seen(None, "a")], [alias("a", "u")]], {"anon:a": "anon:a", "u": "anon:a"}, id="a server's alias is a login"),
        pytest.param([[seen(None, "a", 0), seen("u", "a", 1)]], {"anon:a": "anon:a", "u": "anon:a"}, id="a login within a day"),
        pytest.param([[seen(None, "a", 1), seen("u", "a", 0)]], {"anon:a": "u", "u": "u"}, id="an event that names both is the user's"),
        pytest.param([[seen("u", None, 0), seen(None, "a", 1), seen("u", "a", 2)]], {"anon:a": "u", "u": "u"}, id="the user was first"),
        pytest.param([[seen("u")], [seen(None, "a")], [seen("u", "a")]], {"anon:a": "u", "u": "u"}, id="a user known before keeps it"),
        pytest.param(
            [[seen(None, "b")], [seen(None, "a")], [seen("u", "a", 0), seen("u", "b", 1)]],
            {"anon:a": "anon:b", "anon:b": "anon:b", "u": "anon:b"},
            id="of two visitors the one known longest",
        ),
        pytest.param(
            [[seen(None, "a", 1), seen(None, "b", 0)], [seen("u", "a", 0), seen("u", "b", 1)]],
            {"anon:a": "anon:b", "anon:b": "anon:b", "u": "anon:b"},
            id="also within the day on which both came",
        ),
        pytest.param(
            [[seen(None, "a", 1), seen(None, "b", 0), seen("u", "a", 2), seen("u", "b", 3)]],
            {"anon:a": "anon:b", "anon:b": "anon:b", "u": "anon:b"},
            id="of two new visitors who was seen first",
        ),
        pytest.param([[seen("u")], [seen("v")], [alias("u", "v")]], {"u": "v", "v": "v"}, id="in a merge the survivor's stays"),
        pytest.param(
            [[seen(None, "a")], [seen("v", "a")], [seen("u")], [alias("u", "v")]],
            {"anon:a": "anon:a", "u": "anon:a", "v": "anon:a"},
            id="though that is a visitor's",
        ),
        pytest.param([[seen("u")], [alias("u", "v")]], {"u": "v", "v": "v"}, id="also that of somebody new"),
        pytest.param([[alias("a", "u")], [seen(None, "a")]], {"a": "u", "anon:a": "u", "u": "u"}, id="a visitor who was awaited"),
    ],
)
def test_a_customer_is_drawn_by_the_name_they_were_first_known_by(days: list[list[Call]], expected: dict[str, str]) -> None:
    """``arm_id`` of each id by name after the last day; the same for every id of a customer."""
    assert arms_by_name(run(*days)[-1][0]) == expected
    differing = {
        row["customer_id"]: row["arm_id"] for row in run(*days)[-1][0].iter_rows(named=True) if row["arm_id"] != row["customer_id"]
    }
    assert dict(arms(run(*days)[-1][0].lazy()).collect().iter_rows()) == differing


def test_a_map_made_before_there_were_arms_is_carried_on() -> None:
    """Whoever is in it was drawn by the name of that day, and stays where they are."""
    before = run([seen(None, "a"), seen("u", "b")])[-1][0].drop("arm_id", "is_seen", "seen_at")
    assert arms(before.lazy()).collect().is_empty()
    assert arms_by_name(mapped([seen("v", "a")], before, 1)[0]) == {"anon:a": "anon:a", "anon:b": "u", "u": "u", "v": "anon:a"}


@pytest.mark.parametrize("value", ["", " ", "NULL", "None", "nil", "NaN", "undefined", " Undefined ", "[object Object]", "Guest"])
@pytest.mark.parametrize("more", [[], ["kiosk"]])
def test_values_that_identify_nobody_do_so_in_any_case(value: str, more: list[str]) -> None:
    """SPEC 2's list, whatever the portfolio adds to it, blanks around a value aside; the same as for one text."""
    rows = pl.LazyFrame({"id": [value, f"{value}x", f"anon:{value}"]})
    assert rows.select(is_identity("id", more)).collect()["id"].to_list() == [False, True, False]
    assert re.fullmatch(BLOCKED_IDENTITY, value) is not None
    assert re.fullmatch(BLOCKED_IDENTITY, f"{value}x") is None


def test_the_portfolio_adds_values_that_identify_nobody() -> None:
    """``identity.blocked``, in any case: of a user, a visitor and an alias."""
    rows = pl.LazyFrame({"id": ["kiosk", "KIOSK ", "n/a", "-1", "0-00", "a  b", "(x.y)", "a\nb", None, "kiosk1", "0x", "(xay)"]})
    blocked = [" Kiosk", "A  B", "(x.y)", "a\nb"]
    assert rows.select(is_identity("id", blocked)).collect()["id"].to_list() == [False] * 9 + [True] * 3
    calls = [seen("Kiosk", "a"), seen("u", "a", 1), alias("kiosk", "u", 2), seen("v", "KIOSK", 3)]
    numbered = frame(replace(call, number=number) for number, call in enumerate(calls))
    identities = map_identities(numbered, None, today=FIRST, blocked=["kiosk"])
    assert who(identities.map.collect()) == {"anon:a": "u", "u": "u", "v": "v"}
    assert identities.changes["change"].to_list() == ["alias_of_nobody"]


def test_absorbed_names_who_changed_since_a_day() -> None:
    """One row per name that is another customer, by the day it became that."""
    identity_map = run([seen("u", "a"), seen("x")], [alias("u", "v")])[-1][0].lazy()
    assert sorted(absorbed(identity_map).select("absorbed", "customer_id").collect().iter_rows()) == [("anon:a", "v"), ("u", "v")]
    assert absorbed(identity_map, since=FIRST + timedelta(days=2)).collect().is_empty()


def test_survivors_are_named_row_by_row() -> None:
    """Rows keep their order and their other columns, and are not merged."""
    rows = pl.LazyFrame({"n": [1, 2, 3, 4], "customer_id": ["u", "v", "anon:a", "u"], "valid_from": [1, 2, 3, 4]})
    who = absorbed(run([seen("u", "a")], [alias("u", "v")])[-1][0].lazy())
    assert survivors(rows, who).collect().rows() == [(1, "v", 1), (2, "v", 2), (3, "v", 3), (4, "v", 4)]
    assert survivors(rows, None) is rows


def test_a_chain_as_long_as_a_day_is_walked_once() -> None:
    """Twenty thousand aliases, each of the one before: all are the last of them."""
    chain = [alias(f"u{number}", f"u{number + 1}", minute=number) for number in range(20_000)]
    calls = [replace(call, number=number) for number, call in enumerate(chain)]
    assert mapped(calls, None, 0)[0]["customer_id"].unique().to_list() == ["u20000"]


# --- Against all of history ------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["u1", "u2", "u3", "u4", "u5", "u6", "0", "null", None, "anon:a1", "a2"])
VISITORS = st.sampled_from(["a1", "a2", "a3", "-", None, None, "u1"])
PREVIOUS = NAMES | st.sampled_from(["a1", "a2", "a3"])
CALLS = st.one_of(
    st.builds(Call, NAMES, VISITORS, minute=st.integers(0, 1), day=st.integers(0, 3)),
    st.builds(Call, NAMES, VISITORS, PREVIOUS, st.just(value=True), st.integers(0, 1), day=st.integers(0, 3)),
)
HISTORIES = st.lists(CALLS, max_size=30).flatmap(
    lambda calls: st.permutations(range(len(calls))).map(
        lambda numbers: [replace(call, number=number) for call, number in zip(calls, numbers, strict=True)]
    )
)


def user_of(name: str | None) -> str | None:
    """Return the user whom a field of these histories names."""
    return name if name not in {"0", "null", "-", None, "anon:a1"} else None


def visitor_of(call: Call) -> str | None:
    """Return the visitor whom a call names."""
    return "anon:a1" if call.user == "anon:a1" else f"anon:{call.visitor}" if user_of(call.visitor) else None


@dataclass
class Known:
    """Everybody known by a day, made from all that arrived by then: names of users and of visitors (``anon:``) alike."""

    seen: dict[str, tuple[int, str]] = field(default_factory=dict)
    """The day and, for a user, the arm since they have been known."""
    points_to: dict[str, str] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    awaited: dict[str, str] = field(default_factory=dict)

    def end(self, name: str) -> str:
        """Return who somebody is today."""
        return self.end(self.points_to[name]) if name in self.points_to else name

    def add(self, day: int, calls: Sequence[Call]) -> None:
        """Add a day."""
        calls = sorted(calls, key=lambda call: (call.minute, call.message_id))
        named = [call for call in calls if call.is_alias and user_of(call.user) and call.previous == "anon:a1"]
        users = {user for call in calls if (user := user_of(call.user))} - self.seen.keys()
        visitors = {visitor for call in calls if (visitor := visitor_of(call))} | ({"anon:a1"} if named else set())
        visitors -= self.seen.keys()
        everybody = users | visitors | self.seen.keys()
        for visitor in visitors:
            if (awaited := self.awaited.get(visitor.removeprefix("anon:"))) and visitor.removeprefix("anon:") not in everybody:
                self.owner[visitor] = awaited
        awaited_today = {}
        claimed: dict[str, list[str]] = {}
        for call in calls:
            user, previous = user_of(call.user), user_of(call.previous)
            pairs = [visitor_of(call)] if user else []
            if call.is_alias and user and previous and previous not in everybody and f"anon:{previous}" in everybody:
                pairs.append(f"anon:{previous}")
            elif call.is_alias and user and previous and previous not in self.points_to and self.end(user) != previous:
                self.points_to[previous] = user
                if previous not in everybody:
                    awaited_today[previous] = user
            if call in named:
                pairs.append("anon:a1")
            for visitor in pairs:
                if visitor and visitor not in self.owner:
                    self.owner[visitor] = user
                    claimed.setdefault(user, []).append(visitor)
        for user in users:
            earlier = [(self.seen[visitor][0], visitor) for visitor in claimed.get(user, []) if visitor in self.seen]
            mine = [user if user_of(call.user) == user else visitor_of(call) for call in calls]
            alone = [
                name
                for name, call in zip(mine, calls, strict=True)
                if name == user or (name in claimed.get(user, []) and not user_of(call.user))
            ]
            self.seen[user] = day, min(earlier)[1] if earlier else alone[0]
        self.seen |= {visitor: (day, visitor) for visitor in visitors}
        self.awaited |= awaited_today

    def people(self) -> dict[str, tuple[str, str]]:
        """Return the customer and the arm of every name."""
        names = {name: self.end(self.owner.get(name, name)) for name in self.seen.keys() | self.points_to.keys()}
        return {name: (customer, self.seen[customer][1]) for name, customer in names.items()}


def recomputed(history: Sequence[Call], age: int) -> dict[str, tuple[str, str]]:
    """Map every name known by a day to its customer and arm, from all that arrived by then and no map of the day before."""
    known = Known()
    for day in range(age + 1):
        known.add(day, [call for call in history if call.day == day])
    return known.people()


def accepted(history: Sequence[Call]) -> list[Call]:
    """Leave out what ingestion rejects: calls that name nobody."""
    return [call for call in history if user_of(call.user) or visitor_of(call)]


@pytest.mark.slow
@settings(max_examples=60)
@given(HISTORIES)
def test_the_map_is_that_of_all_history(drawn: list[Call]) -> None:
    """Carried from day to day, the map equals the one made from everything that ever arrived; so do its dates and its changes."""
    history = accepted(drawn)
    identity_map, before, since = None, {}, {}
    for age in range(4):
        today = FIRST + timedelta(days=age)
        identity_map, changed = mapped([call for call in history if call.day == age], identity_map, age)
        people_and_arms = recomputed(history, age)
        expected = {name: customer for name, (customer, _) in people_and_arms.items()}
        since = {name: since[name] if before.get(name) == customer else today for name, customer in expected.items()}
        assert who(identity_map) == expected
        assert arms_by_name(identity_map) == {name: arm for name, (_, arm) in people_and_arms.items()}
        assert dict(zip(who(identity_map), identity_map["valid_from"], strict=True)) == since
        was_absorbed = {name: expected[name] for name, customer in before.items() if name == customer != expected[name]}
        assert dict(absorbed_by(changed.lazy()).select("absorbed", "customer_id").collect().iter_rows()) == was_absorbed
        before = expected


@pytest.mark.slow
@settings(max_examples=30)
@given(HISTORIES, st.randoms(use_true_random=False))
def test_neither_order_nor_files_matter(drawn: list[Call], random: Random) -> None:
    """The same events in another order, in any number of frames, give the same map and the same changes."""
    days = [[call for call in accepted(drawn) if call.day == age] for age in range(4)]
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
