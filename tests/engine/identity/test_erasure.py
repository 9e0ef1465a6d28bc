"""Whose a row or line is, told by columns, by fields, and by text anywhere."""

import hashlib
import json
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.identity.erasure import Kind, Person, find_lines, find_rows, identify, kind_of_line

ANN = Person(frozenset({"ann", "ann-maiden"}), frozenset({"phone"}))
MAP = pl.LazyFrame(
    [
        ("user", "ann", "ann"),
        ("user", "ann-maiden", "ann"),
        ("anonymous", "phone", "ann"),
        ("user", "bob", "bob"),
        ("anonymous", "tablet", "bob"),
        ("anonymous", "stray", "anon:stray"),
    ],
    schema=["id_type", "id", "customer_id"],
    orient="row",
)


@pytest.mark.parametrize("asked", ["ann", "ann-maiden", "anon:phone"])
def test_any_id_of_a_person_finds_all_of_them(asked: str) -> None:
    """The survivor, an absorbed user and an anonymous id lead to the same three ids."""
    assert identify(asked, MAP) == (ANN, True)


def test_without_a_map_an_id_stands_for_itself() -> None:
    """So does one that the map does not know; a visitor of no user is a person of one id."""
    assert identify("ann", None) == (Person(frozenset({"ann"})), False)
    assert identify("zoe", MAP) == (Person(frozenset({"zoe"})), False)
    assert identify("anon:stray", MAP) == (Person(frozenset(), frozenset({"stray"})), True)


@pytest.mark.parametrize("asked", ["", "null", "anon:", "anon:-1", "000-0"])
def test_a_blocked_value_is_nobody_to_erase(asked: str) -> None:
    """Erasing what identifies nobody would erase everybody who could not be identified."""
    with pytest.raises(ValueError, match="identifies nobody"):
        identify(asked, MAP)


def test_what_else_is_blocked_names_nobody() -> None:
    """``identity.blocked``, in any case: it cannot be erased, and an event that carries it is the visitor's."""
    with pytest.raises(ValueError, match="identifies nobody"):
        identify(" Kiosk", MAP, ["kiosk"])
    person, _ = identify("ann", MAP, ["kiosk"])
    assert kind_of_line(b'{"userId": "KIOSK ", "anonymousId": "phone"}', person) == "theirs"
    assert kind_of_line(b'{"userId": "bob", "anonymousId": "phone"}', person) == "shared"
    events = pl.LazyFrame({"user_id": ["Kiosk", "bob"], "anonymous_id": ["phone", "phone"]})
    assert find_rows(events, person).select("row", "kind").rows() == [(0, "theirs"), (1, "shared")]


def test_an_id_of_theirs_is_theirs_in_every_field() -> None:
    """A user's id as an anonymous one, as our own name for a visitor, and as that in turn; not a visitor's id as a user's, and not
    one that is the anonymous id of somebody else."""
    bob, _ = identify("bob", MAP)
    for line in (
        {"anonymousId": "bob"},
        {"userId": "anon:bob"},
        {"anonymousId": "anon:bob"},
        {"userId": "anon:tablet"},
        {"customer_id": "anon:bob"},
    ):
        assert kind_of_line(json.dumps(line).encode(), bob) == "theirs"
        assert kind_of_line(json.dumps({"userId": "zoe", "previousId": next(iter(line.values()))}).encode(), bob) == "theirs"
    assert kind_of_line(b'{"userId": "tablet"}', bob) == "shared"
    assert kind_of_line(b'{"userId": "zoe", "anonymousId": "bob"}', bob) == "elsewhere"
    namesake = pl.concat([MAP, pl.LazyFrame([("anonymous", "bob", "ann")], schema=MAP.collect_schema().names(), orient="row")])
    other, _ = identify("bob", namesake)
    assert other.namesakes == {"bob"}
    assert kind_of_line(b'{"anonymousId": "bob"}', other) == "elsewhere"
    assert kind_of_line(b'{"anonymousId": "bob"}', identify("ann", namesake)[0]) == "theirs"


def test_fingerprints_are_hashes_of_kind_and_id() -> None:
    """What the tombstones keep is what ingest compares; a visitor's name may come as a userId."""
    anonymous = [name for one in ("ann", "ann-maiden", "phone") for name in (one, f"anon:{one}")]
    ids = ["user:ann", "user:ann-maiden", *(f"user:anon:{one}" for one in anonymous), *(f"anonymous:{one}" for one in anonymous)]
    assert ANN.fingerprints == sorted(hashlib.sha256(one.encode()).hexdigest() for one in ids)


