"""Audiences: who is a member, what they are known by, and that what was acknowledged and what differs are the members."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atc_pipeline.activation import audiences, differences, identifiers
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.resolution import load_portfolio
from tests.engine import reference

TODAY = date(2026, 3, 10)
NOW = datetime(2026, 3, 11, 5, tzinfo=UTC)
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-03-01}
channels:
  email: {consent: opt_in, medium: email, to: address}
  sms: {consent: opt_in, to: phone}
  ads: {consent: opt_in, medium: audience}
traits:
  address: {profile: email, type: string}
  phone: {profile: phone, type: string}
  spend: {sum: revenue, of: Order Completed}
segments:
  buyers: "spend > 0"
journeys:
  - {id: club, length_days: 5, queue: {any: [buyers]}}
audiences:
  in_club: {journey: club, channel: ads, match: [address, phone], fields: [spend], to: [meta, google]}
  buying: {segment: buyers, channel: ads, match: [address], to: [meta], leave: keep}
publish: {to: [crm], traits: [spend]}
"""


def portfolio(folder: Path, text: str = JOURNEYS) -> Portfolio:
    """The portfolio of a file."""
    path = folder / "journeys.yaml"
    path.write_text(text)
    return load_portfolio(path)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Portfolio:
    """Two audiences, and the one answer published."""
    return portfolio(tmp_path_factory.mktemp("audiences"))


def sha(text: str) -> str:
    """What a destination hashes."""
    return hashlib.sha256(text.encode()).hexdigest()


PROFILES = {"customer_id": pl.String, "consent_ads": pl.Boolean, "address": pl.String, "phone": pl.String, "spend": pl.Float64}
ASSIGNMENTS = {
    "customer_id": pl.String, "journey_id": pl.String, "arm": pl.String, "entered_on": pl.Date, "ends_on": pl.Date,
    "decision": pl.String, "ended_journey_id": pl.String,
}  # fmt: skip
Person = Mapping[str, object]


def members_of(config: Portfolio, people: Sequence[Person]) -> pl.DataFrame:
    """Today's members, of people with all that is known of each."""
    return audiences.write_members(
        *upstream(people), pl.LazyFrame(schema={"customer_id": pl.String, "arm_id": pl.String}), config, today=TODAY
    ).collect()


def upstream(people: Sequence[Person]) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame]:
    """Return the profiles, assignments and memberships of people."""
    rows = [
        {"consent_ads": True, "address": "a@x.example", "phone": None, "spend": 1.0, "journey_id": "club", "arm": "treated"} | dict(person)
        for person in people
    ]
    frame = pl.LazyFrame(rows, schema=PROFILES | ASSIGNMENTS)
    segments = frame.filter(pl.col("spend") > 0).select("customer_id", segment_id=pl.lit("buyers"))
    return frame.select(*PROFILES), frame.select(*ASSIGNMENTS), segments


@pytest.mark.parametrize(
    ("person", "expected"),
    [
        pytest.param({}, {"in_club", "buying"}, id="treated, with consent"),
        pytest.param({"arm": "control"}, set(), id="control is in no audience, whether of a journey or of a segment"),
        pytest.param({"journey_id": None, "arm": None}, {"buying"}, id="in no journey"),
        pytest.param({"spend": 0.0}, {"in_club"}, id="not in the segment"),
        pytest.param({"consent_ads": None}, set(), id="consent never given"),
        pytest.param({"consent_ads": False}, set(), id="consent withdrawn"),
        pytest.param({"address": None}, set(), id="nothing to be known by"),
        pytest.param({"address": " "}, set(), id="normalises to nothing"),
        pytest.param({"address": None, "phone": "+49 171 2345678"}, {"in_club"}, id="one of several is enough"),
        pytest.param({"address": sha("a@x.example").upper()}, set(), id="hashed already"),
    ],
)
def test_who_is_a_member(config: Portfolio, person: Person, expected: set[str]) -> None:
    """Treated in the journey or in the segment, with the channel's consent, and something to be known by."""
    assert set(members_of(config, [{"customer_id": "c1"} | dict(person)])["audience_id"]) == expected


