"""The page of what is learned: what it says in every state, what it never says, and that its pictures show what its tables do."""

from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from atc_pipeline.learning.model import Counted, GoalModel, Known
from atc_pipeline.pictures import moves
from atc_pipeline.reports import markdown, terminal, wording
from atc_pipeline.reports.booklet import booklet, pages
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.learning import headline, learning
from atc_pipeline.reports.page import Page, Section, Table
from tests.edges.attacks import ATTACKS
from tests.engine.reports import hand_made_learning as hand_made

NOTHING = {
    "quality": hand_made.quality(hand_made.judged(0)),
    "judged": hand_made.judged(0),
    "lately": hand_made.lately(hand_made.judged(0)),
}


def section(page: Page, title: str) -> Section:
    """The section of a page with this title."""
    return next(part for part in page.sections if part.title == title)


def rows(page: Page, title: str) -> dict[str, dict[str, str]]:
    """The rows of a section's table by their first cell."""
    table = section(page, title).table
    assert isinstance(table, Table)
    return {row[0]: dict(zip(table.heads, row, strict=True)) for row in table.rows}


def foretold(expected: Sequence[float], goals: Sequence[bool]) -> pl.DataFrame:
    """Entries of which this was foretold, and came."""
    rows = {"journey_id": ["club"] * len(goals), "goal": goals, "expected": expected}
    same = {"arm": ["treated"], "propensity_source": ["model"], "is_drawn": [False]}
    return pl.DataFrame(rows | {name: value * len(goals) for name, value in same.items()}, schema=hand_made.JUDGED)


def states() -> dict[str, Findings]:
    """Everything that can be known, and nothing."""
    return {
        "model": hand_made.findings(),
        "live": hand_made.findings(use="live", by=1.5),
        "rates": hand_made.findings(replace(hand_made.model(), wins=False)),
        "prior": hand_made.findings(GoalModel(note="12 goals have matured, 50 are needed", counted=Counted(90, 12, 9)), **NOTHING),
        "nothing": hand_made.findings(models=hand_made.findings().models.clear(), **NOTHING),
    }


def test_it_says_first_what_is_learned_and_whether_it_decides() -> None:
    """In a sentence, and of how many entries it is."""
    known = {name: headline(state) for name, state in states().items()}
    assert known == {
        "model": "Learned from 4,210 entries with 640 goals: customers are told apart. It is only written down beside the score (shadow).",
        "live": "Learned from 4,210 entries with 640 goals: customers are told apart. It decides (live).",
        "rates": "Learned from 4,210 entries with 640 goals: journeys are told apart, customers not: that foretold no better than chance "
        "may. It is only written down beside the score (shadow).",
        "prior": "Nothing is learned yet: 12 goals have matured, 50 are needed. It is only written down beside the score (shadow).",
        "nothing": "Nothing is learned yet.",
    }


@pytest.mark.parametrize("name", list(states()))
def test_no_rendering_says_what_is_read_as_something_else(name: str) -> None:
    """Nor that anything here is proved; and it is there beside the other pages."""
    state = states()[name]
    page = learning(state)
    for text in (terminal.text([page]), markdown.markdown([page], with_pictures=True), booklet(state)):
        assert [word for word in wording.FORBIDDEN if word in text.lower()] == []
    assert {part.standing for part in page.sections} <= {"described", ""}
    assert page in pages(state)


@pytest.mark.parametrize("name", ["model", "live", "rates"])
def test_every_number_says_of_how_many_entries_it_is(name: str) -> None:
    """And that these have matured."""
    for part in learning(states()[name]).sections:
        if part.standing:
            assert "matured" in part.of or "mature entries" in part.of, part.title


def test_each_journey_says_where_its_numbers_come_from() -> None:
    """The customer, the journey, or nobody; what nobody was left alone to show is not told as if somebody had been."""
    known = rows(learning(hand_made.findings()), "What is known")
    assert known["Welcome & hello"] == {
        "journey": "Welcome & hello", "foretold": "by the customer: the model", "entries": "2,600", "goals": "430", "in control": "300",
        "reach it, treated": "17 %", "left alone": "13 %", "odds when treated": "× 1.42",
    }  # fmt: skip
    assert known["Newsletter"]["left alone"] == "–"
    assert known["Receipt tips"]["foretold"] == "by nobody: policy.prior_propensity"
    by_rates = rows(learning(states()["rates"]), "What is known")
    assert by_rates["Welcome & hello"]["foretold"] == "by the journey alone: its own rate"


def test_a_model_that_is_not_used_says_so_wherever_it_is_shown() -> None:
    """It was better on the latest fifth, by no more than chance may do."""
    page, used = learning(states()["rates"]), learning(states()["model"])
    assert any("better by 0.0233, no more than chance may do" in line for line in section(page, "What is known").lines)
    assert section(page, "What moves it most").notes == ("No journey uses the model today: this is what it would do.",)
    assert any("(better by 0.0233); penalty 30" in line for line in section(used, "What is known").lines)
    assert section(used, "What moves it most").notes == ()


