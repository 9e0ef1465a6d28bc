"""Texts: what the dialect of SPEC 9.3 takes and how it is written, what it refuses and with which words, and that no value gets out.

What belongs here: one template by itself. What does not: where in the file it stands (``tests/engine/journeys/test_library``).
"""

import pickle
import re
from collections.abc import Mapping
from datetime import date
from html import unescape
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atc_pipeline.content.templates import (
    ASSIGNMENT,
    FILTERS,
    MOST_RENDERED,
    MOST_WRITTEN,
    SLOTS,
    Escape,
    RenderError,
    Template,
    TemplateError,
    cleaned,
    compile_template,
    pieces,
)

SCHEMA: Mapping[str, pl.DataType] = {
    "name": pl.String(),
    "plan": pl.String(),
    "orders": pl.Int64(),
    "spend": pl.Float64(),
    "score": pl.Float64(),
    "tags": pl.List(pl.String()),
    "seen_on": pl.Date(),
    "is_new": pl.Boolean(),
    **ASSIGNMENT,
}
NULLABLE = ("name", "score")
VALUES: Mapping[str, object] = {
    "name": "Ann", "plan": "gold", "orders": 3, "spend": 1234.5, "score": None, "tags": ["tea", "jam"], "seen_on": date(2026, 3, 9),
    "is_new": True, "journey_id": "welcome", "journey_name": "Welcome", "day_index": 1, "entered_on": date(2026, 3, 1),
    "ends_on": date(2026, 3, 8),
}  # fmt: skip
OUTSIDE = "is outside the dialect"
CALCULATES = "a template does not calculate: declare a trait, and name it here"
REACHES = "a template does not reach into a value: use first, last or for"
INCLUDES = "a template includes nothing: put blocks next to each other in the content's body"
SETS = "a template sets nothing: name the column where it is used"
EMPTY = "column 'name' can be empty: write name | default('...'), or {% if name %} around it"
LIST = "a list stands only after 'in': x in ['a', 'b']"
PLACED = "a value stands only in the text, or in the quoted value of an attribute that is no style and no script"
LINKED = "a link begins with https:// and its host: values stand only after those"
BRANCH = "what is opened in a branch (a tag, a quote) is closed in it"


def template(text: str, escape: Escape = "text") -> Template:
    """Compile a text over the columns above."""
    return compile_template(text, SCHEMA, nullable=NULLABLE, escape=escape)


def rendered(text: str, escape: Escape = "text", **values: object) -> str:
    """Compile and render."""
    return template(text, escape).render({**VALUES, **values})


def refusal(text: str, escape: Escape = "text") -> TemplateError:
    """Return the error with which a text is refused."""
    with pytest.raises(TemplateError) as error:
        template(text, escape)
    return error.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no template at all", "no template at all"),
        ("Hi {{ name | default('there') }},", "Hi Ann,"),
        ("{{ orders }} {{ spend }} {{ seen_on }} {{ plan }}", "3 1234.5 2026-03-09 gold"),
        ("{{ spend | money }} {{ spend | money('$') }} {{ -1 | money('$') }}", "1,234.50 $1,234.50 -$1.00"),
        ("{{ spend | round }} {{ spend | round(1) }} {{ 0.125 | round(2) }}", "1235 1234.5 0.13"),
        ("{{ seen_on | date }}, {{ seen_on | date('%a %d %b %y') }}", "9 March 2026, Mon 09 Mar 26"),
        ("{{ plan | upper }} {{ plan | title }} {{ plan | capitalize }} {{ 'ABC' | lower }} {{ ' x ' | trim }}", "GOLD Gold Gold abc x"),
        ("{{ 'the quick brown fox' | truncate(12) }} {{ plan | truncate(4) }} {{ 'abcdef' | truncate(4) }}", "the quick… gold abc…"),
        ("{{ tags | join }} {{ tags | join(' + ') }} {{ tags | length }} {{ plan | length }}", "tea, jam tea + jam 2 4"),
        ("{{ tags | first | default('x') }} {{ tags | last | default('x') }}", "tea jam"),
        ("{{ 'a b&c' | urlencode }}", "a%20b%26c"),
        ("{% for tag in tags %}{{ tag | upper }};{% endfor %}", "TEA;JAM;"),
        ("{% if orders > 5 %}many{% elif orders >= 3 %}some{% else %}few{% endif %}", "some"),
        ("{% if is_new and not orders == 4 or plan in ['a', 'b'] %}yes{% endif %}", "yes"),
        ("{% if 'tea' in tags and 'old' in plan and orders not in [1, -2] %}yes{% endif %}", "yes"),
        ("{% if score is none %}none{% else %}{{ score | round }}{% endif %}", "none"),
        ("{% if score is not none and score > 1 %}{{ score }}{% endif %}.", "."),
        ("{% if name == 'Ann' %}{{ name }}{% endif %}", "Ann"),
        ("{% if not name %}you{% else %}{{ name }}{% endif %}", "Ann"),
        ("{# nobody sees this #}a{{ name | default(plan) }}", "aAnn"),
        ("on day {{ day_index }} of {{ journey_name }}, until {{ ends_on | date('%e %B') }}", "on day 1 of Welcome, until 8 March"),
        ("https://shop.example/?n={{ name | default('x') }}&t={{ plan | urlencode }}", "https://shop.example/?n=Ann&t=gold"),
    ],
)
def test_the_dialect_says(text: str, expected: str) -> None:
    """Every form, filter and test of the dialect, as it is written."""
    assert rendered(text) == expected