def test_who_is_held_out_of_everything_is_in_no_audience(tmp_path: Path) -> None:
    """Also while in no journey, where nobody has an arm: by the lot that everything is held out by, under the name they were drawn by."""
    config = portfolio(tmp_path, JOURNEYS + "policy: {holdout: 0.5}\n")
    people = [{"customer_id": f"c{number}", "journey_id": None, "arm": None} for number in range(100)]
    expected = {f"c{number}" for number in range(100) if reference.xxh64(f"1:c{number}") % 10_000 >= 5_000}
    assert set(members_of(config, people)["customer_id"]) == expected
    assert 20 < len(expected) < 80


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("address", " Ann@X.Example\t", {"email": "ann@x.example"}),
        ("address", "", {}),
        ("phone", "+49 (0)171 / 234-5678", {"phone": "+491712345678", "phone_digits": "491712345678"}),
        ("phone", "0049171 2345678", {"phone": "+491712345678", "phone_digits": "491712345678"}),
        ("phone", "0171 2345678", {}),
        ("phone", "+12", {}),
        ("phone", "+" + "1" * 16, {}),
        ("loyalty_card", " A-17 ", {"id": "A-17"}),
        ("work_email", "B@x.example", {"email": "b@x.example"}),
    ],
)
def test_identifiers_are_normalised_and_hashed(config: Portfolio, column: str, text: str, expected: dict[str, str]) -> None:
    """As Google and Meta ask for; a phone number that does not say its country is nobody's."""
    written = pl.DataFrame({column: [text]}).select(identifiers.identifiers([column], config)).item()
    assert json.loads(written) == {name: sha(plain) for name, plain in expected.items()}


def test_two_columns_of_one_kind_are_both_told(config: Portfolio) -> None:
    """The second has a number."""
    written = (
        pl.DataFrame({"address": ["a@x"], "work_email": ["b@x"]}).select(identifiers.identifiers(["address", "work_email"], config)).item()
    )
    assert json.loads(written) == {"email": sha("a@x"), "email_2": sha("b@x")}


def test_what_is_told_of_a_member(config: Portfolio) -> None:
    """Hashes and fields as JSON, and a checksum that changes with either."""
    rows = members_of(config, [{"customer_id": "c1"}, {"customer_id": "c2", "spend": 2.0}, {"customer_id": "c3", "address": "b@x.example"}])
    club = rows.filter(pl.col("audience_id") == "in_club")
    assert [json.loads(text) for text in club["fields"]] == [{"spend": 1.0}, {"spend": 2.0}, {"spend": 1.0}]
    assert club["checksum"].n_unique() == 3
    assert rows.filter(pl.col("audience_id") == "buying")["fields"].null_count() == 3


def test_changes_are_those_of_the_reference(config: Portfolio) -> None:  # noqa: ARG001
    """Who starts or switches has entered; whose journey ended has left it."""
    rows = [
        {"customer_id": "a", "decision": "start", "journey_id": "club", "ended_journey_id": None},
        {"customer_id": "b", "decision": "switch", "journey_id": "club", "ended_journey_id": "tea"},
        {"customer_id": "c", "decision": "none", "journey_id": None, "ended_journey_id": "club"},
        {"customer_id": "d", "decision": "continue", "journey_id": "club", "ended_journey_id": None},
    ]
    ours = audiences.audience_changes(pl.LazyFrame(rows), today=TODAY).collect()
    assert ours.to_dicts() == reference.audience_changes(rows, TODAY)


def known(rows: Sequence[tuple[str, str, str, str, str, datetime | None]]) -> pl.DataFrame:
    """What destinations have."""
    return pl.DataFrame(list(rows), schema=differences.MEMBERSHIP, orient="row")


