"""What rendered texts lack is put in by whoever hands them over as data; no text goes out that lacks it."""

import html
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest

from atc_pipeline.content.templates import SLOTS
from resources.channels import files
from resources.channels.channel import Setting
from resources.channels.unsubscribe import Declined, Links
from tests.edges.sender import outbound, wall_clock

LINKED = {"ATC_UNSUBSCRIBE_URL": "https://grocer.example/bye?lang=en&a=b", "ATC_UNSUBSCRIBE_SECRET": "sixteen-letters!"}
BYE, PAGE, OWN_ID = SLOTS["unsubscribe_url"], SLOTS["preferences_url"], SLOTS["message_id"]


def rendered(**texts: str | None) -> pl.DataFrame:
    """Two messages of which the first has texts."""
    first = pl.int_range(2) == 0
    return outbound(2).with_columns(pl.when(first).then(pl.lit(text, pl.String)).alias(name) for name, text in texts.items())


def hand_over(messages: pl.DataFrame, home: Path, environment: dict[str, str]) -> tuple[list[tuple[str, str | None]], dict[str, str]]:
    """Hand over to files; return what became of each, and the lines by customer."""
    outcomes = files.connect("email", "", Setting(str(home), wall_clock, environment)).send(messages)
    lines = [line for path in home.rglob("*.ndjson") for line in path.read_text("utf-8").split("\n")[:-1]]
    return outcomes.select("status", "reason").rows(), {json.loads(line)["customer_id"]: line for line in lines}


def test_links_are_put_in_as_each_text_is_written(tmp_path: Path) -> None:
    """Plain in text, escaped in HTML and in JSON; each declines this customer's channel by this message."""
    messages = rendered(
        text=f"Bye: {BYE}, {PAGE}, {OWN_ID}, {BYE}", html=f'<a href="{BYE}">bye</a>', fields=f'{{"bye":"{BYE}"}}', subject="Hi"
    )
    environment = LINKED | {"ATC_PREFERENCES_URL": "https://grocer.example/page"}
    answers, lines = hand_over(messages, tmp_path, environment)
    assert answers == [("delivered", None)] * 2
    assert "\ue000" not in lines["c0"] + lines["c1"]
    message = json.loads(lines["c0"])
    _, link, page, own_id, again = message["text"].replace(",", "").split(" ")
    assert (own_id, again) == ("0000000000000000", link)
    assert link.startswith("https://grocer.example/bye?lang=en&a=b&token=")
    assert page.startswith("https://grocer.example/page?token=")
    assert message["html"] == f'<a href="{html.escape(link)}">bye</a>'
    assert json.loads(message["fields"]) == {"bye": link}
    declined = Declined("c0", "email", own_id)
    for url in (link, page):
        assert Links.from_environment(LINKED).read(parse_qs(urlsplit(url).query)["token"][0]) == declined


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "ATC_UNSUBSCRIBE_URL is not set"),
        (LINKED | {"ATC_UNSUBSCRIBE_SECRET": "hush"}, "ATC_UNSUBSCRIBE_SECRET has a secret of fewer than 16 letters"),
        (LINKED | {"ATC_PREFERENCES_URL": "http://hush"}, "ATC_PREFERENCES_URL is no address: expected https://host/path"),
    ],
)
def test_nobody_gets_a_link_that_is_none(tmp_path: Path, environment: dict[str, str], problem: str) -> None:
    """Where links cannot be made, a message that has one has failed with what to set; every other goes out, with its id in it."""
    ((status, reason), second), lines = hand_over(rendered(text=f"Hi. {BYE}"), tmp_path, environment)
    assert (status, second) == ("failed", ("delivered", None))
    assert reason is not None
    assert reason.startswith(problem)
    assert "hush" not in reason
    assert lines.keys() == {"c1"}
    answers, lines = hand_over(rendered(text=f"Hi. {OWN_ID}"), tmp_path, environment)
    assert answers == [("delivered", None)] * 2
    assert json.loads(lines["c0"])["text"] == f"Hi. {0:016x}"


def test_texts_that_lack_nothing_stay_as_they_are(tmp_path: Path) -> None:
    """Whatever else is like a slot in them."""
    text = "\ue000unsubscribe\ue001 {{ unsubscribe_url }}"
    answers, lines = hand_over(rendered(text=text, html=None), tmp_path, {})
    assert answers == [("delivered", None)] * 2
    assert json.loads(lines["c0"])["text"] == text