LINES: list[tuple[object, Kind | None]] = [
    ({"userId": "ann"}, "theirs"),
    ({"user_id": "ann", "anonymous_id": "tablet"}, "theirs"),
    ({"userId": None, "anonymousId": "phone"}, "theirs"),
    ({"userId": "null", "anonymousId": "phone"}, "theirs"),
    ({"userId": "bob", "previousId": "ann-maiden"}, "theirs"),
    ({"userId": "bob", "previousId": "phone"}, "theirs"),
    ({"userId": "anon:phone", "anonymousId": "tablet"}, "theirs"),
    ({"customer_id": "anon:phone", "content": "hello"}, "theirs"),
    ({"type": "track", "properties": {"email": "ann"}}, "theirs"),
    (b'{"userId": "ann", "properties": ', "theirs"),
    (b'{"userId": "\\u0061nn", ', "theirs"),
    (b'\xef\xbb\xbf{"userId": "\\u0061nn"}', "theirs"),
    ({"userId": "bob", "anonymousId": "phone"}, "shared"),
    ({"userId": "bob", "properties": {"seen": [{"device": "phone"}]}}, "shared"),
    ({"userId": "bob", "anonymousId": "phone", "properties": {"invited_by": "ann"}}, "elsewhere"),
    ({"userId": "bob", "properties": '{"invited_by": ["\\u0061nn"]}'}, "elsewhere"),
    ({"customer_id": "bob", "content": "ann"}, "elsewhere"),
    ({"userId": "bob", "properties": {"ann": 1}}, "elsewhere"),
    ({"userId": "phone"}, "shared"),
    ({"userId": "bob", "properties": {"text": "hannah said", "id": "anna", "mail": "joann@example.org"}}, None),
    ({"anonymousId": "tablet"}, None),
    (b"{broken", None),
]


@pytest.mark.parametrize(("line", "kind"), LINES)
def test_whose_a_line_is(line: object, kind: Kind | None) -> None:
    """An event is whose user id it carries; without one, whose anonymous id; a line of nobody's is theirs if it names them."""
    raw = line if isinstance(line, bytes) else json.dumps(line).encode()
    assert kind_of_line(raw, ANN) == kind
    found = find_lines([b"{}", raw], ANN)
    assert set(found.select("row", "kind").rows()) == (set() if kind is None else {(1, kind)})


IDS = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip("0- \t\r\n\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0") != "")


WRITTEN_OTHERWISE = {
    "42": (
        "\u0664\u0662|4 2|4\u200b2|\uff14\uff12|%34%32|%2534%2532|%252534%252532|4%E2%80%8B2|%u0034%u0032|%5Cu0034%5Cu0032|042|0042.00|42.0"
        "|\\u0034\\u0032|\\\\u0034\\\\u0032|\\uff14\\uff12|&#52;&#50;|user 42 said|https://shop.example/u/42?x=1|?u=42&v=1|user_42|order-42|42."
    ),
    "Ann+shop@Example.org": (
        "ann+shop@example.org| ANN@EXAMPLE.ORG |ann+news@example.org|ann%2Bshop%40example.org|Ann%252Bshop%2540Example.org"
        "|mailto:ann@example.org|<ann@example.org>|ann\\u0040example.org|ann\uff20example.org|ann\u00ad@example.org|ann`@`example.org"
    ),
    "j\u00fcrgen": "J\u00dcRGEN|ju\u0308rgen|j%C3%BCrgen|ju%CC%88rgen|J%C3%9CRGEN|j\\u00fcrgen|J\\u00DCRGEN|ju\\u0308rgen|J\u00fcrgen's",
    "\U0001f600a": "\\ud83d\\ude00a|%F0%9F%98%80A|so \U0001f600a",
    "stra\u00dfe": "STRASSE|Stra%C3%9Fe",
    "c1b2-77f0-ab": "xC1B2-77F0-ABx|c1b2%2D77f0%2Dab",
    "ann smith": " Ann  Smith|ann%20smith|annsmith|ann\u00a0smith",
}
OTHERS = {
    "42": "420|142|1.42|42.5|4.2|-42|a42|42a|2026-11-42|T10:42:00Z|2026-42-11|1,42",
    "Ann+shop@Example.org": "joann@example.org|ann@example.com|ann@example.organ|bob+ann@example.org",
    "j\u00fcrgen": "jurgen|j\u00fcrgens",
    "ann": "anna|johann|an|n",
    "00-ab-1234": "00-ab-123|0-ab-1234",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN_OTHERWISE)
