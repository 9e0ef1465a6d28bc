"""What is said, from the file to what people look at: tables, pictures, and the commands."""

import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.shown import previews
from atc_pipeline.__main__ import main
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, SPOKEN, make_world, run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], dg.DagsterInstance]]:
    """Four days of a small world with content."""
    environment = make_world(tmp_path_factory.mktemp("spoken"), SPOKEN)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, DAYS[-1], instance=instance).success
        yield environment, instance


def pictures(instance: dg.DagsterInstance, asset: str, name: str) -> tuple[str, list[str]]:
    """Return the Markdown of the latest materialization, and the pictures in it."""
    materialization = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert materialization is not None
    told = materialization.asset_materialization
    assert told is not None
    text = str(told.metadata[name].value)
    return text, [base64.b64decode(found).decode() for found in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text)]


def test_what_is_sent_is_in_a_table(world: tuple[dict[str, str], dg.DagsterInstance]) -> None:
    """Of each message on a channel with a medium, and of no other, what it says."""
    lake = Lake(root=f"{world[0]['ATC_HOME']}/lake")
    for day in DAYS:
        planned = lake.read("outbound_messages", day).filter(pl.col("withheld").is_null(), pl.col("channel") == "email")
        rendered = lake.read("rendered_messages", day)
        assert sorted(planned["idempotency_key"]) == rendered["idempotency_key"].to_list()
        assert planned.sort("idempotency_key")["variant"].equals(rendered["variant"])
    sent = pl.concat([lake.read("rendered_messages", day) for day in DAYS])
    assert sent.height
    assert sent["text"].str.contains("News from (Bonn|Kiel|your town)\\.|A (first )?tea").all()


def test_each_content_is_shown_in_pictures(world: tuple[dict[str, str], dg.DagsterInstance]) -> None:
    """On somebody who does not exist, each variant once, in pictures that are whole and can do nothing."""
    text, drawn = pictures(world[1], "content_library", "previews")
    assert len(drawn) == 5  # hello and tea_1 in two variants, tea_2 in one
    assert "hello · offer:buyers" in text
    for svg in drawn:
        ET.fromstring(svg)  # noqa: S314  # we have written it
        assert "<script" not in svg
        assert "href" not in svg
    assert any("Bonn" in svg for svg in drawn)


def test_the_shortest_and_the_longest_say_nothing_of_anybody(world: tuple[dict[str, str], dg.DagsterInstance]) -> None:
    """Dagster keeps them for ever: what is theirs is put out."""
    text, drawn = pictures(world[1], "rendered_messages", "shortest_and_longest")
    assert drawn
    assert not re.search("Bonn|Kiel", text + "".join(drawn))


def test_no_more_pictures_are_kept_than_can_be_looked_at(
    world: tuple[dict[str, str], dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how to see the others is said."""
    from resources.journeys import JourneysFile  # noqa: PLC0415

    monkeypatch.setattr(previews, "MOST_PICTURES", 2)
    lake = Lake(root=f"{world[0]['ATC_HOME']}/lake")
    portfolio = JourneysFile(path=world[0]["ATC_JOURNEYS"], home=world[0]["ATC_HOME"]).load()
    shown = str(previews.content_pictures(lake, portfolio, FIRST)["previews"].value)
    assert shown.count("data:image") == 2
    assert "The first 2 pictures, of 3 contents" in shown


@pytest.fixture
def asked(world: tuple[dict[str, str], dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands are pointed at the world; return its home."""
    for name, value in world[0].items():
        monkeypatch.setenv(name, value)
    return Path(world[0]["ATC_HOME"])


def test_a_content_is_previewed(asked: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In each variant, with its HTML in files of its own."""
    assert asked.exists()
    assert main(["preview", "hello", "--html", str(tmp_path / "hello.html")]) == 0
    told = capsys.readouterr().out
    assert "hello · offer:buyers" in told
    assert "Subject    Hello Bonn" in told
    assert "https://example.com/unsubscribe" in told
    assert "A first tea." in (tmp_path / "hello-2.html").read_text()


def test_a_content_is_previewed_as_a_customer_would_get_it(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their profile of the latest day."""
    profile = Lake(root=str(asked / "lake")).read("customer_profiles", DAYS[-1]).filter(customer_id="c03").row(0, named=True)
    assert main(["preview", "hello", "--customer", "c03"]) == 0
    assert f"News from {profile['last_city']}." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["preview", "helo"], "no content 'helo' in journeys.yaml; did you mean hello?"),
        (["preview", "hello", "--customer", "c3"], "customer 'c3' is not known"),
        (["preview", "hello", "--html", "no/such/folder.html"], "--html no/such/folder.html: No such file or directory"),
    ],
)
def test_what_cannot_be_previewed_says_why(asked: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    """With code 1, and what could be asked instead."""
    assert asked.exists()
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


def test_explain_and_journey_print_the_message(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Subject and text, and in a path the subjects."""
    message = Lake(root=str(asked / "lake")).read("rendered_messages", FIRST).row(0, named=True)
    assert main(["explain", message["customer_id"], "--day", str(FIRST)]) == 0
    told = capsys.readouterr().out
    assert f"Subject: {message['subject']}" in told
    assert f"| {message['text'].splitlines()[0]}" in told
    assert "<unsubscribe_url>" in told
    assert main(["journey", message["customer_id"]]) == 0
    assert f'hello: "{message["subject"]}"' in capsys.readouterr().out