def differing(
    config: Portfolio,
    people: Sequence[Person],
    has: pl.DataFrame,
    absorbed: Mapping[str, str] | None = None,
    erased: Sequence[str] = (),
) -> pl.DataFrame:
    """Today's differences of members."""
    wanted = differences.wanted_members(members_of(config, people).lazy(), config)
    names = pl.LazyFrame(
        {"absorbed": list(absorbed or {}), "customer_id": list((absorbed or {}).values())},
        schema={"absorbed": pl.String, "customer_id": pl.String},
    )
    gone = pl.Series([hashlib.sha256(f"user:{name}".encode()).hexdigest() for name in erased], dtype=pl.String)
    return differences.keep_shared(
        differences.differences(wanted, has.lazy(), upstream(people)[0], names, gone, config, today=TODAY), wanted
    )


def told(config: Portfolio, people: Sequence[Person]) -> pl.DataFrame:
    """What destinations have when everybody was acknowledged."""
    wanted = differences.wanted_members(members_of(config, people).lazy(), config).collect()
    return wanted.select(*differences.KEY, "checksum", "identifiers", acknowledged_at=pl.lit(NOW)).cast(pl.Schema(differences.MEMBERSHIP))


ANN = {"customer_id": "ann", "address": "ann@x.example"}
IN_CLUB = pl.col("audience_id") == "in_club"


def told_of(rows: pl.DataFrame, destination: str = "meta") -> list[tuple[str, str, str]]:
    """Who is told of to a destination of the club."""
    return rows.filter(IN_CLUB & (pl.col("destination") == destination)).select("customer_id", "operation", "cause").rows()


def test_the_difference_is_against_what_was_acknowledged(config: Portfolio) -> None:
    """Everybody at first; nobody when all was acknowledged; and again who was told of and never acknowledged."""
    first = differing(config, [ANN], known([]))
    assert told_of(first) == told_of(first, "google") == [("ann", "add", "member")]
    has = told(config, [ANN])
    assert differing(config, [ANN], has).is_empty()
    unsure = has.with_columns(acknowledged_at=pl.lit(None, pl.Datetime("us", "UTC")))
    assert told_of(differing(config, [ANN], unsure)) == [("ann", "add", "member")]


@pytest.mark.parametrize(
    ("person", "absorbed", "erased", "expected"),
    [
        pytest.param({"journey_id": None, "arm": None}, {}, [], ("remove", "left"), id="left"),
        pytest.param({"arm": "control"}, {}, [], ("remove", "left"), id="is control now"),
        pytest.param({"consent_ads": False}, {}, [], ("remove", "consent"), id="withdrew consent"),
        pytest.param({"customer_id": "bob", "arm": None}, {}, ["ann"], ("remove", "erased"), id="erased"),
        pytest.param({"customer_id": "bob"}, {"ann": "bob"}, [], ("remove", "changed"), id="is somebody who is a member"),
        pytest.param(
            {"customer_id": "bob", "consent_ads": False}, {"ann": "bob"}, [], ("remove", "consent"), id="is somebody without consent"
        ),
        pytest.param({"customer_id": "bob", "journey_id": None}, {"ann": "bob"}, [], ("remove", "left"), id="is somebody who left"),
        pytest.param({"address": "new@x.example"}, {}, [], ("update", "changed"), id="another address"),
        pytest.param({"spend": 2.0}, {}, [], ("update", "changed"), id="another field"),
    ],
)
def test_why_somebody_is_told_of(
    config: Portfolio, person: Person, absorbed: dict[str, str], erased: list[str], expected: tuple[str, str]
) -> None:
    """The operation and its cause."""
    rows = differing(config, [ANN | dict(person)], told(config, [ANN]), absorbed, erased)
    assert ("ann", *expected) in told_of(rows)


