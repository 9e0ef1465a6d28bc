"""Lots of an entry: who holds out, and which variant, by bucket; and what is remembered of them from day to day (SPEC 8, step 6; 11)."""

from datetime import date, timedelta

import polars as pl
import pytest

from atc_pipeline.decision.arms import draw
from atc_pipeline.decision.decide import Decided, decide
from atc_pipeline.decision.memory import complete, draw_again, merge, no_state
from atc_pipeline.decision.tables import JOURNEY_QUEUES, JOURNEY_STATE
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from tests.engine.reference import xxh64

TODAY = date(2026, 3, 30)
NAMES = [f"u{number}" for number in range(400)]


def portfolio(*journeys: str, policy: str = "{}", version: str = "1", days: int = 9) -> Portfolio:
    """Return journeys that everybody may enter."""
    listed = "".join(f"\n  - {{queue: {{where: 'true'}}, length_days: {days}, {journey}}}" for journey in journeys)
    text = f"version: '{version}'\ncalendar: {{timezone: UTC, starts_on: 2026-03-01}}\npolicy: {policy}\njourneys:{listed}\n"
    return resolve(parse_document(text, "journeys.yaml"))


def place(salt: str, name: str) -> int:
    """Return the bucket of a name."""
    return xxh64(f"{salt}:{name}") % 10_000


def drawn(of: Portfolio, journey: str = "j") -> dict[str, tuple[str, str | None, str | None]]:
    """Return what is drawn for each name: arm, who holds it out, variant."""
    rows = draw(pl.DataFrame({"arm_id": NAMES, "journey_id": journey}), of)
    return {name: (arm, who, variant) for name, _, arm, who, variant in rows.iter_rows()}


def decided(of: Portfolio, state: pl.DataFrame | None = None, today: date = TODAY, queued: tuple[str, ...] = ("j",)) -> Decided:
    """Decide for everybody, who are queued for these journeys."""
    rows = [(today, journey, name, today, 0) for journey in queued for name in sorted(NAMES)]
    return decide(
        pl.LazyFrame(rows, schema=JOURNEY_QUEUES.schema, orient="row"),
        pl.LazyFrame({"customer_id": sorted(NAMES)}),
        no_state() if state is None else state,
        pl.LazyFrame(schema={"customer_id": pl.String, "event": pl.String, "event_date": pl.Date}),
        of,
        today=today,
        shard=64,
    )


@pytest.mark.parametrize("version", [None, "2"])
def test_who_is_held_out_by_both_is_held_out_by_the_policy(version: str | None) -> None:
    """Policy before journey, each by its own salt; control is who is held out by either."""
    of_version = f", holdout_version: '{version}'" if version else ""
    lots = drawn(portfolio(f"id: j, holdout: 0.4{of_version}", policy="{holdout: 0.3}"))
    salt = f"j:{version}" if version else "j"
    for name, lot in lots.items():
        by_policy, by_journey = place("1", name) < 3_000, place(salt, name) < 4_000
        who = "policy" if by_policy else "journey" if by_journey else None
        assert lot == ("control" if who else "treated", who, None)
    assert {who for _, who, _ in lots.values()} == {None, "policy", "journey"}
    assert any(place("1", name) < 3_000 and place(salt, name) < 4_000 for name in NAMES)


def test_a_variant_is_drawn_by_the_cumulated_shares() -> None:
    """By a lot of its own, for control too; a journey without variants has none."""
    of = portfolio("id: j, holdout: 0.5, variants: {shares: {a: 0.2, b: 0.3, c: 0.5}}", "id: k")
    lots = drawn(of)
    for name, (_, _, variant) in lots.items():
        bucket = place("variant:j", name)
        assert variant == ("a" if bucket < 2_000 else "b" if bucket < 5_000 else "c")
    assert {(arm, variant) for arm, _, variant in lots.values()} == {(arm, name) for arm in ("control", "treated") for name in "abc"}
    assert {variant for _, _, variant in drawn(of, "k").values()} == {None}


def test_what_was_drawn_stays_as_it_was_while_the_file_changes() -> None:
    """Arm, who holds out and variant are the entry's: other holdouts, another version and other variants come later."""
    first = decided(portfolio("id: j, holdout: 0.5, variants: {shares: {a: 0.5, b: 0.5}}", policy="{holdout: 0.2}"))
    tomorrow = TODAY + timedelta(days=1)
    changed = portfolio("id: j, holdout: 0.0, variants: {shares: {x: 0.9, y: 0.1}}", version="other")
    after = decided(changed, first.state, tomorrow)
    columns = ["customer_id", "arm", "held_out_by", "variant"]
    entered = first.assignments.select(columns)
    assert after.assignments["decision"].unique().to_list() == ["continue"]
    assert after.assignments.select(columns).equals(entered)
    assert after.state.select(columns).equals(entered)
    assert entered["held_out_by"].unique().sort().to_list() == [None, "journey", "policy"]


