"""The segment matrix and one customer's path: what is counted, what is told, and that pictures are whole and the same every time."""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.activation.tables import OUTBOUND_MESSAGES
from atc_pipeline.customers.tables import MICRO_SEGMENT_MEMBERSHIPS
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.outcomes.matrix import segment_matrix
from atc_pipeline.outcomes.tables import SEGMENT_MATRIX
from atc_pipeline.pictures import drawing, matrix, path

FIRST = date(2026, 1, 30)

JOURNEYS = """
version: "1"
calendar: {timezone: Europe/Berlin, starts_on: 2026-01-01}
traits: {orders: {count: Order Completed}}
segments: {newcomers: "tenure_days < 7", buyers: "orders > 0"}
journeys:
  - {id: welcome, name: Welcome & hello, length_days: 3, queue: {any: [newcomers]}}
  - {id: club, name: Tea club, length_days: 5, queue: {any: [buyers]}}
"""


@pytest.fixture(scope="module")
def portfolio(tmp_path_factory: pytest.TempPathFactory) -> Portfolio:
    """Two micro-segments and two journeys."""
    file = tmp_path_factory.mktemp("portfolio") / "journeys.yaml"
    file.write_text(JOURNEYS)
    return load_portfolio(file)


def day(number: int) -> date:
    """The day so many days after the first."""
    return FIRST + timedelta(days=number)


def members(today: date, **customers: Sequence[tuple[str, date]]) -> pl.LazyFrame:
    """The customers of each micro-segment, and since when."""
    rows = [
        {"date": today, "segment_id": name, "customer_id": one, "member_since": since}
        for name, many in customers.items()
        for one, since in many
    ]
    return pl.LazyFrame(rows, schema=MICRO_SEGMENT_MEMBERSHIPS.schema)


def answers(today: date, **journeys: str | None) -> pl.LazyFrame:
    """The journey that each customer is in."""
    rows = [{"date": today, "customer_id": one, "decision": "continue", "journey_id": journey} for one, journey in journeys.items()]
    return pl.LazyFrame(rows, schema=JOURNEY_ASSIGNMENTS.schema)


# --- The segment matrix ----------------------------------------------------------------------------------------------


def test_the_matrix_counts_who_is_in_who_came_and_who_went() -> None:
    """Of three buyers two stay, one leaves and one comes; a segment that has emptied is still told, with whom it lost."""
    before = members(day(0), buyers=[("a", day(0)), ("b", day(0)), ("c", day(0))], newcomers=[("d", day(0))])
    today = members(day(1), buyers=[("a", day(0)), ("b", day(0)), ("d", day(1))])
    served = answers(day(1), a="club", b="welcome", d="club", c=None)

    rows = segment_matrix(today, before, served, today=day(1)).collect()

    assert rows.schema == SEGMENT_MATRIX.schema
    assert rows.rows() == [
        (day(1), "buyers", 3, 1, 1, 3, "club", 2),
        (day(1), "newcomers", 0, 0, 1, 0, None, 0),
    ]


def test_on_the_first_day_everybody_has_come_and_nobody_has_gone() -> None:
    """Without a day before, all members are new; of two journeys that serve as many, the first by id is named."""
    today = members(day(0), buyers=[("a", day(0)), ("b", day(0))])

    rows = segment_matrix(today, None, answers(day(0), a="welcome", b="club"), today=day(0)).collect()

    assert rows.rows() == [(day(0), "buyers", 2, 2, 0, 2, "club", 1)]


def cells(*rows: tuple[int, str, int, str | None]) -> pl.DataFrame:
    """Rows of the matrix: day, micro-segment, customers, journey."""
    return pl.DataFrame(
        [
            {"date": day(number), "segment_id": segment, "customers": customers, "entered": 1, "left": 0}
            | {"served": customers if journey else 0, "journey_id": journey, "served_most": customers if journey else 0}
            for number, segment, customers, journey in rows
        ],
        schema=SEGMENT_MATRIX.schema,
    )


STRETCH = cells(
    (0, "buyers", 3, "club"), (0, "everyone_else", 9, None),
    (1, "buyers", 60, "welcome"), (1, "everyone_else", 8, None), (1, "of_old", 1, "gone"),
    (2, "newcomers", 1, "welcome"), (2, "buyers", 0, None),
)  # fmt: skip


def test_the_summary_is_in_the_order_of_the_portfolio(portfolio: Portfolio) -> None:
    """Sizes at the end and on the way, who came, and the journey that served most, as people call it; what is gone comes last."""
    told = matrix.summary(STRETCH, portfolio).rows()

    assert told == [
        ("newcomers", 1, 1, 0, "  █", "Welcome & hello"),
        ("buyers", 0, 3, 0, "▁█ ", "Welcome & hello"),
        ("everyone_else", 0, 2, 0, "██ ", None),
        ("of_old", 0, 1, 0, " █ ", "gone"),
    ]


def texts(svg: str) -> list[str]:
    """All words written in a picture, which must be whole."""
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314  # our own


