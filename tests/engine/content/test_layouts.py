"""Layouts and blocks: MJML and HTML made into one HTML in which every piece of a template is where it was.

What belongs here: markup by itself. What does not: files and names (``tests/engine/journeys/test_library``).
"""

import pytest

from atc_pipeline.content.layouts import BODY, PLAIN, PREHEADER, LayoutError, as_html, compiled, html_of, plain_html, text_of
from atc_pipeline.content.templates import SLOTS, TemplateError

MJML = """<mjml><mj-head><mj-style>.blue { color: blue } @media (max-width: 300px) { .blue { color: red } }</mj-style>
<mj-attributes><mj-text font-size="21px"/></mj-attributes></mj-head>
<mj-body><mj-section><mj-column><mj-text>Shop &amp; co</mj-text></mj-column></mj-section>
{{ body }}
<mj-section><mj-column><mj-text><a href="{{ unsubscribe_url }}">Bye</a></mj-text></mj-column></mj-section></mj-body></mjml>"""
TWO = """<mj-section><mj-column width="50%"><mj-text><b class="blue">{{ name | default("it's") }}</b></mj-text></mj-column>
{% if orders < 3 %}<mj-column width="50%"><mj-button href="https://x.example/{{ plan }}?a=1&amp;b=2">Go</mj-button></mj-column>{% endif %}
</mj-section>"""


def refusal(layout: str, **blocks: str) -> LayoutError:
    """Return the error with which markup is refused."""
    with pytest.raises(LayoutError) as error:
        compiled(layout, blocks)
    return error.value


def test_a_layout_and_its_blocks_are_compiled_together() -> None:
    """Columns of blocks are known to the head, styles of the layout reach the blocks, and templates stand where they stood."""
    html, blocks = compiled(MJML, {"two": TWO, "text": as_html("Hi {{ name }},\nyou & I")})

    assert html.count(BODY) == html.count(PREHEADER) == 1
    assert html.index(PREHEADER) < html.index("Shop &amp; co") < html.index(BODY) < html.index(f'href="{SLOTS["unsubscribe_url"]}"')
    assert "mj-column-per-50" in html
    assert "@media" in html
    assert "fonts.googleapis.com" not in html
    assert 'style="color: blue;">{{ name | default("it\'s") }}</b>' in blocks["two"]
    assert 'href="https://x.example/{{ plan }}?a=1&amp;b=2"' in blocks["two"]
    assert blocks["two"].index("{% if orders < 3 %}") < blocks["two"].index("<a href") < blocks["two"].index("{% endif %}")
    assert "font-size:21px" in blocks["text"]
    assert "Hi {{ name }},<br>you &amp; I" in blocks["text"]
    assert "Atc" not in html + "".join(blocks.values())


def test_a_plain_page_takes_blocks_of_any_markup() -> None:
    """Without a layout blocks are paragraphs; a block in MJML is HTML there too."""
    html, blocks = compiled(PLAIN, {"text": as_html("Hi"), "two": TWO})

    assert html == plain_html()
    assert blocks["text"] == "<p>Hi</p>"
    assert "<table" in blocks["two"]
    assert "<mj" not in blocks["two"]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a < b & c", "<p>a &lt; b &amp; c</p>"),
        ("a\n\n\nb\nc", "<p>a</p><p>b<br>c</p>"),
        ("{{ x | default('<b>') }}{# no #}", "<p>{{ x | default('<b>') }}</p>"),
        (
            "go: https://x.example/?a={{ x }}&b=1.",
            '<p>go: <a href="https://x.example/?a={{ x }}&amp;b=1">https://x.example/?a={{ x }}&amp;b=1</a>.</p>',
        ),
        ("{% if x %}https://x.example/{% endif %}", '<p>{% if x %}<a href="https://x.example/">https://x.example/</a>{% endif %}</p>'),
        ("{{ unsubscribe_url }}", '<p><a href="{{ unsubscribe_url }}">{{ unsubscribe_url }}</a></p>'),
        ("<a href='x'>", "<p>&lt;a href='x'&gt;</p>"),
    ],
)
def test_a_text_is_written_as_html(text: str, html: str) -> None:
    """Paragraphs, lines, and links that can be followed; what is markup in it is text."""
    assert as_html(text) == html


def test_an_email_is_put_together() -> None:
    """Blocks in order, empty ones left out of the text; the preheader is escaped."""
    html = html_of(plain_html(), ["<p>a</p>", "<p>b</p>"], "x < y")

    assert "<p>a</p><p>b</p>" in html
    assert html.index("x &lt; y") < html.index("<p>a</p>")
    assert BODY not in html
    assert PREHEADER not in html
    assert text_of(["a ", " ", "b"]) == "a\n\nb"


@pytest.mark.parametrize(
    ("layout", "line", "reason"),
    [
        ("<p>x</p>", 1, "{{ body }} is missing"),
        ("{{ body }}\n{{ body }}", 2, "stands in it a second time"),
        ("{{ body }}\n\n{{ name }}", 3, "a layout holds only {{ body }} and unsubscribe_url"),
        ("{% if x %}{{ body }}{% endif %}", 1, "values belong to blocks"),
        ("<a href='{{ body }}'>x</a>", 1, "{{ body }} stands where no block can"),
        ("<mjml>\n<mj-boody>{{ body }}</mj-boody></mjml>", 2, "is no MJML: unexpected element"),
        ("<mjml><mj-body>{{ body }}", 1, "is no MJML: unexpected end of stream"),
        ("<mjml><mj-body>{{ body }}<mj-include path='/etc/passwd'/></mj-body></mjml>", 1, "unable to load included template"),
        ("<b>" * 60 + "{{ body }}", 1, "is nested more than 50 deep, or an element is not closed"),
        ("<mj-wrapper></b>" * 30_000 + "{{ body }}", 1, "is longer than 200,000 characters"),
        ("<i></i>" * 5_000 + "{{ body }}", 1, "has more than 4,000 elements"),
        ("<mjml><mj-body>" + "<mj-wrapper></x>" * 60 + "{{ body }}", 1, "is nested more than 50 deep"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_layout_is_refused_with_its_line(layout: str, line: int, reason: str) -> None:
    """Wrong or hostile markup is an error that says where, and never takes the process along."""
    error = refusal(layout)
    assert reason in str(error)
    assert (error.line, error.block) == (line, None)


@pytest.mark.parametrize(
    ("block", "line", "reason"),
    [
        ("<mj-section>\n\n<mj-columm></mj-section>", 1, "is no MJML: unexpected end of stream"),
        ("<mj-foo/>", 1, "unknown element <mj-foo"),
        ("<mj-section><mj-image src='x' {% if a %}alt='b'{% endif %}/></mj-section>", 1, "is no MJML"),
        ("<p>" * 60, 1, "is nested more than 50 deep"),
    ],
)
def test_the_guilty_block_is_named(block: str, line: int, reason: str) -> None:
    """Of all blocks that are compiled with a layout, the one that is wrong is told."""
    error = refusal(MJML, good="<p>a</p>", bad=block)
    assert reason in str(error)
    assert (error.line, error.block) == (line, "bad")


def test_what_is_no_template_is_refused_in_a_layout_too() -> None:
    """An open {{ is an error of the template."""
    with pytest.raises(TemplateError, match="is no template"):
        compiled("{{ body", {})