def test_another_entry_is_drawn_by_the_file_of_its_day() -> None:
    """Who was treated and enters again is control where the holdout has grown, and of a variant where there are some by now."""
    again = "reentry: {after_days: 1, from: entry}"
    first = decided(portfolio(f"id: j, {again}", days=1))
    after = decided(
        portfolio(f"id: j, {again}, holdout: 0.9999, variants: {{shares: {{a: 0.5, b: 0.5}}}}", days=1),
        first.state,
        TODAY + timedelta(days=2),
    )
    assert set(first.state.select("arm", "held_out_by", "variant").rows()) == {("treated", None, None)}
    assert set(after.state.select("arm", "held_out_by").rows()) == {("control", "journey")}
    assert set(after.state["variant"]) == {"a", "b"}
    assert set(after.state["times_entered"]) == {2}


def test_an_entry_says_among_how_many_journeys_and_whether_by_lot() -> None:
    """``options`` are those that fail no gate and outrank none, ``is_drawn`` whoever explores; of others both are null."""
    of = portfolio("id: j, value: 1", "id: k, value: 2", "id: m, value: 0", policy="{score: value, none: '0.5', explore: 0.5}")
    done = decided(of, queued=("j", "k", "m"))
    explores = [place("explore", f"{name}:{TODAY}") < 5_000 for name in done.assignments["customer_id"]]
    assert set(done.assignments["options"]) == {2}  # m is no better than none
    assert done.assignments["is_drawn"].to_list() == explores
    assert 100 < sum(explores) < 300
    after = decided(of, done.state, TODAY + timedelta(days=1), queued=())
    assert set(after.assignments.select("options", "is_drawn").rows()) == {(None, None)}


def test_a_switch_counts_what_may_not_interrupt_too() -> None:
    """They fail no gate and outrank none: the choice was among them."""
    first = decided(portfolio("id: j, value: 1", policy="{score: value}"))
    of = portfolio("id: j, value: 1", "id: k, value: 9, can_interrupt: true", "id: m, value: 5", policy="{score: value}")
    done = decided(of, first.state, TODAY + timedelta(days=1), queued=("j", "k", "m"))
    assert set(done.assignments.select("decision", "journey_id", "options", "is_drawn").rows()) == {("switch", "k", 2, False)}


def test_memory_of_an_older_version_is_drawn_again() -> None:
    """It kept the arm and not who holds out: the lot says so; null stays who is held out by neither any more, and whoever is treated."""
    of = portfolio("id: j, holdout: 0.4", policy="{holdout: 0.3}")
    kept = decided(of).state
    older = kept.drop("held_out_by", "variant").lazy()
    nobody = pl.LazyFrame(schema={"customer_id": pl.String, "arm_id": pl.String})
    assert draw_again(complete(older).collect(), nobody, of).equals(kept)
    fewer = portfolio("id: j, holdout: 0.0", policy="{holdout: 0.3}")
    again = draw_again(complete(older).collect(), nobody, fewer)
    assert set(again["held_out_by"]) == {None, "policy"}
    assert again["arm"].equals(kept["arm"])


def test_memory_of_an_older_version_is_drawn_by_the_name_first_known() -> None:
    """As lots always are (SPEC 2)."""
    of = portfolio("id: j, holdout: 0.4")
    named = pl.LazyFrame({"customer_id": NAMES, "arm_id": [f"anon:{name}" for name in NAMES]})
    lost = decided(of).state.with_columns(arm=pl.lit("control"), held_out_by=None).cast(JOURNEY_STATE.schema)
    again = draw_again(lost, named, of)
    expected = {name: "journey" if place("j", f"anon:{name}") < 4_000 else None for name in NAMES}
    assert dict(again.select("customer_id", "held_out_by").iter_rows()) == expected


def test_of_merged_customers_the_entry_that_goes_on_keeps_its_lots() -> None:
    """Arm, who holds out and variant are of one entry, and never of two."""
    of = portfolio("id: j, holdout: 0.5, variants: {shares: {a: 0.5, b: 0.5}}")
    state = decided(of).state
    lots = {name: row for name, *row in state.select("customer_id", "arm", "held_out_by", "variant").iter_rows()}
    pairs = [(old, new) for old in NAMES[:30] for new in NAMES[30:60] if lots[old][0] != lots[new][0] and lots[old][2] != lots[new][2]]
    old, new = pairs[0]
    absorbed = pl.LazyFrame({"absorbed": [old], "customer_id": [new], "valid_from": [TODAY]})
    earlier = state.filter(pl.col("customer_id") != new)
    for before, whose in ((state, new), (earlier, old)):  # the survivor's own goes on; without one, what came
        rows = merge(before, absorbed, today=TODAY + timedelta(days=1)).filter(customer_id=new)
        assert rows.select("arm", "held_out_by", "variant").rows() == [tuple(lots[whose])]
