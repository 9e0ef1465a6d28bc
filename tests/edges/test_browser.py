"""Attacks in a real browser: Dagster's pages and our pictures show hostile texts, and do nothing that they say."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.activation.tables import OUTBOUND_MESSAGES
from atc_pipeline.customers.tables import MICRO_SEGMENT_MEMBERSHIPS
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS
from atc_pipeline.escaping import plain, xml
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.outcomes.tables import SEGMENT_MATRIX
from atc_pipeline.pictures import matrix, path
from tests.edges.attacks import ATTACKS
from tests.edges.browser import Browser, browser, needed
from tests.edges.web import hostile_world, webserver
from tests.graph.small_world import FIRST, JOURNEYS

pytestmark = pytest.mark.slow

BUTTONS = "[...document.querySelectorAll('*')].filter(one => !one.children.length && one.textContent === '[Show Markdown]')"
ALIVE = "img:not([src^='data:']), iframe, script, style, object, embed, video, em, del, h1, a:is([href*=attack], [href*=':'])"
ACTIVE = f"""[...document.querySelectorAll("table, [role=dialog]")]
    .flatMap(one => [...one.querySelectorAll({ALIVE!r})]).map(one => one.outerHTML)"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser."""
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Dagster's web server over a day of attacks: its address, and the run that made the day."""
    needed("chromium")  # before half a minute is spent
    folder = tmp_path_factory.mktemp("site")
    environment, run = hostile_world(folder)
    with webserver(folder, environment) as address:
        yield address, run


def everything_shown(page: Browser, url: str, there: str) -> str:
    """Open a page and every table on it that is a click away; return what they say, none of which may be alive."""
    page.open(url)
    page.until(lambda one: there in one.text(), f"showed {there}")
    page.rest(2)
    said = page.text()
    assert page.ask(ACTIVE) == []
    for number in range(page.ask(f"{BUTTONS}.length")):
        page.ask(f"({BUTTONS}[{number}].click(), 1)")
        page.until(lambda one: "Copy" in one.text(), "opened the table")
        page.rest(0.5)
        said += page.text()
        assert page.ask(ACTIVE) == []
        page.ask("([...document.querySelectorAll('button')].filter(one => one.innerText === 'Close').pop().click(), 1)")
        page.until(lambda one: "Copy" not in one.text(), "closed the table")
    return said


def acted(page: Browser) -> list[tuple[str, str, str]]:
    """Which requests were not the page's own."""
    return [
        (method, url, body)
        for method, url, body in page.requests
        if re.search(r"attack[-.]|mutation", url, re.IGNORECASE) or "mutation" in body
    ]


@pytest.mark.parametrize(
    ("address", "there", "expected"),
    [
        (f"/assets/raw_events?partition={FIRST}", "Show Markdown", ATTACKS),
        (f"/assets/rejected_events?partition={FIRST}", "attack-file", ["![f](attack-file.png) <img src=attack-file2.png>.ndjson"]),
        (f"/assets/identity_changes?partition={FIRST}", "second_alias", ["# heading", *ATTACKS[5:8]]),
        (f"/assets/customer_profiles?partition={FIRST}", "last_city", ATTACKS[:1]),
        ("/assets/raw_events?view=checks&checkDetail=schema", "failing_rows", ["![h](/attack-header.png)", *ATTACKS[:20]]),
        ("/runs/{run}", "ASSET_MATERIALIZATION", []),
    ],
    ids=["events", "files", "ids", "values", "failing rows", "run"],
)
def test_attacks_are_text_on_dagsters_pages(page: Browser, site: tuple[str, str], address: str, there: str, expected: list[str]) -> None:
    """Every name is read as it is; no image, link, frame or script comes of it, and nothing is fetched or changed."""
    url, run = site
    page.requests.clear()
    said = "".join(everything_shown(page, url + address.format(run=run), there).split())
    assert [attack for attack in expected if "".join(plain(attack, 80).split()) not in said] == []
    assert acted(page) == []


def test_attacks_are_text_in_our_pictures(page: Browser, tmp_path: Path) -> None:
    """As a file of its own, where scripts would run, and within a page: the parts of a picture are its own, the names are read."""
    (tmp_path / "journeys.yaml").write_text(JOURNEYS)
    portfolio = load_portfolio(tmp_path / "journeys.yaml")
    days = [FIRST + timedelta(days=number) for number in range(len(ATTACKS))]
    of_all = {
        "date": days,
        "segment_id": ATTACKS,
        "customer_id": ATTACKS[0],
        "journey_id": ATTACKS,
        "entered_on": days,
        "member_since": days,
    }
    counts = dict.fromkeys(("customers", "entered", "left", "served", "served_most"), 1)
    one = pl.DataFrame(of_all | {"decision": "start", "arm": "treated"} | counts)
    walked = path.Path(
        customer_id=ATTACKS[0],
        first=days[0],
        last=days[-1],
        called={journey.id: journey.name for journey in portfolio.journeys},
        names=one.select("date", "customer_id"),
        memberships=one.select(*MICRO_SEGMENT_MEMBERSHIPS.schema),
        assignments=pl.DataFrame(
            one.select(set(JOURNEY_ASSIGNMENTS.schema) & set(one.columns)).to_dicts(), schema=JOURNEY_ASSIGNMENTS.schema
        ),
        messages=pl.DataFrame(schema=OUTBOUND_MESSAGES.schema),
        events=pl.DataFrame({"date": days, "name": ATTACKS, "number": [1] * len(days)}),
    )
    page.requests.clear()
    for svg in (path.draw(walked), matrix.draw(one.select(*SEGMENT_MATRIX.schema), portfolio)):
        titles = "".join(f"<p title='{xml(attack)}'>" for attack in ATTACKS)
        in_a_page = f"<!doctype html><title>page</title>{titles}{svg}"
        for name, text in {"picture.svg": svg, "page.html": in_a_page}.items():
            file = tmp_path / name
            file.write_text(text, encoding="utf-8")
            page.open(file.as_uri())
            page.until(lambda one: one.ask("document.readyState === 'complete' && !!document.querySelector('svg')"), "was drawn")
            tags = page.ask("[...new Set([...document.querySelectorAll('body > :not(p), svg *')].map(one => one.localName))].join(' ')")
            assert set(tags.split()) <= {"svg", "title", "style", "rect", "g", "path", "text"}
            texts = page.ask("[...document.querySelectorAll('svg text')].map(one => one.textContent)")
            assert [attack for attack in ATTACKS if plain(attack) not in texts] == []
            page.rest(0.5)
    assert acted(page) == []