def test_an_id_written_otherwise_is_told_and_never_removed(name: str) -> None:
    """Capitals, blanks, what takes no room, codes of addresses and of JSON, once and twice, digits of other shapes, longer text."""
    person = Person(frozenset({name}))
    for text in (*WRITTEN_OTHERWISE[name].split("|"), f" {name}", f"{name}\t", name.title() + "\u200d"):
        told = [(0, "elsewhere", "note", text[:80])]
        assert find_rows(pl.LazyFrame({"customer_id": ["bob"], "note": [text]}), person).rows() == told
        for line in (json.dumps({"userId": "bob", "n": [text]}), json.dumps({"userId": "bob", "n": [text]}, ensure_ascii=False)):
            assert find_lines([line.encode()], person).rows() == [(0, "elsewhere", "line", f"n: {text}"[:80])]
        assert find_rows(pl.LazyFrame({"customer_id": [text]}), person)["kind"].to_list() == ["elsewhere"]


@pytest.mark.parametrize("name", OTHERS)
def test_other_ids_and_numbers_are_left_alone(name: str) -> None:
    """A longer number or word, a date and a time are nobody; nor is another mailbox."""
    texts = OTHERS[name].split("|")
    assert find_rows(pl.LazyFrame({"note": texts}), Person(frozenset({name}))).rows() == []


def test_of_a_field_named_twice_both_values_are_told() -> None:
    """A decoder keeps the last; the other is in the file all the same."""
    twice = [b'{"userId": "ann", "userId": "bob"}', b'{"userId": "bob", "properties": {"of": "ann", "of": "b"}}']
    assert find_lines(twice, ANN).rows() == [(0, "elsewhere", "line", "userId: ann"), (1, "elsewhere", "line", "of: ann")]
    assert kind_of_line(b'{"userId": "bob", "userId": "ann"}', ANN) == "theirs"


def test_text_written_otherwise_is_found_in_nested_columns() -> None:
    """Lists, structs, lists of structs and JSON held as text, of other alphabets too; a number beside it is no reason."""
    found = rows(
        customer_id=["bob", "bob", "bob", "bob", "bob"],
        listed=[["ANN "], [], None, ["b"], ["b"]],
        state=[None, {"last": "so ann", "n": 1}, {"last": "b", "n": 2}, None, None],
        places=[None, None, [{"of": "%61nn"}], [{"of": "b"}], []],
        traits=[None, None, None, '{"a": {"b": ["\\uff21nn"]}}', '{"a": "annA"}'],
    )
    assert found == [(row, "elsewhere", column) for row, column in enumerate(("listed", "state", "places", "traits"))]


@pytest.mark.slow
@given(IDS, st.sampled_from(["upper", "percent", "json", "blank", "hidden", "word", "wide"]))
def test_whoever_writes_it_another_way_is_told(name: str, way: str) -> None:
    """Any id, in any of the ways: what ``plain`` makes of it is what it makes of the id, and it is found."""
    written = {
        "upper": name.upper() if name.upper().lower() == name.lower() else name,
        "percent": "".join(f"%{byte:02X}" for byte in name.encode()),
        "json": json.dumps(name)[1:-1],
        "blank": f" {name}\u00a0",
        "hidden": "\u200b".join(name),
        "word": f"so, {name} !",
        "wide": "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in name),
    }[way]
    spellings = Person(frozenset({name})).spellings
    assert not spellings.plain_ids or spellings.are_in(pl.Series([written])).all()


def rows(**columns: list[Any]) -> list[tuple[Any, ...]]:
    """What is found in a table of these columns."""
    return find_rows(pl.LazyFrame(columns, strict=False), ANN).drop("written").rows()