def test_an_audience_that_keeps_loses_by_consent_and_erasure_alone(config: Portfolio) -> None:
    """Whoever merely left stays."""
    has = told(config, [ANN])
    of_buying = pl.col("audience_id") == "buying"
    assert differing(config, [ANN | {"spend": 0.0}], has).filter(of_buying).is_empty()
    assert differing(config, [ANN | {"consent_ads": False}], has).filter(of_buying)["cause"].to_list() == ["consent"]
    assert differing(config, [ANN | {"customer_id": "bob", "arm": "control"}], has, erased=["ann"]).filter(of_buying)[
        "cause"
    ].to_list() == ["erased"]


def test_what_is_removed_is_what_was_sent(config: Portfolio) -> None:
    """The old identifiers, though nobody has them any more; but not an address that somebody else is there by, too."""
    old = ANN | {"phone": "+491712345678"}
    rows = differing(config, [ANN | {"address": "new@x.example"}], told(config, [old])).filter(IN_CLUB & (pl.col("destination") == "meta"))
    sent = {"email": sha("ann@x.example"), "phone": sha("+491712345678"), "phone_digits": sha("491712345678")}
    assert json.loads(rows["sent"].item()) == sent
    assert json.loads(rows["identifiers"].item()) == {"email": sha("new@x.example")}
    family = differing(
        config, [ANN | {"customer_id": "bob"}, old | {"journey_id": None}], told(config, [old, ANN | {"customer_id": "bob"}])
    )
    (left,) = family.filter(IN_CLUB & (pl.col("destination") == "meta"))["sent"]
    assert json.loads(left) == {name: text for name, text in sent.items() if name != "email"}


def test_an_audience_that_is_no_more_is_emptied(tmp_path: Path, config: Portfolio) -> None:
    """Nobody is a member of it, wherever it was kept; and so it is with a destination that is not named any more."""
    has = told(config, [ANN])
    fewer = portfolio(tmp_path, JOURNEYS.replace("to: [meta, google]", "to: [meta]").replace("  buying:", "  bought:"))
    rows = differing(fewer, [ANN], has).filter(pl.col("operation") == "remove")
    assert rows.select("audience_id", "destination", "cause").rows() == [("buying", "meta", "left"), ("in_club", "google", "left")]


@pytest.mark.parametrize(
    ("members", "leaving", "cause", "accepted", "is_held"),
    [
        (505, 101, "left", [], False),
        (504, 101, "left", [], True),
        (100, 100, "left", [], False),
        (504, 101, "left", ["in_club"], False),
        (504, 101, "consent", [], False),
    ],
)
def test_an_audience_that_would_be_emptied_is_held(
    config: Portfolio, members: int, leaving: int, cause: str, accepted: list[str], is_held: bool
) -> None:
    """More than 20 % and more than 100 for no reason of their own; the figures say how many. All else goes on."""
    people = [{"customer_id": f"c{number:04}", "address": f"{number}@x.example", "spend": 0.0} for number in range(members)]
    gone = {"journey_id": None} if cause == "left" else {"consent_ads": False}
    now = [person | (gone if number < leaving else {}) for number, person in enumerate(people)]
    has = told(config, people).filter(pl.col("destination") == "meta")
    rows, held = differences.hold(differing(config, now, has), has.lazy(), accepted)
    assert held.rows() == ([("in_club", "meta", members, leaving)] if is_held else [])
    removed = rows.filter(pl.col("operation") == "remove")
    assert removed["status"].to_list() == ["held" if is_held else None] * leaving
    assert rows.filter(pl.col("operation") != "remove")["status"].null_count() == members - leaving