def test_tenths_are_of_all_entries_by_what_was_foretold() -> None:
    """As large as each other; what came is counted, nothing is smoothed."""
    of_a_group = [0.05 + 0.09 * (place // 4) + 0.001 * (place % 4) for place in range(40)]
    page = learning(hand_made.findings(judged=foretold(of_a_group, [place >= 20 for place in range(40)]).sample(40, shuffle=True, seed=2)))
    table = rows(page, "As it was foretold")
    part = section(page, "As it was foretold")
    assert part.of.startswith("40 entries that matured in the last thirteen weeks and whose probability was learned, in 10 groups")
    assert [row["entries"] for row in table.values()] == ["4"] * 10
    assert [row["came"] for row in table.values()] == ["0 %"] * 5 + ["100 %"] * 5
    assert table["1"]["foretold"] == "5.2 %"
    assert part.picture is not None
    assert part.picture.says.startswith("foretold 5.2 %, came 0 %; foretold 14 %, came 0 %;")


def test_what_was_foretold_the_same_stays_together_whatever_came_of_it() -> None:
    """A rate is the same for many: parted by what came, right ones would look wrong."""
    page = learning(
        hand_made.findings(judged=foretold([0.2] * 50 + [0.6] * 50, [place % 10 < (2 if place < 50 else 6) for place in range(100)]))
    )
    assert [(row["entries"], row["foretold"], row["came"]) for row in rows(page, "As it was foretold").values()] == [
        ("50", "20 %", "20 %"),
        ("50", "60 %", "60 %"),
    ]
    assert "in 2 groups by it" in section(page, "As it was foretold").of


def test_fewer_entries_than_tenths_are_not_drawn() -> None:
    """There is nothing to see in them."""
    titles = [part.title for part in learning(hand_made.findings(judged=hand_made.judged(9))).sections]
    assert "As it was foretold" not in titles


def test_weeks_say_what_came_and_what_exploration_drew_apart() -> None:
    """All weeks together, in figures; of a single one there is no line."""
    state = hand_made.findings()
    part = section(learning(state), "Week by week")
    drawn = state.judged.filter("is_drawn")
    assert f"3,000 entries that matured since 6 July 2026; {state.judged['expected'].sum():,.0f} goals were foretold" in part.of
    assert part.notes[0].startswith(f"Of those that exploration drew, {drawn.height}: {drawn['expected'].sum():,.1f} were foretold, ")
    lonely = hand_made.findings(quality=state.quality.filter(pl.col("date") == hand_made.TODAY))
    assert "Week by week" not in [part.title for part in learning(lonely).sections]


def test_a_journey_whose_goals_did_not_come_as_foretold_is_named() -> None:
    """With what follows, and only where chance hardly does that: the newsletter has too few entries to say."""
    page = learning(states()["live"])
    table = rows(page, "Journey by journey")
    assert {name: row[""] for name, row in table.items()} == {"Tea club": "too far", "Newsletter": "", "Welcome & hello": "too far"}
    assert section(page, "Journey by journey").notes[0].startswith("Tea club and Welcome & hello: outside of 0.8 to 1.25")
    assert section(learning(hand_made.findings()), "Journey by journey").notes == ()


def test_what_moves_it_most_comes_first_with_its_ends_and_where_it_turns() -> None:
    """What the model makes of orders between none and ten, of who has no spend, and of tenure next to nothing."""
    page = learning(hand_made.findings())
    assert list(rows(page, "What moves it most")) == ["spend", "orders", "tenure_days"]
    assert rows(page, "What moves it most")["spend"] == {
        "feature": "spend", "lowest": "0", "odds": "× 1.38", "highest": "500", "odds there": "× 0.62", "odds if unknown": "× 0.92"
    }  # fmt: skip
    picture = section(page, "What moves it most").picture
    assert picture is not None
    assert "spend: at 0 × 1.38, at 500 × 0.62, unknown × 0.92" in picture.says


def test_a_feature_that_turns_on_the_way_says_where() -> None:
    """The ends alone would say that nothing is moved."""
    model = hand_made.model()
    shared = model.known[None].coefficients
    assert shared is not None
    turned = shared.copy()
    turned[2] = -4 / 3 * 0.5 * 0.2 / 0.25 * 10 / 8  # beyond four orders it falls as far as it rose
    page = learning(hand_made.findings(replace(model, known=dict(model.known) | {None: replace(model.known[None], coefficients=turned)})))
    picture = section(page, "What moves it most").picture
    assert picture is not None
    assert "orders: at 0 × " in picture.says
    assert ", at 4 × " in picture.says


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_in_pictures_act_on_nothing(attack: str) -> None:
    """A column may be called whatever its trait is."""
    drawn = moves.draw("What moves it most", "odds", [moves.Row(attack, f"at 0 × {attack}", 0.5, 2.0, unknown=1.5)])
    root = ET.fromstring(drawn)  # noqa: S314  # ours
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {"svg", "title", "style", "rect", "text", "path", "g"}


def test_an_axis_of_odds_is_as_long_both_ways_and_marks_once() -> None:
    """Half is as far from once as twice; what does next to nothing does not fill the picture."""
    hardly = moves.draw("t", "c", [moves.Row("a", "", 0.99, 1.01)])
    assert "× 1.25" in hardly
    assert "× 0.8<" in hardly
    far = moves.draw("t", "c", [moves.Row("a", "", 0.01, 300.0)])
    assert "× 100" in far
    assert "× 0.01<" in far


def test_a_model_that_knows_no_feature_moves_nothing() -> None:
    """Where only rates are known there is no such section."""
    known: dict[str | None, Known] = {id_: replace(theirs, coefficients=None) for id_, theirs in hand_made.model().known.items()}
    state = hand_made.findings(replace(hand_made.model(), known=known, basis=None, wins=False))
    assert "What moves it most" not in [part.title for part in learning(state).sections]