def test_the_matrix_is_drawn_with_all_names(portfolio: Portfolio) -> None:
    """Title, micro-segments, axis, sizes at the end and journeys are written; an ampersand breaks nothing."""
    words = texts(matrix.draw(STRETCH, portfolio))

    for word in (
        "Micro-segments by day, 30 January to 1 February 2026",
        "newcomers",
        "everyone_else",
        "of_old",
        "31 Jan",
        "Welcome & hello",
        "gone",
    ):
        assert word in words, word


def test_the_matrix_is_the_same_whatever_the_order_of_rows(portfolio: Portfolio) -> None:
    """Same data, same bytes."""
    assert matrix.draw(STRETCH, portfolio) == matrix.draw(STRETCH.reverse(), portfolio)


def test_a_journey_has_one_colour_in_all_pictures(portfolio: Portfolio) -> None:
    """The journey that is alone on the last day is drawn there as on all days."""

    def colour(svg: str) -> str:
        found = re.search(r'class="(j\d+)"[^>]*/>\s*<text[^>]*>Welcome', svg)
        assert found
        drawn = re.search(rf"\.{found[1]}{{stroke:(#\w+)", svg)
        assert drawn
        return drawn[1]

    assert colour(matrix.draw(STRETCH, portfolio)) == colour(matrix.draw(STRETCH.filter(pl.col("date") == day(2)), portfolio))


def test_more_journeys_than_colours_share_the_last_one(portfolio: Portfolio) -> None:
    """Thirty journeys: those that serve most often have a colour, the others one together."""
    many = cells(
        *((number, "buyers", 5, f"j_{number:02}") for number in range(30)), *((number, "newcomers", 5, "club") for number in range(30))
    )
    words = texts(matrix.draw(many, portfolio))

    assert "Tea club" in words
    assert sum(word.startswith("j_") for word in words) == len(matrix.JOURNEYS) - 1
    assert "another journey" in words


