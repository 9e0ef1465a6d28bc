"""Uplift: who counts, against whom, and what is said of it (SPEC 11)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.outcomes.tables import UPLIFT, long_outcomes
from atc_pipeline.outcomes.uplift import Evidence, estimate_uplift
from tests.engine.outcomes.entries import FIRST, TODAY, World, portfolio

MONEY = "money: revenue"
PLAIN = portfolio()


def changed(evidence: Evidence, change: Callable[[pl.LazyFrame], pl.LazyFrame], of: str = "outcomes") -> Evidence:
    """The same evidence with one frame otherwise."""
    return replace(evidence, **{of: change(getattr(evidence, of))})


def row_of(
    evidence: Evidence, of: Portfolio = PLAIN, metric: str = "revenue", slice_: str = "all", journey: str = "j0"
) -> dict[str, object]:
    """What is said of a journey."""
    rows = estimate_uplift(evidence, of, today=TODAY)
    (row,) = rows.filter(journey_id=journey, metric=metric, slice=slice_).to_dicts()
    return row


def test_what_helps_is_said_to_help() -> None:
    """A planted effect of 8 is within both intervals; an A/A journey beside it cannot be told from nothing."""
    of = portfolio(2, measurement=f"{MONEY}, margin: 0.5")
    evidence = World(of, effect={"j0": 8.0}).evidence()
    helps, nothing = (row_of(evidence, of, journey=name) for name in ("j0", "j1"))
    assert (helps["verdict"], nothing["verdict"]) == ("helps", "undecided")
    assert helps["anytime_low"] < helps["fixed_low"] < 8 < helps["fixed_high"] < helps["anytime_high"]  # type: ignore[operator]
    assert helps["total"] == pytest.approx(helps["effect"] * helps["treated"])  # type: ignore[operator]
    assert helps["given_up"] == pytest.approx(helps["effect"] * helps["control"])  # type: ignore[operator]
    assert nothing["verdict_reason"].startswith("we cannot tell yet: 27% is the smallest change")  # type: ignore[attr-defined]


def test_what_harms_is_said_to_harm() -> None:
    """The sign says which."""
    assert row_of(World(PLAIN, effect={"j0": -9.0}).evidence())["verdict"] == "harms"


def test_the_order_of_rows_is_no_matter() -> None:
    """Every number is the same, to the last bit, and whether frames come in one piece or in many."""
    of = portfolio(3, measurement=f"{MONEY}, guardrails: [opted_out, csat], cap_at: 0.99")
    evidence = World(of, effect={"j0": 8.0}).evidence()
    expected = estimate_uplift(evidence, of, today=TODAY)
    shuffled = replace(
        evidence, entries=evidence.entries.collect().sample(fraction=1, shuffle=True, seed=1).lazy(), outcomes=evidence.outcomes.reverse()
    )
    pieces = changed(evidence, lambda rows: pl.concat([part.lazy() for part in rows.collect().iter_slices(701)][::-1]))
    for other in (shuffled, pieces):
        assert_frame_equal(estimate_uplift(other, of, today=TODAY), expected, check_exact=True)


def test_the_table_is_as_it_says() -> None:
    """Its columns in order, sorted by its key, each key once."""
    of = portfolio(2)
    rows = estimate_uplift(World(of).evidence(), of, today=TODAY)
    assert rows.schema == UPLIFT.schema
    assert_frame_equal(rows, rows.sort(UPLIFT.key))
    assert rows.select(UPLIFT.key).is_unique().all()


def test_whom_the_policy_holds_out_is_of_no_journey() -> None:
    """Those of them who come to a journey are other people than those who are held out of it alone."""
    evidence = World(PLAIN).evidence()
    expected = row_of(evidence)

    def with_more(rows: pl.LazyFrame) -> pl.LazyFrame:
        names = {name: pl.concat_str(name, pl.lit("'")) for name in ("customer_id", "known_as") if name in rows.collect_schema()}
        return pl.concat([rows, rows.with_columns(**names, arm=pl.lit("control"), held_out_by=pl.lit("policy"))])

    assert row_of(replace(evidence, outcomes=with_more(evidence.outcomes), entries=with_more(evidence.entries))) == expected


def test_entries_again_are_no_customers_more() -> None:
    """Whoever enters once more is the same customer: the first entry counts."""
    evidence = World(PLAIN).evidence()
    more = evidence.outcomes.with_columns(entry_number=pl.lit(2, pl.Int64), revenue=pl.lit(9e6))
    assert row_of(changed(evidence, lambda rows: pl.concat([rows, more]))) == row_of(evidence)


def test_what_has_not_matured_is_counted_and_no_more() -> None:
    """Entries of the last window and the days waited for late events."""
    evidence = World(PLAIN).evidence()
    young = evidence.entries.filter(pl.col("date") > TODAY - timedelta(days=17)).collect().height
    assert row_of(evidence)["immature"] == young > 0


def test_both_of_two_who_are_one_by_now_are_left_out() -> None:
    """Also where both of them matured before that was known."""
    evidence = World(PLAIN).evidence()
    rows = evidence.outcomes.collect()
    treated, control = (rows.filter(pl.col("arm") == arm)["customer_id"][0] for arm in ("treated", "control"))
    is_merged = pl.col("customer_id") == control
    known_as = pl.when(is_merged).then(pl.lit(treated)).otherwise("customer_id")
    row, before = row_of(changed(evidence, lambda frame: frame.with_columns(known_as=known_as), "entries")), row_of(evidence)
    assert (row["contaminated"], row["unstable"]) == (2, 0)
    assert (row["treated"], row["control"]) == (before["treated"] - 1, before["control"] - 1)  # type: ignore[operator]


def test_two_who_are_one_by_now_count_once() -> None:
    """In one arm there is nothing to doubt, and only one of them."""
    evidence = World(PLAIN).evidence()
    first, second = evidence.outcomes.filter(arm="control").collect()["customer_id"][:2]
    known_as = pl.col("customer_id").replace(second, first)
    row, before = row_of(changed(evidence, lambda frame: frame.with_columns(known_as=known_as), "entries")), row_of(evidence)
    assert (row["contaminated"], row["control"]) == (0, before["control"] - 1)  # type: ignore[operator]


def test_whoever_is_in_both_arms_breaks_the_comparison() -> None:
    """Two first entries of one customer under one name, in two arms."""
    evidence = World(PLAIN).evidence()
    twice = evidence.entries.filter(arm="treated").head(1).with_columns(arm=pl.lit("control"), held_out_by=pl.lit("journey"))
    row = row_of(changed(evidence, lambda rows: pl.concat([rows, twice]), "entries"))
    assert (row["verdict"], row["unstable"]) == ("broken", 1)
    assert "arms_are_stable" in str(row["verdict_reason"])


def test_messages_to_control_break_the_comparison() -> None:
    """By what outcomes say; and of entries that have not matured, by what was seen."""
    evidence = World(PLAIN).evidence()
    delivered = pl.when((pl.col("arm") == "control") & (pl.col("entered_on") == FIRST)).then(1).otherwise("delivered").cast(pl.Int64)
    for broken in (
        changed(evidence, lambda rows: rows.with_columns(delivered.alias("delivered"))),
        replace(evidence, sent_to_control={"j0": 3}),
    ):
        row = row_of(broken)
        assert row["verdict"] == "broken"
        assert "control_is_silent" in str(row["verdict_reason"])


def test_an_uneven_split_breaks_the_comparison() -> None:
    """Where half was to be held out and a tenth less was."""
    row = row_of(World(PLAIN, held_out=0.45).evidence())
    assert row["verdict"] == "broken"
    assert "sample_ratio" in str(row["verdict_reason"])


def test_shares_that_were_changed_are_strata() -> None:
    """Half the entries under another share: the split is fine by each, and would not be by either."""
    evidence = World(portfolio(holdout=0.2)).evidence()
    other = World(portfolio(holdout=0.6), seed=2).evidence()

    def renamed(frame: pl.LazyFrame) -> pl.LazyFrame:
        name = pl.concat_str("customer_id", pl.lit("'"))
        return frame.with_columns(customer_id=name, **({"known_as": name} if "known_as" in frame.collect_schema() else {}))

    both = replace(
        evidence,
        entries=pl.concat([evidence.entries, renamed(other.entries)]),
        outcomes=pl.concat([evidence.outcomes, renamed(other.outcomes)]),
    )
    assert row_of(both)["sample_ratio_p"] > 0.001  # type: ignore[operator]
    assert row_of(both)["verdict"] == "undecided"


def test_arms_that_differed_before_break_the_comparison() -> None:
    """Control brought more than half as much again before anything was sent."""
    evidence = World(PLAIN).evidence()
    more = pl.col("revenue_before") * pl.when(pl.col("arm") == "control").then(1.6).otherwise(1.0)
    row = row_of(changed(evidence, lambda rows: rows.with_columns(revenue_before=more)))
    assert row["verdict"] == "broken"
    assert "alike_before" in str(row["verdict_reason"])


def test_without_a_holdout_nothing_is_proved() -> None:
    """What is observed is told, and no estimate."""
    of = portfolio(holdout=0.0)
    row = row_of(World(of).evidence(), of)
    assert row["verdict"] == "no_holdout"
    assert row["mean_treated"] is not None
    assert (row["effect"], row["control"], row["p_adjusted"]) == (None, 0, None)


def test_before_anything_has_matured_it_is_too_early() -> None:
    """Each journey and metric has a row from the first day on."""
    evidence = World(PLAIN).evidence()
    row = row_of(changed(evidence, lambda rows: rows.clear()))
    assert (row["verdict"], row["treated"]) == ("too_early", 0)
    assert row["immature"] > 0  # type: ignore[operator]


def test_sparse_money_is_too_early() -> None:
    """Two hundred in control of whom hardly any buys."""
    of = portfolio(holdout=0.1)
    row = row_of(World(of, buyers=0.006, effect={}).evidence(), of)
    assert row["verdict"] == "too_early"


def test_a_week_must_have_matured() -> None:
    """However many enter in six days."""
    evidence = World(PLAIN, effect={"j0": 40.0}, customers=12_000).evidence()
    six_days = changed(evidence, lambda rows: rows.filter(pl.col("entered_on") < FIRST + timedelta(days=6)))
    assert row_of(six_days)["verdict_reason"] == "no full week of entries has matured"
    assert row_of(changed(evidence, lambda rows: rows.filter(pl.col("entered_on") < FIRST + timedelta(days=7))))["verdict"] == "helps"


def test_guardrails_are_asked_about_harm_alone() -> None:
    """More who opt out is harm; fewer is none, however clear."""
    of = portfolio(measurement=f"{MONEY}, guardrails: [opted_out]")
    evidence = World(of, customers=8_000).evidence()

    def with_more(arm: str) -> Evidence:
        more = pl.when((pl.col("arm") == arm) & (pl.col("revenue_before") > 60)).then(1.0).otherwise("opted_out")
        return changed(evidence, lambda rows: rows.with_columns(opted_out=more))

    assert row_of(with_more("treated"), of, "opted_out")["verdict"] == "harms"
    assert row_of(with_more("control"), of, "opted_out")["verdict"] == "harmless"


def test_the_narrow_interval_decides_on_its_day_alone() -> None:
    """An effect that one look would see is said to help on ``decide_on``, and on no other day."""
    verdicts = {}
    for day in (TODAY, TODAY - timedelta(days=1)):
        of = portfolio(of_journey=f", measure: {{decide_on: {day}}}")
        verdicts[day] = row_of(World(of, effect={"j0": 5.0}).evidence(), of)["verdict"]
    assert list(verdicts.values()) == ["helps", "undecided"]


def test_the_family_is_asked_together() -> None:
    """Of one journey beside nineteen without an effect the p is that of the first of twenty."""
    of = portfolio(20)
    row = row_of(World(of, customers=400, effect={"j0": 8.0}).evidence(), of)
    assert row["p_adjusted"] == pytest.approx(min(1, row["p_anytime"] * 20))  # type: ignore[operator]


def test_a_metric_that_was_not_asked_about_has_no_verdict() -> None:
    """Nor have slices: they are exploratory."""
    of = portfolio()
    rows = estimate_uplift(World(of, effect={"j0": 9.0}).evidence(), of, today=TODAY)
    others = rows.filter((pl.col("journey_id") == "j0") & ((pl.col("metric") != "revenue") | (pl.col("slice") != "all")))
    assert others.height > 5
    assert set(others["verdict"]) == {"exploratory"}


def test_slices_are_the_whole_cut_up() -> None:
    """By month all customers are there once; by segment as often as they are in some."""
    rows = estimate_uplift(World(PLAIN).evidence(), PLAIN, today=TODAY).filter(pl.col("metric") == "revenue")

    def counted(prefix: str) -> int:
        return int(rows.filter(pl.col("slice").str.starts_with(prefix)).select(pl.col("treated").sum()).item())

    whole = counted("all")
    assert (counted("month:"), counted("channel:"), counted("segment:")) == (whole, whole, 2 * whole)


def test_variants_are_compared_with_the_first_one_listed() -> None:
    """Among the treated; control is in none of them, though it is said which it would have been."""
    of = portfolio(of_journey=", variants: {shares: {a: 0.5, b: 0.5}}")
    evidence = World(of).evidence()
    is_b = pl.col("customer_id").str.tail(1).is_in(list("02468"))
    evidence = changed(
        evidence,
        lambda rows: rows.with_columns(
            variant=pl.when(is_b).then(pl.lit("b")).otherwise(pl.lit("a")),
            variant_probability=pl.lit(0.5),
            revenue=pl.col("revenue") + pl.when(is_b).then(5.0).otherwise(0.0),
        ),
    )
    row = row_of(evidence, of, slice_="variant:a/b")
    treated = evidence.outcomes.filter(pl.col("arm") == "treated").collect()
    assert row["treated"] == treated.filter(is_b).height
    assert row["control"] == treated.filter(~is_b).height
    assert row["fixed_low"] < 5 < row["fixed_high"]  # type: ignore[operator]


def test_money_is_cut_off_where_it_is_asked_for_and_told_as_it_is_beside_it() -> None:
    """At the quantile of both arms together."""
    of = portfolio(measurement=f"{MONEY}, cap_at: 0.95")
    evidence = World(of).evidence()
    most = evidence.outcomes.select(pl.col("revenue").quantile(0.95, "linear")).collect().item()
    capped, uncapped = row_of(evidence, of), row_of(evidence, of, "revenue:uncapped")
    control = evidence.outcomes.filter(pl.col("arm") == "control").select(pl.col("revenue").clip(upper_bound=most).mean()).collect().item()
    assert capped["mean_control"] == pytest.approx(control, rel=1e-6)
    assert uncapped["mean_control"] == row_of(evidence)["mean_control"] > control  # type: ignore[operator]
    assert (capped["verdict"], uncapped["verdict"]) == ("undecided", "exploratory")


def test_a_metric_that_older_days_have_not_is_told_of_those_that_have_it() -> None:
    """Who entered before it was measured is not counted as nothing."""
    evidence = World(PLAIN).evidence()
    is_old = pl.col("entered_on") < date(2026, 3, 1)
    row = row_of(changed(evidence, lambda rows: rows.with_columns(revenue=pl.when(~is_old).then("revenue"))))
    assert row["treated"] + row["control"] == evidence.outcomes.filter(~is_old).collect().height  # type: ignore[operator]


def system(of: Portfolio, *, effect: float = 6.0, n: int = 4_000, version: str = "1", seed: int = 1) -> Evidence:
    """Customers who entered any journey, a tenth of them held out of all; and what they brought in the long run and lately."""
    rng = np.random.default_rng(seed)
    is_control = rng.random(n) < 0.1
    worth = rng.gamma(1.0, 40.0, n)
    names = [f"c{number}" for number in range(n)]
    entered = [FIRST + timedelta(days=int(day)) for day in rng.integers(0, 180, n)]
    rows = pl.DataFrame(
        {
            "journey_id": ["system"] * n,
            "customer_id": names,
            "known_as": names,
            "entered_on": entered,
            "arm": np.where(is_control, "control", "treated"),
            "held_out_by": pl.Series(np.where(is_control, "policy", "")).replace("", None),
            "holdout": [0.1] * n,
            "version": [version] * n,
            "contaminated": [False] * n,
            "revenue": np.round(worth + np.where(is_control, 0, effect), 2),
            "revenue_before": np.round(worth * rng.gamma(2.0, 0.5, n), 2),
        }
    )
    schema = long_outcomes(of).schema
    long = rows.filter(pl.col("entered_on") + timedelta(days=93) <= TODAY).select(
        pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype).alias(name) for name, dtype in schema.items()
    )
    recent = rows.select("customer_id", "known_as", "entered_on", "arm", "holdout", money="revenue", money_before="revenue_before")
    empty = World(of, customers=1).evidence()
    return Evidence(empty.entries.clear(), empty.outcomes.clear(), long.lazy(), recent.lazy(), cost=10.0)


def test_the_whole_system_in_the_long_run_and_lately() -> None:
    """What it made, what holding out gave up, and lately what is left of it net of what messages cost."""
    of = portfolio(policy_holdout=0.1, measurement=f"{MONEY}, margin: 0.5")
    evidence = system(of)
    long, late = (row_of(evidence, of, slice_=slice_, journey="system") for slice_ in ("long", "run_rate"))
    assert (long["verdict"], late["verdict"]) == ("helps", "exploratory")
    assert long["fixed_low"] < 6 < long["fixed_high"]  # type: ignore[operator]
    assert late["net"] == pytest.approx(late["total"] * 0.5 - 10)  # type: ignore[operator]
    assert late["treated"] + late["control"] == 4_000 - late["immature"]  # type: ignore[operator]
    assert long["immature"] > late["immature"] > 0  # type: ignore[operator]


def test_the_system_waits_until_what_an_older_version_sent_has_washed_out() -> None:
    """A version that is new is too early for as long as a journey and its window take."""
    of = portfolio(policy_holdout=0.1)
    evidence = system(of)
    entries = World(of, customers=50).evidence().entries

    def begun(days: int) -> Evidence:
        began = TODAY - timedelta(days=days)
        version = pl.when(pl.col("date") < began).then(pl.lit("0")).otherwise(pl.lit("1"))
        return replace(evidence, entries=pl.concat([entries, entries.head(1).with_columns(date=began)]).with_columns(version=version))

    assert row_of(begun(20), of, slice_="long", journey="system")["verdict"] == "too_early"
    assert row_of(begun(21), of, slice_="long", journey="system")["verdict"] == "helps"


def test_customers_who_were_triggered_under_an_older_version_are_not_of_this_one() -> None:
    """Their lots were others."""
    of = portfolio(policy_holdout=0.1)
    assert row_of(system(of, version="0"), of, slice_="long", journey="system")["treated"] == 0


def test_two_who_are_one_by_now_count_once_in_the_run_rate() -> None:
    """And not at all where one of them was held out."""
    of = portfolio(policy_holdout=0.1)
    evidence = system(of)
    rows = evidence.recent.collect() if evidence.recent is not None else pl.DataFrame()
    old = rows.filter(pl.col("entered_on") < TODAY - timedelta(days=30))
    treated, control = (old.filter(pl.col("arm") == arm)["customer_id"] for arm in ("treated", "control"))
    names = pl.col("customer_id").replace({treated[1]: treated[0], control[0]: treated[2]})
    merged = row_of(replace(evidence, recent=rows.with_columns(known_as=names).lazy()), of, slice_="run_rate", journey="system")
    before = row_of(evidence, of, slice_="run_rate", journey="system")
    assert (merged["treated"], merged["control"]) == (before["treated"] - 2, before["control"] - 1)  # type: ignore[operator]
