"""What no message may break: every rule with a text that breaks it and its neighbour that does not.

What belongs here: rules over finished texts. What does not: when they are asked (``tests/engine/journeys/test_library``).
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.content.guardrails import RULES, Measures, Rules, email_faults, excesses, faults, header_faults, measured
from atc_pipeline.content.templates import SLOTS

UNSUBSCRIBE = SLOTS["unsubscribe_url"]
BRAND = Rules(
    banned=("risk free", "guarante*"), links=("grocer.example", "*.grocer.example"), reading=45, exclamations=1, capitals=0.3,
    subject=40, email_kb=90,
)  # fmt: skip
SUBJECT, TEXT = "It has been a while", f"New this week. {UNSUBSCRIBE}"
HTML = f'<p>New this week. <a href="{UNSUBSCRIBE}">Bye</a></p>'


def broken(
    *, subject: str = SUBJECT, preheader: str | None = None, text: str = "", html: str = "", rules: Rules = BRAND
) -> tuple[str, ...]:
    """Return what an e-mail breaks that is fine but for these additions."""
    return email_faults(subject=subject, preheader=preheader, text=f"{text} {TEXT}", html=f"{html} {HTML}", rules=rules)


CASES = [
    ("template_left", {"text": "Hi {{ name }}."}, {"text": "Hi { name }."}),
    ("template_left", {"html": "<p>{% if x %}</p>"}, {"html": "<p>{ % x }</p>"}),
    ("placeholder", {"text": "Dear [Name]."}, {"text": "Dear [1]."}),
    ("placeholder", {"html": "<p>Lorem <b>ipsum</b></p>"}, {"html": "<p title='lorem ipsum'>a</p>"}),
    ("placeholder", {"subject": "TODO: a subject"}, {"subject": "What todos do"}),
    ("line_break", {"subject": "a\r\nBcc: x"}, {"subject": "a Bcc: x"}),
    ("line_break", {"preheader": "a\u2028b"}, {"preheader": "a b"}),
    ("empty", {"subject": "  "}, {"subject": "a"}),
    ("subject_length", {"subject": "a" * 41}, {"subject": "a" * 40, "preheader": "a" * 80}),
    ("link", {"text": "http://grocer.example/a"}, {"text": "https://grocer.example/a."}),
    ("link", {"text": "https://evil.example"}, {"text": "https://shop.grocer.example?a=b"}),
    ("link", {"text": "https://grocer.example@evil.example/"}, {"text": "https://GROCER.example:443/a@b"}),
    ("link", {"text": "https://notgrocer.example"}, {"text": "https://a.b.grocer.example"}),
    ("link", {"text": "https://grocer.example\\@evil.example"}, {"text": "at 10:30 or ratio 3:4"}),
    ("link", {"html": "<a href='javascript:alert(1)'>a</a>"}, {"html": "<a href='https://grocer.example'>a</a>"}),
    ("link", {"html": "<a href='java&#115;cript:alert(1)'>a</a>"}, {"html": "<b title='javascript:x'>a</b>"}),
    ("link", {"html": "<a href='//evil.example'>a</a>"}, {"html": "<a name='x'>a</a>"}),
    ("link", {"html": "<img src=https://evil.example/p.gif>"}, {"html": "<img src='https://grocer.example/p.gif'>"}),
    ("link", {"html": "<p style='background:url(http://x)'>a</p>"}, {"html": "<p style='color:red'>a</p>"}),
    ("link", {"html": "<style>@import 'https://evil.example'</style>"}, {"html": "<style>b { color: red }</style>"}),
    ("banned", {"text": "It is Risk\n FREE."}, {"text": "A brisk freeway."}),
    ("banned", {"text": "Guaranteed."}, {"text": "A guarantor."}),
    ("banned", {"html": "<p>risk&nbsp;free</p>"}, {"html": "<p>risky free</p>"}),
    ("banned", {"subject": "ｇｕａｒａｎｔｅｅ"}, {"subject": "guarant"}),
    ("reading", {"text": "Incomprehensible circumlocutions notwithstanding."}, {"text": "Short words are read by all of us."}),
    ("exclamations", {"text": "New! Now!"}, {"text": "New!", "subject": "New!"}),
    ("capitals", {"subject": "BUY THIS NOW"}, {"subject": "OK"}),
    ("html_size", {"html": "x" * 104_449}, {"html": "x" * 100}),
    ("email_size", {"html": "x" * (90 * 1024)}, {"html": "x" * (89 * 1024)}),
]


@pytest.mark.parametrize(("rule", "bad", "good"), CASES)
def test_a_rule_is_broken_by_a_text_and_not_by_its_neighbour(rule: str, bad: dict[str, str], good: dict[str, str]) -> None:
    """Each rule by its name."""
    assert rule in broken(**bad)
    assert broken(**good) == ()


def test_every_rule_was_seen_to_fail() -> None:
    """A rule nobody breaks here would be no rule."""
    assert {rule for rule, _, _ in CASES} | {"unsubscribe_link"} == set(RULES)


def test_an_email_can_be_unsubscribed_in_both_parts() -> None:
    """The link is seen in the text, and can be followed in the HTML: a mark in an attribute or as mere text is no link."""
    for text, html in ((TEXT, "<p>a</p>"), ("New.", HTML), (TEXT, f"<p>{UNSUBSCRIBE}</p>"), (TEXT, f"<img src='{UNSUBSCRIBE}'>")):
        assert email_faults(subject=SUBJECT, preheader=None, text=text, html=html, rules=Rules()) == ("unsubscribe_link",)


def test_without_a_brand_only_what_is_always_on_holds() -> None:
    """Any https host, any words, any exclamation marks."""
    assert broken(text="GUARANTEED!!! https://any.example/", rules=Rules()) == ()
    assert broken(text="http://any.example/", rules=Rules()) == ("link",)


def test_lix_is_as_bjornsson_counts() -> None:
    """Words a sentence, and words of more than six letters in a hundred."""
    measures = measured("The harvest is in. Come and see the marvellous tomatoes!")
    assert (measures.words, measures.sentences, measures.long_words) == (10, 2, 3)
    assert measures.lix == 5 + 30


PARTS = st.lists(st.text(alphabet=st.sampled_from("abAB!. \n"), max_size=30), max_size=4)


@given(PARTS)
def test_measures_and_faults_add_up_over_parts(parts: list[str]) -> None:
    """So they are asked once for each distinct part of a day."""
    whole = "\n\n".join(parts)
    assert sum(map(measured, parts), Measures()) == measured(whole)
    assert frozenset().union(*(faults(part, BRAND) for part in parts)) == faults(whole, BRAND)
    assert excesses(sum(map(measured, parts), Measures()), BRAND) == excesses(measured(whole), BRAND)


@given(st.text(max_size=60), st.booleans())
def test_no_text_raises(text: str, is_html: bool) -> None:
    """A guard that falls over guards nothing."""
    assert faults(text, BRAND, is_html=is_html) <= set(RULES)
    assert header_faults(text, BRAND, is_subject=True) <= set(RULES)