def test_rows_are_theirs_by_the_columns_a_table_has() -> None:
    """By customer, whatever the column is called; by the ids of events; by an id and its type. Rows of others stay."""
    assert rows(customer_id=["ann", "bob", "anon:phone", None], spend=[1.0, 2.0, 3.0, 4.0]) == [(0, "theirs", None), (2, "theirs", None)]
    assert rows(absorbed=["ann-maiden", "x"], survivor_customer_id=["ann", "bob"]) == [(0, "theirs", None)]
    assert rows(customer_id=["a name of before", "bob"], known_as=["ann", "bob"]) == [(0, "theirs", None)]
    assert rows(user_id=["bob", None, "-1", "ann"], anonymous_id=["phone", "phone", "phone", None]) == [
        (0, "shared", None),
        (1, "theirs", None),
        (2, "theirs", None),
        (3, "theirs", None),
    ]
    assert rows(id_type=["user", "anonymous", "user"], id=["ann", "phone", "bob"]) == [(0, "theirs", None), (1, "theirs", None)]
    assert rows(userId=["bob"], previousId=["ann"]) == [(0, "theirs", None)]
    assert rows(raw=['{"userId": "ann", ', '{"userId": "bob"}']) == [(0, "theirs", None)]
    assert rows(alpha=[0.5], fitted_on=[date(2026, 1, 1)]) == []


def test_an_id_that_is_a_number_is_found_as_number_and_as_text() -> None:
    """Exports write ids as they like; 42 is not 420 nor 4.2."""
    person = Person(frozenset({"42"}))
    lines = [
        b'{"userId": 42}',
        b'{"userId": "42"}',
        b'{"userId": 420, "properties": {"n": 4.2}}',
        b'{"userId": 1, "properties": {"n": 42}}',
    ]
    assert find_lines(lines, person).rows() == [(0, "theirs", None, None), (1, "theirs", None, None), (3, "elsewhere", "line", "n: 42")]
    assert find_rows(pl.LazyFrame({"user_id": [42, 1]}), person).rows() == [(0, "theirs", None, None)]
    assert find_rows(pl.LazyFrame({"user_id": [42.0, 42.5, None]}), person).rows() == [(0, "theirs", None, None)]


def test_text_is_found_in_nested_columns() -> None:
    """Lists, structs, lists of structs and JSON held as text are searched; the column that has it is told."""
    found = rows(
        customer_id=["bob", "bob", "bob", "bob", "bob"],
        listed=[["ann"], [], None, ["b"], ["b"]],
        state=[None, {"last": "ann", "n": 1}, {"last": "b", "n": 2}, None, None],
        places=[None, None, [{"of": "ann"}], [{"of": "b"}], []],
        traits=[None, None, None, '{"a": {"b": ["ann"]}}', '{"a": "annA"}'],
    )
    assert found == [(row, "elsewhere", column) for row, column in enumerate(("listed", "state", "places", "traits"))]


@pytest.mark.slow
@given(IDS, st.booleans(), st.integers(0, 2), st.data())
def test_an_id_is_found_however_json_spells_it_and_however_deep(name: str, is_ascii: bool, depth: int, data: st.DataObject) -> None:
    """Escaped or not, as value, in a list, in an object, or in JSON held as text: what json.dumps can write is found."""
    person = Person(frozenset({name}))
    held: object = name
    for _ in range(depth):
        held = data.draw(st.sampled_from([[1, held], {"k": held}, json.dumps(held, ensure_ascii=is_ascii)]))
    line = json.dumps({"userId": "somebody else", "properties": {"p": held}}, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    found = find_lines([line], person)["kind"].unique().to_list()
    assert found == ["theirs" if name == "somebody else" else "elsewhere"]
    rows = pl.LazyFrame({"customer_id": ["somebody else"], "traits": [json.dumps({"p": held}, ensure_ascii=is_ascii)]})
    assert find_rows(rows, person)["row"].unique().to_list() == [0]


def test_a_person_may_have_ten_thousand_ids() -> None:
    """Somebody whose browser keeps nothing is a new visitor each time; no pattern can hold them all."""
    person = Person(frozenset({"ann"}), frozenset(f"0b6e5d3c-7f4a-4c1e-9d2b-{number:012}" for number in range(10_000)))
    last, other = (f'{{"of": "0b6e5d3c-7f4a-4c1e-9d2b-{number:012}"}}' for number in (9_999, 10_000))
    rows = pl.LazyFrame({"user_id": ["ann", "bob", "bob"], "properties": [None, last, other]})
    assert find_rows(rows, person).select("row", "kind").rows() == [(0, "theirs"), (1, "shared")]