@pytest.mark.parametrize("value", [None, "", "  ", "\t\r\n", "\u200b", "\u202e "])
def test_blanks_are_nothing(value: str | None) -> None:
    """A text of blanks only, or of what nobody sees, is null: nobody ever receives Hi ,."""
    assert rendered("Hi {{ name | default('there') }},", name=value) == "Hi there,"
    assert rendered("{% if name %}Hi {{ name }},{% else %}Hi!{% endif %}", name=value) == "Hi!"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ 'a' * 500000000 }}", CALCULATES),
        ("{{ orders + 1 }}", CALCULATES),
        ("{{ -orders }}", CALCULATES),
        ("{{ name() }}", "calls and macros are outside the dialect: use the filters"),
        ("{{ ''.__class__ }}", REACHES),
        ("{{ tags[0] }}", REACHES),
        ("{{ 'a' ~ plan }}", "texts are put together by writing them next to each other: {{ a }}{{ b }}"),
        ("{{ 'a' if is_new else 'b' }}", "is written {% if x %}...{% else %}...{% endif %} here"),
        ("{{ ['a'] }}", LIST),
        ("{{ {} }}", LIST),
        ("{% if plan in [plan] %}{% endif %}", "a list is written with texts only, or numbers only: x in ['a', 'b']"),
        ("{% set x = 1 %}", SETS),
        ("{% with %}{% endwith %}", SETS),
        ("{% include 'x' %}", INCLUDES),
        ("{% import 'x' as y %}", INCLUDES),
        ("{% extends 'x' %}", INCLUDES),
        ("{% block x %}{% endblock %}", INCLUDES),
        ("{% macro x() %}{% endmacro %}", "calls and macros are outside the dialect: use the filters"),
        ("{% call x() %}{% endcall %}", "calls and macros are outside the dialect: use the filters"),
        ("{% filter upper %}{% endfilter %}", f"filterblock {OUTSIDE}: {{{{ }}}}, if, for and the filters are in it"),
        ("{% raw %}{{ x }}{% endraw %}", f"{{% raw %}} {OUTSIDE}"),
        ("{% do x %}", "is no template: Encountered unknown tag 'do'"),
        ("{{ name", "is no template: {{ is not closed"),
        ("{{ none }}", "none stands only in 'is none' and 'is not none'"),
        ("{{ plan | wordcount }}", "unknown filter 'wordcount'"),
        ("{{ nmae }}", "unknown column 'nmae'"),
        ("{{ loop }}", "unknown column 'loop'"),
        ("{{ self }}", "unknown column 'self'"),
        ("Hi {{ name }}", EMPTY),
        ("{{ name | upper }}", EMPTY),
        ("{{ name | default(name) }}", EMPTY),
        ("{% if score > 1 %}{% endif %}", "column 'score' can be empty: write score | default('...'), or {% if score %} around it"),
        ("{% if name != 'x' %}{{ name }}{% endif %}", EMPTY),
        ("{% if name or is_new %}{{ name }}{% endif %}", EMPTY),
        ("{{ tags | first }}", "it can be empty: write list | default('...')"),
        ("{{ name | default('') }}", "default('') leaves a hole: write what stands there, or an {% if %} around it"),
        ("{{ name | default }}", "default takes what stands where there is nothing, such as default('there')"),
        ("{{ name | default('a', true) }}", "default takes at most one value, without a name"),
        ("{{ plan | truncate }}", "truncate takes how many characters, such as truncate(40)"),
        ("{{ plan | truncate(99999) }}", "truncate takes how many characters, such as truncate(40)"),
        ("{{ spend | round(orders) }}", "round takes how many decimals, from 0 to 6"),
        ("{{ seen_on | date('%H') }}", "date takes a form made of %d %e %m %b %B %y %Y %a %A, such as date('%e %B')"),
        ("{{ plan | upper(1) }}", "upper takes no value"),
        ("{{ plan | money }}", "column 'plan' is text, and number is expected for money"),
        ("{{ score | default('no') | money }}", "it is number or text, and number is expected for money"),
        ("{{ tags }}", "column 'tags' is list, and date or number or text is expected to show it"),
        ("{{ is_new }}", "column 'is_new' is true or false, and date or number or text is expected to show it"),
        ("{% for x in plan %}{% endfor %}", "column 'plan' is text, and list is expected for goes over a list"),
        ("{% for x in tags %}{% for y in tags %}{% endfor %}{% endfor %}", "a for inside a for is outside the dialect"),
        ("{% for x in tags if x %}{% endfor %}", "is written {% for x in list %} here, with an if inside"),
        ("{% for x, y in tags %}{% endfor %}", "is written {% for x in list %} here, with an if inside"),
        ("{% for plan in tags %}{% endfor %}", "'plan' is taken: name the item otherwise, in small letters"),
        ("{% if orders == 'a' %}{% endif %}", "number is compared with text"),
        ("{% if 1 < orders < 5 %}{% endif %}", "is compared once here: write a < b and b < c"),
        ("{% if orders is odd %}{% endif %}", "the test 'is odd' is outside the dialect: there is only 'is none'"),
        ("{% if unsubscribe_url %}{% endif %}", "unsubscribe_url stands alone: {{ unsubscribe_url }}"),
        ("https://{{ plan }}", LINKED),
        ("https://x.example{{ plan }}", LINKED),
        ("https://x.example/{{ unsubscribe_url }}", "unsubscribe_url stands alone: in the text, or as the whole value of an href"),
        ("{% if is_new %}https://x.example/{% endif %}{{ plan }}", "a link is written whole in one branch: put a blank after it"),
        ("a\ue000b", "the character U+E000 is ours: remove it"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "is nested too deeply"),
        ("{{ plan" + " | lower" * 100 + " }}", "is nested too deeply"),
        ("{% if is_new %}" * 40 + "{% endif %}" * 40, "is nested too deeply"),
        ("x{{ orders }}" * 12_000, "has more than 20,000 parts"),
        ("x" * (MOST_WRITTEN + 1), f"is longer than {MOST_WRITTEN:,} characters"),
    ],
)  # fmt: skip
def test_what_is_outside_is_refused_with_what_to_do(text: str, reason: str) -> None:
    """Whatever is not listed is refused when the portfolio is loaded, before anything of it runs."""
    assert str(refusal(text)) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<a href={{ plan }}>x</a>", PLACED),
        ("<a {{ plan }}>x</a>", PLACED),
        ("<{{ plan }}>", PLACED),
        ("<scr{# #}ipt>{{ plan }}</script>", PLACED),
        ("</{{ plan }}>", PLACED),
        ("<p style='color:{{ plan }}'>", PLACED),
        ('<p onclick="{{ plan }}">', PLACED),
        ("<script>{{ plan }}</script>", PLACED),
        ("<style>{{ plan }}</style>", PLACED),
        ("<!-- {{ plan }} -->", PLACED),
        ("<a href='{{ plan }}'>x</a>", LINKED),
        ("<a href='javascript:{{ plan }}'>x</a>", LINKED),
        ("<a href='http://x.example/{{ plan }}'>x</a>", LINKED),
        ("<a title='{{ unsubscribe_url }}'>x</a>", "unsubscribe_url stands alone"),
        ("{% if is_new %}<a href='https://x.example'>{% endif %}<b title={% if is_new %}'{% endif %}>", BRANCH),
        ("<b {% if is_new %}title='{% else %}lang=\"{% endif %}{{ plan }}'>", BRANCH),
        ("{% for x in tags %}<b title='{% endfor %}", BRANCH),
        ("<a href='x", "ends inside a tag, a comment or a quoted value"),
    ],
)  # fmt: skip
def test_html_takes_values_only_where_they_are_inert(text: str, reason: str) -> None:
    """In a tag, a style, a script, a comment, or at the start of a link a value could be anything: there it is refused."""
    assert reason in str(refusal(text, "html"))


