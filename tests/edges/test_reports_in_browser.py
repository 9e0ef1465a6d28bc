"""The report in a real browser: by day, by night and on paper; hostile names are read and do nothing."""

import base64
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.escaping import plain
from atc_pipeline.reports.booklet import booklet
from tests.edges.attacks import ATTACKS
from tests.edges.browser import Browser, browser
from tests.engine.reports import hand_made

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser."""
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a day on which one journey has each of the hostile names."""
    folder = tmp_path_factory.mktemp("report")
    findings = hand_made.findings(folder)
    rows = [hand_made.estimate(name, "undecided", (1_000, 100), (24.1, 19.8), 6.0) for name in ATTACKS]
    hostile = replace(findings, uplift=pl.concat([findings.uplift, hand_made.uplift(*rows)]))
    report = folder / "report.html"
    report.write_text(booklet(hostile), encoding="utf-8")
    return report


def seen(page: Browser, file: Path, scheme: str) -> str:
    """Open it in light or dark."""
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.requests.clear()
    page.open(file.as_uri())
    page.until(lambda shown: shown.ask("document.readyState === 'complete' && !!document.querySelector('footer')"), "was shown")
    return page.text()


def test_names_are_read_and_nothing_is_fetched(page: Browser, file: Path) -> None:
    """The only request is for the file itself, and nothing on the page is alive."""
    says = "".join(seen(page, file, "light").split())
    page.rest(1)

    assert [attack for attack in ATTACKS if "".join(plain(attack, 80).split()) not in says] == []
    assert [url for _, url, _ in page.requests] == [file.as_uri()]
    assert page.ask("document.querySelectorAll('script, img, iframe, object, embed, link, form, input, video').length") == 0
    assert page.ask("[...document.querySelectorAll('a')].every(link => link.getAttribute('href').startsWith('#page-'))")


@pytest.mark.parametrize(("scheme", "darkest", "lightest"), [("light", 200, 256), ("dark", 0, 60)])
def test_paper_and_pictures_follow_the_scheme(page: Browser, file: Path, scheme: str, darkest: int, lightest: int) -> None:
    """The page's ground and the pictures' are of the same kind, and words stand out from both."""
    seen(page, file, scheme)
    grounds = page.ask("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg .paper')).fill]")
    inks = page.ask("[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('svg text.ink')).fill]")
    levels, words = ([int(re.findall(r"\d+", colour)[0]) for colour in colours] for colours in (grounds, inks))

    assert all(darkest <= level < lightest for level in levels)
    assert all(abs(level - word) > 150 for level in levels for word in words)


def test_nothing_is_wider_than_a_phone_but_what_scrolls_by_itself(page: Browser, file: Path) -> None:
    """Tables scroll within themselves; the page does not."""
    page.call("Emulation.setDeviceMetricsOverride", width=420, height=900, deviceScaleFactor=1, mobile=True)
    try:
        seen(page, file, "light")
        assert page.ask("document.documentElement.scrollWidth") <= 420
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_words_of_a_picture_do_not_run_out_of_it(page: Browser, file: Path) -> None:
    """Every text of every picture ends within it."""
    seen(page, file, "light")
    beyond = page.ask("""[...document.querySelectorAll('svg')].flatMap(svg => {
        const edge = svg.viewBox.baseVal.width + 1
        return [...svg.querySelectorAll('text')].filter(text => {
            const box = text.getBBox()
            return box.x < -1 || box.x + box.width > edge
        }).map(text => text.textContent)
    })""")
    assert beyond == []


def test_it_prints_on_white_paper_whatever_the_scheme(page: Browser, file: Path) -> None:
    """On pages of A4, also from a screen that is dark."""
    seen(page, file, "dark")
    page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    grounds = page.ask(
        "[document.body, ...document.querySelectorAll('svg .paper')].map(part => getComputedStyle(part))"
        ".map(style => style.fill === 'rgb(0, 0, 0)' ? style.backgroundColor : style.fill)"
    )
    assert set(grounds) == {"rgb(255, 255, 255)"}
    printed = base64.b64decode(page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
    sizes = {tuple(map(float, match)) for match in re.findall(rb"/MediaBox ?\[0 0 ([\d.]+) ([\d.]+)\]", printed)}

    assert {(round(wide), round(high)) for wide, high in sizes} <= {(595, 842), (594, 841), (595, 841), (594, 842), (596, 842)}
    streams = [zlib.decompress(part) for part in re.findall(rb"FlateDecode[^>]*>>\s*stream\r?\n(.*?)endstream", printed, re.DOTALL)[:3]]
    assert streams
