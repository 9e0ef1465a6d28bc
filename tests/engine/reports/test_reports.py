"""Reports of hand-made numbers: what they say, what they never say, and that nothing in them acts."""

import json
import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from atc_pipeline.outcomes.tables import EXPLORATORY, VERDICTS
from atc_pipeline.outcomes.verdicts import duration
from atc_pipeline.pictures import marks
from atc_pipeline.reports import markdown, numbers, terminal, wording
from atc_pipeline.reports.booklet import booklet, pages
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.journey import journey
from atc_pipeline.reports.page import Page, Section
from atc_pipeline.reports.paths import of_journey, paths
from atc_pipeline.reports.proof import headline, proof
from tests.edges.attacks import ATTACKS
from tests.engine.reports import hand_made
from tests.engine.reports.hand_made import TODAY, estimate, uplift


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Eight journeys, one of each verdict."""
    return hand_made.findings(tmp_path_factory.mktemp("findings"))


def of(findings: Findings, *rows: dict[str, object], **more: object) -> Findings:
    """The same with other rows of ``uplift``."""
    return replace(findings, uplift=uplift(*rows), **more)  # type: ignore[arg-type]


def section(page: Page, title: str) -> Section:
    """The section of a page with this title."""
    return next(part for part in page.sections if part.title == title)


# --- Words -----------------------------------------------------------------------------------------------------------


def test_no_rendering_says_what_is_read_as_something_else(findings: Findings) -> None:
    """Neither text, Markdown, HTML nor JSON has a word that most people misread."""
    renderings = [
        terminal.text(pages(findings)),
        markdown.markdown(pages(findings), with_pictures=True),
        booklet(findings),
        numbers.proved(findings),
        numbers.described(findings, findings.paths),
    ]

    assert [word for word in wording.FORBIDDEN for text in renderings if word in text.lower()] == []


@pytest.mark.parametrize(
    ("journey_id", "says"),
    [
        ("welcome", "Welcome & hello helps: +22 %, +4.30 revenue per customer (+2.42 to +6.18)."),
        ("club", "Tea club: we cannot tell yet: 28 % is the smallest change this control group could show."),
        ("nudge", "Weekend nudge harms: −13 %, −1.70 revenue per customer (−2.64 to −0.76)."),
        ("win_back", "We miss you: it is too early to say: 31 of control have bought, 50 are needed."),
        ("loyal", "Loyalty thank-you does no harm: whatever it changes, revenue is no less by more than we tolerate"),
        ("news", "Newsletter changes next to nothing: −0.34 to +0.38 revenue per customer."),
        ("system", "All journeys together help: +6.1 %, +5.30 revenue per customer (+2.20 to +8.40)."),
        ("receipt", "Receipt tips: nobody is held out of it, so that nothing can be proved: give it a holdout."),
        ("survey", "Survey after a complaint: the comparison is broken and not to be read: the split is not as drawn."),
    ],
)
def test_a_verdict_is_a_sentence(findings: Findings, journey_id: str, says: str) -> None:
    """What can be said, and else what could have been seen or what is missing."""
    headlined = headline(findings) if journey_id == "system" else journey(journey_id, findings).headline

    assert headlined.startswith(says)


def test_what_an_undecided_journey_needs_is_told(findings: Findings) -> None:
    """How many customers more, and how long that takes."""
    notes = section(proof(findings), "Journeys").notes

    assert any(note.endswith("13,400 more customers, some 580 days at the present pace, make the interval half as wide.") for note in notes)


@pytest.mark.parametrize(("days", "says"), [(2, "2 days"), (1_095, "1,095 days"), (1_100, "3 years"), (37_044, "101 years")])
def test_more_than_three_years_are_told_in_years(days: int, says: str) -> None:
    """Nobody knows how long 37,044 days are."""
    assert duration(days) == says


def test_guardrails_without_a_control_group_are_counted_not_listed(findings: Findings) -> None:
    """Lines without a figure hide those with one."""
    rows = [estimate("receipt", "no_holdout", (800, 0), metric="opted_out"), estimate("club", "too_early", (900, 90), metric="opted_out")]
    watched = section(proof(of(findings, *rows)), "What must not suffer")

    assert watched.table is not None
    assert [row[0] for row in watched.table.rows] == ["Tea club"]
    assert watched.notes == ("Of 1 journey without a control group nobody can tell.",)


def test_every_verdict_has_words_a_mark_and_a_place_in_the_count() -> None:
    """One that a later version adds is not passed over in silence."""
    assert wording.WORDS.keys() == wording.MARKS.keys() == {*VERDICTS, EXPLORATORY}
    assert wording.COUNTED.keys() == {*VERDICTS} - {"no_holdout"}


def test_the_system_comes_first_and_says_what_it_made(findings: Findings) -> None:
    """In all, with its interval, for how long who was held out, and of how many customers."""
    first = proof(findings).sections[0]

    assert (first.title, first.standing) == ("The whole system", "proved")
    assert [figure.value for figure in first.figures] == ["+221,911 revenue", "+101,241 revenue"]
    assert "(+92,166 to +351,656)" in first.figures[0].says
    assert first.of.startswith("41,870 treated customers against 4,660 held out, who first entered 2 March to 30 August 2026; 5,233 more")
    assert first.lines == (
        "4,660 customers were held out of everything for up to 213 days, since 2 March 2026, which gave up 24,698 revenue.",
    )


def test_a_total_that_may_be_nothing_is_called_a_guess(findings: Findings) -> None:
    """Money is only made where the verdict says so."""
    unsure = of(findings, estimate("system", "undecided", (41_870, 4_660), (92.4, 91.1), 1.02, slice="long"))

    assert "the best guess, where anything from" in proof(unsure).sections[0].figures[0].says


def test_without_a_policy_holdout_nothing_of_the_system_is_called_proved(findings: Findings) -> None:
    """It says which key is missing."""
    without = of(findings, estimate("system", "no_holdout", (41_870, 0), slice="long"))

    assert headline(without).endswith("so that nothing can be proved: set policy.holdout.")
    assert proof(without).sections[0].standing == "described"


def test_where_nothing_was_sent_the_report_says_so(findings: Findings) -> None:
    """Who was held out and who was not were left alone alike: no verdict of the system is told as one."""
    assert headline(replace(findings, delivered=0)).startswith("Nothing was sent")
    assert not headline(replace(findings, delivered=None)).startswith("Nothing was sent"), "nobody knows"


def test_before_anything_matures_there_is_a_page(tmp_path: Path) -> None:
    """Of the first day: no numbers, and sentences that say so."""
    empty = Findings(TODAY, hand_made.portfolio(tmp_path))

    assert "nobody's first entry has matured" in headline(empty)
    assert "No path is known yet." in booklet(empty)
    assert terminal.text(pages(empty))


def test_journeys_without_a_control_group_are_apart(findings: Findings) -> None:
    """What was seen of them is shown under its own head, as described, and never beside the forest."""
    page = proof(findings)
    apart = section(page, "Not proved: journeys without a control group")
    journeys = section(page, "Journeys")

    assert apart.standing == "described"
    assert apart.table is not None
    assert [row[:2] for row in apart.table.rows] == [("Receipt tips", "9,300")]
    assert journeys.picture is not None
    assert "Receipt tips" not in journeys.picture.svg


def test_on_the_day_named_in_advance_its_own_interval_is_shown(findings: Findings) -> None:
    """The narrower one, which is right for one look; on any other day it is not shown."""
    asked = findings.journeys["welcome"]
    decided = replace(asked, measure=replace(asked.measure, decide_on=TODAY))
    others = tuple(decided if one is asked else one for one in findings.portfolio.journeys)
    named = replace(findings, portfolio=replace(findings.portfolio, journeys=others))

    assert "(+3.08 to +5.52)" in journey("welcome", named).headline
    assert "(+2.42 to +6.18)" in journey("welcome", findings).headline


def test_without_a_mean_to_compare_with_a_change_has_no_percent(findings: Findings) -> None:
    """Where control is near nothing, a share of it says nothing: amounts alone, and no mark on the axis of shares."""
    row = estimate("club", "undecided", (400, 40), (0.9, 0.0), 0.4)
    page = proof(of(findings, row))
    shown = section(page, "Journeys")

    assert any("1.12 revenue per customer is the smallest change this control group could show" in note for note in shown.notes)
    assert shown.table is not None
    assert shown.table.rows[0][6] == "+0.90"


def test_every_number_says_whose_it_is_and_what_it_stands_on(findings: Findings) -> None:
    """Each section with a table or figures tells how many customers or entries, and whether it is proved."""
    for page in pages(findings):
        for part in page.sections:
            if part.table or part.figures:
                assert part.of, part.title
                assert part.standing or part.title == "Checks", part.title


def test_slices_are_exploratory_and_never_among_the_verdicts(findings: Findings) -> None:
    """Of twenty one looks good by chance: they have intervals and no verdict."""
    page = journey("welcome", findings)

    assert section(page, "Slices").standing == "exploratory"
    assert section(page, "Variants").standing == "proved"
    assert section(page, "Variants").table.rows[0][0] == "question against offer"  # type: ignore[union-attr]
    assert "segment newcomers" not in terminal.text([proof(findings)])


def test_a_broken_comparison_is_told_with_its_reason(findings: Findings) -> None:
    """Under checks, with how rare such a split is."""
    checks = section(proof(findings), "Checks")

    assert checks.lines == ("Survey after a complaint is not to be read: the split is not as drawn.",)
    assert checks.table is not None
    assert [row[1] for row in checks.table.rows if row[0] == "Survey after a complaint"] == ["once in 1,000,000 or less"]


# --- Paths -----------------------------------------------------------------------------------------------------------


def test_paths_are_described_and_never_called_uplift(findings: Findings) -> None:
    """The word would promise what they do not show."""
    page = paths(findings)

    assert {part.standing for part in page.sections} == {"described"}
    assert "uplift" not in terminal.text([page]).lower()


def test_attribution_stands_beside_what_is_proved(findings: Findings) -> None:
    """Four ways to share out, the proof with its interval, and how many times more is attributed."""
    beside = section(paths(findings), "Attribution beside proof")

    assert beside.table is not None
    assert beside.table.rows[0] == (
        "Welcome & hello", "101,200", "78,700", "90,100", "95,400", "71 %", "+53,453", "+30,100 to +76,900", "1.78",
    )  # fmt: skip
    assert beside.table.rows[2][6:] == ("–", "–", "–"), "no control group, no proof"


def test_paths_of_one_journey_are_those_with_it(findings: Findings) -> None:
    """Whole names: `club` is no part of `tea_club`."""
    rows = findings.paths.with_columns(path=pl.col("path").replace("club", "tea_club"))

    assert of_journey(rows, "club")["path"].to_list() == ["welcome > club"]


# --- Renderings ------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Collects elements, attributes and what they lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.leads: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.leads += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data: str) -> None:
        """Read it."""
        self.words += data


PLAIN = {"html", "head", "meta", "title", "style", "body", "main", "header", "nav", "a", "article", "footer", "h1", "h2", "h3", "p"}
PLAIN |= {"span", "figure", "div", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "dl", "dt", "dd", "details", "summary"}
DRAWN = {"svg", "rect", "g", "path", "text"}


def test_the_file_has_no_script_and_fetches_nothing(findings: Findings) -> None:
    """Elements of text and pictures alone; links lead within it; its policy would let nothing else run."""
    page = Tags(booklet(findings))

    assert page.tags <= PLAIN | DRAWN
    assert not {name for name in page.attributes if name.startswith("on")}
    assert all(re.fullmatch(r"#page-\d+", lead) for lead in page.leads)
    assert "default-src 'none'" in booklet(findings)
    assert "@import" not in booklet(findings)
    assert "url(" not in booklet(findings)


@pytest.fixture
def hostile(tmp_path: Path) -> Findings:
    """Every name that comes from outside is an attack."""
    names = [f"{attack}" for attack in ATTACKS]
    rows = [estimate(name, "helps", (1_000, 100), (24.1, 19.8), 0.6) for name in names]
    rows += [estimate(names[0], "exploratory", (500, 50), (2.0, 1.0), 0.6, slice=f"segment:{name}") for name in names]
    rows += [estimate(names[0], "exploratory", (500, 50), (2.0, 1.0), 0.6, metric=name) for name in names]
    rows += [estimate("nudge", "broken", (500, 50), (2.0, 1.0), 0.6, reason="".join(names[:10]))]
    found = hand_made.findings(tmp_path)
    return replace(
        found,
        uplift=pl.DataFrame(rows, schema=found.uplift.schema).unique(["journey_id", "metric", "slice"], maintain_order=True),
        paths=found.paths.clear().vstack(pl.concat([found.paths.head(1).with_columns(path=pl.lit(name)) for name in names])),
        attribution=pl.concat([found.attribution.head(1).with_columns(journey_id=pl.lit(name)) for name in names]),
        movement=pl.concat([found.movement.with_columns(journey_id=pl.lit(name)) for name in names[:3]]),
        funnel=pl.concat([found.funnel.with_columns(journey_id=pl.lit(name)) for name in names[:3]]),
        curves=pl.concat([found.curves.with_columns(journey_id=pl.lit(name)) for name in names[:3]]),
        velocity=pl.concat([found.velocity.filter(path="club").with_columns(path=pl.lit(name)) for name in names[:3]]),
    )


def test_names_that_are_attacks_are_text(hostile: Findings) -> None:
    """In the file no element comes of them, in pictures they are words, in Markdown no cell and no link is theirs."""
    page = Tags(booklet(hostile))

    assert page.tags <= PLAIN | DRAWN
    assert all(re.fullmatch(r"#page-\d+", lead) for lead in page.leads)
    assert "<img src=/attack-html.png onerror=alert(1)>" in page.words
    for drawn in [part.picture.svg for page_ in pages(hostile) for part in page_.sections if part.picture]:
        assert {element.tag.rpartition("}")[2] for element in ET.fromstring(drawn).iter()} <= DRAWN | {"style", "title"}  # noqa: S314
    text = markdown.markdown(pages(hostile))
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") - line.count("\\|") >= 2
    heads = [line for line in text.splitlines() if line.startswith("| journey | first")]
    rows = text.split(heads[0])[1].split("\n\n")[0].splitlines()[2:]
    assert {row.count(" | ") for row in rows} == {heads[0].count(" | ")}
    assert not re.search(r"(?<!\\)\]\(", text), "a link of theirs"
    assert "\x1b" not in terminal.text(pages(hostile))


def test_the_same_numbers_are_the_same_bytes_whatever_the_order_of_rows(findings: Findings) -> None:
    """Same day, same file."""
    turned = {
        name: getattr(findings, name).reverse() for name in ("uplift", "attribution", "paths", "movement", "funnel", "curves", "velocity")
    }

    assert booklet(replace(findings, **turned)) == booklet(findings)


def test_json_has_the_rows_and_the_sentences(findings: Findings) -> None:
    """Numbers as they are in the table; of a journey its own."""
    every, alone = json.loads(numbers.proved(findings)), json.loads(numbers.proved(findings, "club"))
    described = json.loads(numbers.described(findings, findings.paths))

    assert (every["date"], every["standing"]) == ("2026-09-30", "proved")
    assert len(every["uplift"]) == findings.uplift.height
    assert [(row["smallest_visible"], row["says"]) for row in alone["uplift"]] == [
        (pytest.approx(13.72), "we cannot tell yet: 28 % is the smallest change this control group could show")
    ]
    assert described["standing"] == "described"
    assert {row["path"] for row in described["paths"]} == set(findings.paths["path"])


# --- Black and white -------------------------------------------------------------------------------------------------


def test_verdicts_are_told_apart_without_colours(findings: Findings) -> None:
    """Each that is drawn has a shape of its own, and its words stand beside it."""
    drawn = [mark for verdict, mark in wording.MARKS.items() if mark is not None and verdict != EXPLORATORY]
    shapes = [marks.draw(mark, 0, 0, "same") for mark in drawn]
    picture = section(proof(findings), "Journeys").picture

    assert len(set(shapes)) == len(drawn)
    assert picture is not None
    assert all(wording.WORDS[verdict] in picture.svg for verdict in VERDICTS if verdict != "no_holdout")


def test_arms_and_paths_are_told_apart_without_colours(findings: Findings) -> None:
    """Lines differ in width or dashes, and are named where they end."""
    for page, title in ((journey("welcome", findings), "Money since the entry"), (paths(findings), "How fast")):
        picture = section(page, title).picture
        assert picture is not None
        strokes = re.findall(
            r'<path class="cu-\d" stroke-width="([\d.]+)" stroke-linejoin="round"( stroke-dasharray="[^"]+")?', picture.svg
        )
        assert len(strokes) == len(set(strokes)) >= 2
    assert "held out: 19.8" in section(journey("welcome", findings), "Money since the entry").picture.svg  # type: ignore[union-attr]


def test_fates_are_parted_by_lines_and_named(findings: Findings) -> None:
    """What became of those who entered adds up to all of them."""
    picture = section(journey("welcome", findings), "Where they left it").picture
    assert picture is not None
    named = re.findall(r">(reached the goal|ran its full length|left early|interrupted): ([\d.]+) %<", picture.svg)

    assert len(named) == 4
    assert sum(float(share) for _, share in named) == pytest.approx(100, abs=1)


def test_a_day_is_written_as_people_do() -> None:
    """With the year where it changes."""
    assert wording.period(date(2026, 12, 30), date(2027, 1, 2)) == "30 December 2026 to 2 January 2027"
    assert wording.period(date(2026, 3, 2), date(2026, 3, 2)) == "on 2 March 2026"
