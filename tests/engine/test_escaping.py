"""Text from outside is text on every surface: what acts is made visible, and nothing becomes markup, a command or a line."""

import re
import unicodedata
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.escaping import log_line, markdown, plain, terminal, xml

ACTING = {
    chr(code)
    for code in range(0x110000)
    if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp") and not 0x600 <= code <= 0x605
} - set("\u06dd\u0890\u0891\u08e2\U000110bd\U000110cd")  # signs of Arabic and Kaithi that are seen
texts = st.text(st.characters(codec=None) | st.sampled_from("\x1b\x07\r\n\u202e\u200b\ud800`|[]!<>&*_~@:/.\\#-+=1 wthps"))


def test_everything_that_acts_or_hides_is_written_as_its_escape() -> None:
    """Control characters, marks and overrides of direction, zero-width ones, line separators, half characters: none goes through."""
    shown = plain("".join(sorted(ACTING)), None)
    assert not ACTING & set(shown)
    assert shown.isascii()
    assert plain("a\x1b[31m\r\n\u202e\ud800\ufffe", None) == r"a\x1b[31m\r\n\u202e\ud800\ufffe"


def test_what_people_write_stays_as_it_is() -> None:
    """Letters of any script, emoji and marks of quotation are nobody's enemy."""
    assert plain('Größe "5" - 注文完了 الطلب ❤️ 🛒') == 'Größe "5" - 注文完了 الطلب ❤️ 🛒'


def test_long_texts_are_cut_and_say_so() -> None:
    """A text of 3,000 letters shows 200 of them and how many there are; where it is marked up, what is cut is the text."""
    assert plain("l" * 3000) == "l" * 200 + "… (3,000 characters)"
    assert plain("l" * 200) == "l" * 200
    assert markdown("*" * 300, 2) == r"\*\*… (300 characters)"
    assert len(log_line("l" * 100_000)) < 1100


@given(texts)
def test_no_surface_lets_anything_through_that_acts(text: str) -> None:
    """Whatever the text: one line, in UTF-8, without anything that acts."""
    for shown in (plain(text), markdown(text), xml(text), log_line(text)):
        assert not ACTING & set(shown)
        assert shown.encode("utf-8") is not None
    assert not ACTING & set(terminal(text).replace("\n", ""))


@given(texts)
def test_xml_reads_back_what_was_meant(text: str) -> None:
    """Inside an element and inside an attribute, and nothing that XML 1.0 does not allow."""
    element = ET.fromstring(f'<svg title="{xml(text, None)}"><text>{xml(text, None)}</text></svg>')  # noqa: S314  # our own
    assert element.attrib["title"] == element[0].text or not text
    assert (element[0].text or "") == plain(text, None)


@given(texts)
def test_markdown_keeps_no_markup_of_the_text(text: str) -> None:
    """Brackets, stars, angles, ampersands and strokes stand behind a backslash; bars and ticks are references; addresses are parted."""
    shown = re.sub(r"\\[\\*\[\]<>&~_]|&#\d+;|`(?:://|[.@])+`", "", markdown(text))
    assert not set(shown) & set("\\*[]<>&~`|@")
    assert not re.search(r"https?://|www\.", shown, re.IGNORECASE)
    assert not re.match(r" |#+( |$)|[-= ]+$|[-+]( |$)|\d+[.)]( |$)", markdown(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order_completed 2026-03-01 +5 (a) c01", "order_completed 2026-03-01 +5 (a) c01"),
        ("![x](/graphql?query=m)", r"!\[x\](/graphql?query=m)"),
        ("a|b`c`", "a&#124;b&#96;c&#96;"),
        ("https://a.b/?q www.c.d e@@f.g", "https`://`a.b/?q www`.`c.d e`@@`f.g"),
        ("# 1", "&#35; 1"),
        ("#1 --select 2026-03-01", "#1 --select 2026-03-01"),
        ("--select", "--select"),
        ("---", "&#45;&#45;&#45;"),
        ("- 1", "&#45; 1"),
        ("1. x", "&#49;. x"),
        ("    code", "&#32;&#32;&#32;&#32;code"),
        ("_a_ b_c", r"\_a\_ b_c"),
    ],
)
def test_markdown_touches_no_more_than_it_must(text: str, shown: str) -> None:
    """Ids, days and signed numbers are read in the record of a run as they are."""
    assert markdown(text) == shown


def test_a_page_for_a_terminal_keeps_its_lines() -> None:
    """Lines are ours, escape sequences are not; nothing is cut."""
    assert terminal("one\n\x1b]0;two\x07\r" + "l" * 500) == "one\n" + r"\x1b]0;two\x07\r" + "l" * 500