HOSTILE = ("{{7*7}}", "{% for x in y %}", "<script>alert(1)</script>", "a\r\nBcc: x@example.com", "\u202egpj.exe", "\" onclick='x'",
           "javascript:x", "\ue000unsubscribe_url\ue001", "\x00\x1b[2J", "\ud800", "https://evil.example/")  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_profile_is_inert_in_every_medium(value: str) -> None:
    """No value is read as a template, a tag, an attribute, a line, a slot, or a mark that turns the direction of writing."""
    text = rendered("Hi {{ name | default('x') }}!", name=value)
    header = rendered("Hi {{ name | default('x') }}!", "header", name=value)
    html = rendered('<p title="{{ name | default(plan) }}">{{ name | default(plan) }}</p>', "html", name=value)
    link = rendered('<a href="https://shop.example/?n={{ name | default(plan) }}">x</a>', "html", name=value)

    assert "49" not in text
    assert text == header
    assert not re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069\ue000\ue001\ud800-\udfff]", text + html + link)
    assert html.count("<") == html.count(">") == 2
    assert html.count('"') == 2
    assert unescape(html).count(str(cleaned(value) or "gold")) == 2
    assert re.fullmatch(r'<a href="https://shop\.example/\?n=[A-Za-z0-9%._~-]*">x</a>', link)