def test_a_year_of_many_micro_segments_is_a_small_picture(portfolio: Portfolio) -> None:
    """Days alike are one stroke: a year of fifty micro-segments that change every few days is less than 100 kB."""
    rows = [
        (number, f"s{segment:02}", 1 + number * segment // 9, ("club", "welcome")[(number // 5 + segment) % 2])
        for number in range(365)
        for segment in range(50)
    ]

    assert len(matrix.draw(cells(*rows), portfolio)) < 100_000


@given(st.dates(date(2000, 1, 1), date(2030, 1, 1)), st.integers(0, 3000), st.floats(0.1, 300))
def test_marks_on_the_axis_keep_their_distance(first: date, length: int, apart: float) -> None:
    """Neighbouring marks are as far apart as asked, and inside the stretch."""
    days = drawing.days_between(first, first + timedelta(days=length))
    places = [place for place, _ in drawing.marked_days(days, apart)]

    assert all(later - earlier >= apart for earlier, later in pairwise(places))
    assert all(0 <= place <= length for place in places)


# --- One customer's path ---------------------------------------------------------------------------------------------


def walked(
    portfolio: Portfolio, answered: Sequence[tuple[int, str, str | None, int | None, str | None, str | None]], **more: object
) -> path.Path:
    """The path of customer x: day, decision, journey, entered on, what ended and why."""
    rows = [
        {
            "date": day(number),
            "customer_id": "x",
            "decision": decision,
            "journey_id": journey,
            "entered_on": None if entered is None else day(entered),
        }
        | {"arm": journey and "treated", "ended_journey_id": ended, "ended_reason": reason}
        for number, decision, journey, entered, ended, reason in answered
    ]
    days = [row["date"] for row in rows]
    known: dict[str, object] = {
        "customer_id": "x",
        "first": days[0],
        "last": days[-1],
        "called": {journey.id: journey.name for journey in portfolio.journeys},
        "names": pl.DataFrame({"date": days, "customer_id": "x"}),
        "memberships": pl.DataFrame(
            [{"date": one, "segment_id": "buyers", "customer_id": "x", "member_since": days[0]} for one in days],
            schema=MICRO_SEGMENT_MEMBERSHIPS.schema,
        ),
        "assignments": pl.DataFrame(rows, schema=JOURNEY_ASSIGNMENTS.schema),
        "messages": pl.DataFrame(schema=OUTBOUND_MESSAGES.schema),
        "events": pl.DataFrame(schema={"date": pl.Date, "name": pl.String, "number": pl.Int64}),
    }
    return path.Path(**(known | more))


WEEK: list[tuple[int, str, str | None, int | None, str | None, str | None]] = [
    (0, "continue", "welcome", -1, None, None),
    (1, "switch", "club", 1, "welcome", "interrupted"),
    (2, "continue", "club", 1, None, None),
    (3, "start", "club", 3, "club", "converted"),
    (4, "none", None, None, "club", "exited"),
    (5, "start", "welcome", 5, None, None),
]


def test_stays_in_journeys_are_read_off_the_answers(portfolio: Portfolio) -> None:
    """One from before, one that is switched to, one entered on the day the same journey ended, and one still running."""
    stays = [(one.journey_id, one.first, one.last, one.how, one.ending) for one in walked(portfolio, WEEK).spells]

    assert stays == [
        ("welcome", 0, 0, None, "interrupted"),
        ("club", 1, 2, "switch", "converted"),
        ("club", 3, 3, "start", "exited"),
        ("welcome", 5, 5, "start", None),
    ]


def test_a_path_is_told_day_by_day(portfolio: Portfolio) -> None:
    """Micro-segments, the journey served, starts, ends, events and messages, one under the other."""
    sent = [
        {"date": day(number), "customer_id": "x", "journey_id": "club", "channel": "email", "withheld": why}
        for number, why in ((1, None), (1, None), (2, "no_consent"))
    ]
    orders = pl.DataFrame({"date": [day(3), day(5)], "name": "Order Completed", "number": [1, 12]})
    lines = path.tell(walked(portfolio, WEEK, messages=pl.DataFrame(sent, schema=OUTBOUND_MESSAGES.schema), events=orders)).splitlines()
    label = len("a column is 000 days") + 2

    assert lines[0] == "Customer x, 30 January to 4 February 2026"
    rows = {line[:label].strip(): line[label:] for line in lines if len(line) > label}
    for name, cells_told in (
        ("buyers", "██████"),
        ("journey", "ABBB·A"),
        ("starts, switches", " x > >"),
        ("ends", "/ +<"),
        ("Order Completed", "···1·*"),
        ("messages", "·2····"),
        ("withheld", "··1···"),
    ):
        assert rows[name] == cells_told
    assert "> start   x switch   + reached its goal   / interrupted by another   < left early   * ten or more" in lines
    assert any("30 Jan - 30 Jan" in line and "interrupted by another, since 29 January 2026" in line for line in lines)
    assert any("still running when last seen" in line for line in lines)


@pytest.mark.parametrize("days", [1, 30, 66, 67, 366, 1500])
def test_long_paths_are_compressed_to_the_width_of_a_terminal(portfolio: Portfolio, days: int) -> None:
    """However long, no line is wider than the terminal, every column stands for as many days, and the picture is whole."""
    long = walked(
        portfolio, [(number, "start" if number % 9 == 0 else "continue", "club", number - number % 9, None, None) for number in range(days)]
    )
    often = pl.DataFrame({"date": [day(0)], "name": ["A name longer than any line of a terminal is wide, " * 3], "number": [1]})
    object.__setattr__(long, "events", often)
    lines = path.tell(long).splitlines()

    assert max(map(len, lines)) <= path.WIDTH
    assert next(line for line in lines if line.startswith("journey")).split()[1].strip("A") == ""
    assert ("a column is" in lines[3]) == (days > path.WIDTH - 34)
    assert "Tea club" in texts(path.draw(long))


def test_a_control_customer_is_told_as_such(portfolio: Portfolio) -> None:
    """Who is sent nothing is said to be, and drawn with broken bars."""
    control = walked(portfolio, WEEK)
    object.__setattr__(control, "assignments", control.assignments.with_columns(arm=pl.lit("control")))

    assert "control: sent nothing" in path.tell(control)
    assert "stroke-dasharray" in path.draw(control)
    assert "stroke-dasharray" not in path.draw(walked(portfolio, WEEK))


def test_who_was_merged_into_another_is_followed(portfolio: Portfolio) -> None:
    """From the day of the merge on the path is the survivor's, and says so; the journey given up for theirs ended by the merge."""
    answered = [(0, "continue", "welcome", -1, None, None), (1, "continue", "club", -5, None, None)]
    names = pl.DataFrame({"date": [day(0), day(1)], "customer_id": ["x", "y"]})
    merged = walked(portfolio, answered, names=names)
    object.__setattr__(merged, "assignments", merged.assignments.with_columns(customer_id=names["customer_id"]))

    text = path.tell(merged)
    assert "Recognised as another customer: y from 31 January 2026 on" in text
    assert "ended by a merge" in text
    assert "y from 31 January 2026" in " ".join(texts(path.draw(merged)))


def test_a_path_without_any_journey_says_so(portfolio: Portfolio) -> None:
    """Somebody left alone all the time has a path, too."""
    alone = walked(portfolio, [(0, "none", None, None, None, None), (1, "none", None, None, None, None)])

    assert "In no journey on any of these days." in path.tell(alone)
    assert "journeys" not in texts(path.draw(alone))


def test_pictures_read_in_the_dark(portfolio: Portfolio) -> None:
    """Every colour of ink and paper is given for both schemes, and nothing is fetched from elsewhere."""
    for svg in (matrix.draw(STRETCH, portfolio), path.draw(walked(portfolio, WEEK))):
        light, dark = svg.split("@media screen and (prefers-color-scheme: dark)")
        assert all(f".{name}{{" in light and f".{name}{{" in dark for name in ("paper", "ink", "faint", "rule"))
        assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]