def test_the_one_answer_is_told_where_it_changed(config: Portfolio) -> None:
    """Of a customer in a journey, with the traits that are published and never the arm; control is as if in none; and once out, nulls."""
    day = date(2026, 3, 8)
    people = [
        {"customer_id": name, "entered_on": day, "ends_on": TODAY, "arm": arm} for name, arm in (("ann", "treated"), ("con", "control"))
    ]
    profiles, assignments, _ = upstream(people)
    wanted = differences.wanted_answers(assignments, profiles, config).collect()
    assert [json.loads(text) for text in wanted["fields"]] == [
        {"journey": "club", "journey_entered_on": "2026-03-08", "journey_ends_on": "2026-03-10", "spend": 1.0}
    ]
    has = wanted.select(*differences.KEY, "checksum", "identifiers", acknowledged_at=pl.lit(NOW)).cast(pl.Schema(differences.MEMBERSHIP))

    def again(**now: object) -> list[tuple[object, ...]]:
        profiles, assignments, _ = upstream([people[0] | now])
        nobody = pl.LazyFrame(schema={"absorbed": pl.String, "customer_id": pl.String})
        rows = differences.differences(
            differences.wanted_answers(assignments, profiles, config),
            has.lazy(),
            profiles,
            nobody,
            pl.Series(dtype=pl.String),
            config,
            today=TODAY,
        )
        return rows.select("customer_id", "operation", "fields").rows()

    assert again() == again(spend=9.0) == []
    assert again(entered_on=TODAY)[0][:2] == ("ann", "update")
    assert again(journey_id=None) == [("ann", "remove", differences.NO_ANSWER)]
    assert again(arm="control") == [("ann", "remove", differences.NO_ANSWER)]


def test_the_name_of_an_answer_is_as_the_contract_says() -> None:
    """Sixteen hexadecimal digits of the destination, the customer and the day."""
    frame = pl.DataFrame({"destination": ["crm"], "customer_id": ["c1"], "date": [TODAY]})
    name = frame.select(differences.message_id("destination", "customer_id", "date")).item()
    assert name == f"{reference.xxh64('answer:crm:c1:2026-03-10'):016x}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (JOURNEYS.replace("ads: {consent: opt_in,", "ads: {consent: none,"), "asks for no consent"),
        (JOURNEYS.replace("  buying:", "  answer:"), "is what the one answer is called"),
    ],
)
def test_an_audience_without_consent_or_with_a_taken_name_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """At load, with the field."""
    with pytest.raises(JourneysError, match=says):
        portfolio(tmp_path, text)


STATE = st.sampled_from(["out", "in", "changed", "no consent", "control"])


@settings(max_examples=25)
@given(st.lists(st.lists(STATE, min_size=4, max_size=4), min_size=1, max_size=5), st.data())
def test_acknowledged_and_differences_are_members(config: Portfolio, days: list[list[str]], data: st.DataObject) -> None:
    """Whatever becomes of each difference on each day: with what still differs, a destination would have exactly the members."""
    has = known([])
    for states in days:
        people = [
            {"customer_id": f"c{number}", "address": f"{'new' if state == 'changed' else number}@x.example", "spend": 0.0}
            | {"out": {"journey_id": None}, "no consent": {"consent_ads": False}, "control": {"arm": "control"}}.get(state, {})
            for number, state in enumerate(states)
        ]
        wanted = differences.wanted_members(members_of(config, people).lazy(), config).collect()
        rows = differing(config, people, has)
        removed = rows.filter(pl.col("operation") == "remove").select(differences.KEY)
        coming = rows.filter(pl.col("operation") != "remove")
        sure = has.filter(pl.col("acknowledged_at").is_not_null())
        then = pl.concat(
            [
                sure.join(removed, on=differences.KEY, how="anti")
                .join(coming, on=differences.KEY, how="anti")
                .select(*differences.KEY, "checksum"),
                coming.select(*differences.KEY, "checksum"),
            ]
        )
        assert sorted(then.rows()) == sorted(wanted.select(*differences.KEY, "checksum").rows())
        is_done = pl.Series("is_done", [data.draw(st.booleans()) for _ in range(rows.height)], dtype=pl.Boolean)
        done = rows.with_columns(is_done).filter("is_done")
        added = done.filter(pl.col("operation") != "remove").select(
            *differences.KEY, "checksum", "identifiers", acknowledged_at=pl.lit(NOW)
        )
        has = pl.concat([has.join(done, on=differences.KEY, how="anti"), added.cast(pl.Schema(differences.MEMBERSHIP))])