def test_slots_are_marks_that_no_value_can_hold() -> None:
    """What is put in when a message is handed over stands in the text as it is named, and nothing a customer says can stand for it."""
    text = template("Bye: {{ unsubscribe_url }}. {{ name | default('x') }}")

    assert text.slots == {"unsubscribe_url"}
    assert text.render({**VALUES, "name": SLOTS["unsubscribe_url"]}) == f"Bye: {SLOTS['unsubscribe_url']}. unsubscribe_url"
    assert rendered('<a href="{{ unsubscribe_url }}">x</a>', "html") == f'<a href="{SLOTS["unsubscribe_url"]}">x</a>'
    assert "cannot stand here" in str(refusal("{{ unsubscribe_url }}", "header"))


def test_a_template_tells_its_columns_and_line() -> None:
    """The columns it reads are told, so that it is rendered once for each of their values; errors tell the line."""
    text = template("{{ spend | money }}{% if score is none %}{% endif %}{% for x in tags %}{{ x }}{% endfor %}")

    assert text.columns == {"spend": pl.Float64(), "score": pl.Float64(), "tags": pl.List(pl.String())}
    assert refusal("a\n\nb {{ nmae }}").line == 3
    assert (refusal("{{ nmae }}").name, "name" in refusal("{{ nmae }}").valid) == ("nmae", True)
    assert refusal("{{ plan | uper }}").valid == FILTERS


@pytest.mark.parametrize("values", [{"spend": "a"}, {"spend": None}, {"spend": float("nan")}, {"tags": 5}, {"seen_on": 3}, {"name": {}}])
def test_a_wrong_type_is_a_render_error(values: Mapping[str, object]) -> None:
    """A value of another type than its column withholds that message, and nothing else is raised."""
    text = template("{{ spend | money }}{{ tags | join }}{{ seen_on | date }}{{ name | default('x') | upper }}")
    with pytest.raises(RenderError):
        text.render({**VALUES, **values})
    with pytest.raises(RenderError, match="is not among the values"):
        text.render({})


def test_what_is_rendered_is_bounded() -> None:
    """A million characters in a name, or a list without end, withhold the message."""
    with pytest.raises(RenderError, match=f"longer than {MOST_RENDERED:,} characters"):
        rendered("{{ name | default('x') }}", name="x" * 1_000_000)
    with pytest.raises(RenderError, match="longer than"):
        rendered("{% for tag in tags %}" + "x" * 1000 + "{% endfor %}", tags=["a"] * 1000)


def test_a_template_goes_to_another_process() -> None:
    """It is compiled again there."""
    assert pickle.loads(pickle.dumps(template("Hi {{ plan }}"))).render(VALUES) == "Hi gold"  # noqa: S301


# ---- Nothing outside loads, nothing inside raises

