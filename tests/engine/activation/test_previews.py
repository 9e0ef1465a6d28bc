"""Pictures of messages: whole, and inert, whatever the HTML is."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.activation.previews import Preview, as_image, as_xml, picture
from atc_pipeline.content.templates import SLOTS

PREVIEW = Preview("hello", "hero:big", "Hello <b>", "Look & see", "Hi.\n\nBye.", "<p>Hi.<p>Bye.<br>", None)
MARKUP = st.sampled_from(
    ["<p>", "</p>", "<b onclick='x()'>", "</i>", "<br>", '<img src=x onerror=y alt="\'">', "<script>", "</script>", "&nbsp;"]
)
PIECES = MARKUP | st.sampled_from(
    ["<style>a>b{}", "</style>", "<!--[if mso]>", "<![endif]-->", "<svg/onload=x>", "</svg>", "<a href='javascript:x'>"]
)


@given(html=st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join))
def test_any_html_is_drawn_as_a_whole_picture(html: str) -> None:
    """It is XML, nothing in it runs or is fetched, and nothing leads anywhere."""
    root = ET.fromstring(picture(PREVIEW._replace(html=html)))  # noqa: S314  # we have written it
    for element in root.iter():
        assert element.tag.rpartition("}")[2] not in {"script", "iframe", "object", "img", "a:href"}
        assert not [name for name in element.attrib if name.startswith("on") or name in ("href", "src")]


@pytest.mark.parametrize(
    ("html", "written"),
    [
        ("<p>a<br>b", "<p>a<br/>b</p>"),
        ("<script>alert(1)</script>x", "x"),
        ('<b onclick="x()" style="color: red">y</b>', '<b style="color: red">y</b>'),
        ("<img alt='A pear' src='https://grocer.example/pear.png'>", '<span style="background:#e3e7eb;color:#667079">[A pear]</span>'),
        ("a\u202eb", "a\\u202eb"),
    ],
)
def test_html_is_written_as_an_allow_list_has_it(html: str, written: str) -> None:
    """What is not in it goes, and its text stays."""
    assert as_xml(html) == written


def test_deep_html_is_cut_off_and_not_followed() -> None:
    """Ten thousand elements within each other are not."""
    ET.fromstring(picture(PREVIEW._replace(html="<div>" * 10_000)))  # noqa: S314  # we have written it


def test_a_preview_shows_something_in_its_slots() -> None:
    """And is told on lines of its own."""
    preview = PREVIEW._replace(text=f"Bye: {SLOTS['unsubscribe_url']}", problem="guardrail:banned")
    assert "Bye: https://example.com/unsubscribe" in preview.tell()
    assert "would not be sent: guardrail:banned" in preview.tell()
    assert as_image("<svg/>", "a](b) `c`").startswith("![a  b   c ](data:image/svg+xml;base64,")