NAMES = st.sampled_from([*SCHEMA, *SLOTS, "x", "nmae", "loop", "self", "cycler"])
ATOMS = st.one_of(NAMES, st.sampled_from(["'a'", "1", "1.5", "true", "none", "['a', 'b']", "[1]", "range(9)", "a.b", "''.__class__"]))
TESTS = ["is none", "is not none", "== 'a'", "> 1", "in tags", "* 9", "+ 1", "~ 'a'", "is defined", "[0]", ".x", "()", "| sort"]
CHAINS = st.lists(
    st.sampled_from([*(f"| {name}" for name in FILTERS), "| default('a')", "| round(2)", "| truncate(5)", *TESTS]), max_size=3
)
EXPRESSIONS = st.builds(lambda atom, chain: " ".join([atom, *chain]), ATOMS, CHAINS)
OUTPUTS = st.builds(lambda expression: f"{{{{ {expression} }}}}", EXPRESSIONS)
DATA = st.sampled_from(
    [
        "a ",
        "<b>",
        "</b>",
        '<a href="https://x.y/',
        '">',
        "'",
        "\n",
        "{",
        "%}",
        "https://x.y/?q=",
        "<!--",
        "-->",
        "<script>",
        "<",
        "</",
        "<scr",
    ]
)
LEAVES = st.one_of(OUTPUTS, OUTPUTS, DATA, st.sampled_from(["{% set a = 1 %}", "{% include 'x' %}", "{% raw %}", "{#", "{% endif %}"]))
TEXTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map("".join),
        st.builds(lambda test, a, b: f"{{% if {test} %}}{a}{{% else %}}{b}{{% endif %}}", EXPRESSIONS, inner, inner),
        st.builds(lambda test, a: f"{{% for x in {test} %}}{a}{{% endfor %}}", EXPRESSIONS, inner),
    ),
    max_leaves=8,
)
ANYTHING = st.one_of(st.none(), st.text(max_size=9), st.sampled_from(HOSTILE), st.integers(), st.floats(), st.booleans(), st.dates(),
                     st.lists(st.text(max_size=4), max_size=3), st.dictionaries(st.text(max_size=2), st.none(), max_size=1))  # fmt: skip
OF_TYPE: Mapping[pl.DataType, st.SearchStrategy[Any]] = {
    pl.String(): st.one_of(st.text(max_size=9), st.sampled_from(HOSTILE)),
    pl.Int64(): st.integers(-(2**63), 2**63 - 1),
    pl.Float64(): st.floats(),
    pl.Date(): st.dates(),
    pl.Boolean(): st.booleans(),
    pl.List(pl.String()): st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=3),
}
FITTING = st.fixed_dictionaries({name: OF_TYPE[dtype] for name, dtype in SCHEMA.items()})
MISFITTING = st.fixed_dictionaries(dict.fromkeys(SCHEMA, ANYTHING))
ALLOWED = re.compile(r"\{\{.*?\}\}|\{%-?\s*(?:if|elif|else|endif|for|endfor)\b.*?%\}|\{#.*?#\}", re.DOTALL)


@given(TEXTS, st.sampled_from(["text", "header", "html"]), st.one_of(FITTING, MISFITTING))
@settings(max_examples=600)
@example("{{ tags | first | default('a') }}", "text", {**VALUES, "tags": [None]})
def test_nothing_outside_loads_and_nothing_inside_raises(text: str, escape: Escape, values: Mapping[str, object]) -> None:
    """Whatever is written either is refused, or renders from any values at all, or raises RenderError."""
    try:
        compiled = template(text, escape)
    except TemplateError:
        return
    for kind, piece in pieces(text):
        assert kind == "data" or ALLOWED.fullmatch(piece)
    assert not re.search(r"\{\{[^}]*?(\b(?:self|loop|cycler|range|nmae)\b|__|[*~+])", text)
    try:
        result = compiled.render(values)
    except RenderError:
        return
    assert not re.search("[\x00-\x08\u202a-\u202e]", result)
    assert set(re.findall("\ue000([a-z_]*)\ue001", result)) <= compiled.slots


@given(st.text(alphabet=st.sampled_from("{}%#|'\"()[] ab1.,-<>=/\n"), max_size=40), st.sampled_from(["text", "html"]))
@settings(max_examples=400)
def test_any_characters_load_or_are_refused(text: str, escape: Escape) -> None:
    """No text of any characters raises anything but TemplateError; put together, its pieces are the text."""
    try:
        compiled = template(text, escape)
    except TemplateError:
        return
    assert "".join(piece for _, piece in pieces(text)) == text
    assert isinstance(compiled.render(VALUES), str)
