"""Brand, layouts, blocks and content of ``journeys.yaml``: what a file means, and the one line that says why another is refused.

What belongs here: the grammar of messages. What does not: templates, markup and rules by themselves (``tests/engine/content``), or how
versions are kept (``tests/edges``).
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.content import templates
from atc_pipeline.content.layouts import html_of, text_of
from atc_pipeline.content.templates import SLOTS
from atc_pipeline.journeys import content_library, wording
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Limits, Portfolio
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.resolution import load_portfolio, resolve

TEXT = """\
version: "1"
calendar: {timezone: Europe/Berlin, starts_on: 2026-01-01}
channels: {email: {consent: opt_in, medium: email, to: email}, till: {consent: none}}
traits:
  email: {profile: email, type: string}
  first_name: {profile: first_name, type: string}
  favourite: {most_frequent: category, of: Order Completed}
  orders: {count: Order Completed}
  spend: {sum: revenue, of: Order Completed}
  categories: {unique_list: category, of: Order Completed}
brand:
  languages: [en]
  banned: [risk free, "guarante*"]
  links: [grocer.example, "*.grocer.example"]
  reading: 45
  exclamations: 1
  capitals: 0.3
  footer: {email: legal}
  limits: {subject: 60, email_kb: 90}
  examples: {first_name: Ann, email: ann@example.com, orders: 3, categories: [tea]}
layouts: {newsletter: {file: content/newsletter.mjml}}
blocks:
  greeting: {text: "Hi {{ first_name | default('there') }},"}
  legal: {text: "You get this because you said yes. {{ unsubscribe_url }}", html: {file: content/legal.mjml}}
  hero:
    variants:
      - {id: produce, when: "orders > 3", text: "This week's harvest is in.", html: {file: content/produce.mjml}}
      - {id: anybody, text: "New this week."}
  offer:
    variants:
      - {id: five, share: 0.5, text: "Five dollars off {{ spend | money('$') }}."}
      - {id: ten, share: 0.5, text: "Ten percent off."}
content:
  we_miss_you:
    about: First word after three weeks.
    email: {subject: "{{ first_name | default('We') }}, it has been a while", preheader: New & good, layout: newsletter,
            body: [greeting, hero, offer]}
journeys:
  - id: winback
    length_days: 7
    queue: {where: orders > 1}
    steps: [{day: 1, channel: email, content: we_miss_you}, {day: 2, channel: till, content: coupon}]
"""
LEGAL = '<mj-section><mj-column><mj-text>Yes.\n<a href="{{ unsubscribe_url }}">Unsubscribe</a></mj-text></mj-column></mj-section>'
FILES = {
    "content/newsletter.mjml": "<mjml><mj-body>\n{{ body }}</mj-body></mjml>",
    "content/legal.mjml": LEGAL,
    "content/produce.mjml": "<mj-section><mj-column><mj-text>Harvest,\n<b>{{ orders }} orders</b></mj-text></mj-column></mj-section>",
}
EMPTIEST = "(on the emptiest profile)"


def load(text: str = TEXT, files: Mapping[str, str] = FILES) -> Portfolio:
    """Resolve a text and its files."""
    return resolve(parse_document(text, "journeys.yaml"), tuple(files.items()))


def refusal(*edits: tuple[str, str], files: Mapping[str, str] = FILES) -> str:
    """Return the message with which the file is refused once texts are replaced."""
    text = TEXT
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(JourneysError) as error:
        load(text, files)
    return str(error.value)


def test_content_is_blocks_variants_and_templates() -> None:
    """The example means what it says."""
    portfolio = load()
    (content,) = portfolio.content
    assert content.email is not None
    assert (content.id, content.about, content.email.layout) == ("we_miss_you", "First word after three weeks.", "newsletter")
    assert [block.id for block in portfolio.body(content.email)] == ["greeting", "hero", "offer", "legal"]
    hero, offer = portfolio.body(content.email)[1:3]
    assert [(variant.id, variant.when and variant.when.text, variant.share) for variant in hero.variants + offer.variants] == [
        ("produce", "orders > 3", None), ("anybody", None, None), ("five", None, 0.5), ("ten", None, 0.5),
    ]  # fmt: skip
    brand = portfolio.brand
    assert brand is not None
    assert (brand.footer, brand.limits, brand.examples["categories"]) == ({"email": "legal"}, Limits(60, 90), ("tea",))
    assert (portfolio.rules.subject, portfolio.rules.email_kb, portfolio.rules.reading) == (60, 90, 45)


def test_an_email_is_rendered_from_it() -> None:
    """Text and HTML of the same blocks, the footer last, nothing of a template left."""
    portfolio = load()
    (content,) = portfolio.content
    assert content.email is not None
    values = {"first_name": None, "orders": 5, "spend": 12.0}
    first = [block.variants[0] for block in portfolio.body(content.email)]
    text = text_of([variant.text.render(values) for variant in first])
    parts = [variant.html.render(values) for variant in first if variant.html]
    html = html_of(portfolio.layout_html(content.email), parts, "New & good")

    assert content.email.subject.render(values) == "We, it has been a while"
    assert text == (
        "Hi there,\n\nThis week's harvest is in.\n\nFive dollars off $12.00.\n\n"
        f"You get this because you said yes. {SLOTS['unsubscribe_url']}"
    )
    order = ["New &amp; good", "Hi there,", "5 orders", "Five dollars off $12.00.", f'href="{SLOTS["unsubscribe_url"]}"']
    assert [html.index(piece) for piece in order] == sorted(html.index(piece) for piece in order)
    assert "{" not in html.replace("{ width", "").split("<body")[1]


def test_the_fingerprint_covers_files_and_the_order_of_variants() -> None:
    """A changed file is another version; what the file is called, and the order of blocks, is not."""
    plain = load().fingerprint
    renamed = TEXT.replace("content/legal.mjml", "content/law.mjml")
    five, ten = (line for line in TEXT.splitlines() if "share: 0.5" in line)
    swapped = TEXT.replace(f"{five}\n{ten}", f"{ten}\n{five}")

    assert load(files=FILES | {"content/legal.mjml": LEGAL.replace("Yes.", "Yes!")}).fingerprint != plain
    assert load(renamed, FILES | {"content/law.mjml": LEGAL}).fingerprint == plain
    assert load(swapped).fingerprint != plain


def test_without_content_nothing_is_asked_of_a_portfolio() -> None:
    """Channels without a medium name content as their receivers know it."""
    portfolio = load(TEXT[: TEXT.index("brand:")].replace("medium: email, ", "") + TEXT[TEXT.index("journeys:") :], {})
    assert (portfolio.brand, portfolio.layouts, portfolio.blocks, portfolio.content) == (None, (), (), ())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "body: [greeting,",
            "body: [greting,",
            "journeys.yaml:37: content 'we_miss_you', field 'email.body': unknown block 'greting'; did you mean 'greeting'?",
        ),
        (
            "layout: newsletter,",
            "layout: newsleter,",
            "journeys.yaml:36: content 'we_miss_you', field 'email.layout': unknown layout 'newsleter'; did you mean 'newsletter'?",
        ),
        (
            "content: we_miss_you",
            "content: we_mis_you",
            "journeys.yaml:42: journey 'winback', field 'steps.content': unknown content 'we_mis_you'; did you mean 'we_miss_you'?",
        ),
        (
            "Hi {{ first_name |",
            "Hi {{ frst_name |",
            "journeys.yaml:23: block 'greeting', field 'text': unknown column 'frst_name'; did you mean 'first_name'?",
        ),
        (
            "first_name | default('there')",
            "first_name | defalt('there')",
            "journeys.yaml:23: block 'greeting', field 'text': unknown filter 'defalt'; did you mean 'default'?",
        ),
        (
            "first_name | default('there')",
            "first_name",
            (
                "journeys.yaml:23: block 'greeting', field 'text': column 'first_name' can be empty: write first_name | default('...'), or "
                "{% if first_name %} around it"
            ),
        ),
        (
            'text: "New this week."',
            'text: "{{ favourite }}"',
            (
                "journeys.yaml:28: block 'hero', field 'variants.text': variant 'anybody': column 'favourite' can be "
                "empty: write favourite | "
                "default('...'), or {% if favourite %} around it"
            ),
        ),
        (
            "{{ first_name | default('We') }}, it",
            "{{ 'a' * 500000000 }}, it",
            (
                "journeys.yaml:36: content 'we_miss_you', field 'email.subject': a template does not calculate: "
                "declare a trait, and name it here"
            ),
        ),
        (
            "footer: {email: legal}",
            "footer: {email: leagl}",
            "journeys.yaml:18: field 'brand.footer.email': unknown block 'leagl'; did you mean 'legal'?",
        ),
        ("footer: {email: legal}", "footer: {sms: legal}", "journeys.yaml:18: field 'brand.footer.sms': is not built yet: leave it out"),
        ("subject: 60, email_kb: 90", "push_body: 178", "journeys.yaml:19: field 'brand.limits.push_body': is not built yet: leave it out"),
        (
            "links: [grocer.example,",
            "links: [https://grocer.example,",
            (
                "journeys.yaml:14: field 'brand.links': expected a host such as grocer.example or *.grocer.example, "
                "found 'https://grocer.example'"
            ),
        ),
        (
            "banned: [risk free,",
            "banned: [risk*free,",
            "journeys.yaml:13: field 'brand.banned': expected words, or a stem such as guarante*, found 'risk*free'",
        ),
        (
            "examples: {first_name",
            "examples: {frst_name",
            "journeys.yaml:20: field 'brand.examples.frst_name': unknown column 'frst_name'; did you mean 'first_name'?",
        ),
        ("orders: 3,", "orders: three,", "journeys.yaml:20: field 'brand.examples.orders': expected a whole number, found three"),
        (
            "{id: anybody, text",
            "{id: produce, text",
            "journeys.yaml:28: block 'hero', field 'variants.id': variant 'produce' stands above already: ids are unique within a block",
        ),
        (
            "{id: anybody, text",
            "{id: anybody, when: orders > 9, text",
            "journeys.yaml:28: block 'hero', field 'variants.when': variant 'anybody' is the last, for everybody else: expected no when",
        ),
        (
            'when: "orders > 3", ',
            "",
            (
                "journeys.yaml:27: block 'hero', field 'variants': variant 'produce' has no when, so nobody comes to "
                "those after it: expected it "
                "last"
            ),
        ),
        (
            'when: "orders > 3"',
            'when: "ordrs > 3"',
            "journeys.yaml:27: block 'hero', field 'variants.when': unknown column 'ordrs'; did you mean 'orders'?",
        ),
        (
            "{id: ten, share: 0.5,",
            "{id: ten, share: 0.4,",
            "journeys.yaml:30: block 'offer', field 'variants': shares add up to 0.9: expected 1",
        ),
        (
            "{id: ten, share: 0.5,",
            "{id: ten,",
            "journeys.yaml:30: block 'offer', field 'variants': variant 'ten' has no share: either all have one, or none",
        ),
        (
            "{id: ten, share: 0.5,",
            "{id: ten, share: 0.5, when: orders > 1,",
            "journeys.yaml:32: block 'offer', field 'variants': variant 'ten': when and share do not stand beside each other",
        ),
        (
            '{id: ten, share: 0.5, text: "Ten percent off."}',
            "{id: ten, share: 0.5}",
            "journeys.yaml:32: block 'offer', field 'variants': variant 'ten': text is missing: every medium needs it",
        ),
        (
            "{id: ten, share: 0.5,",
            "{id: ten, share: 0.5, write: {brief: Say it.},",
            "journeys.yaml:32: block 'offer', field 'variants.write': is not built yet: leave it out",
        ),
        (
            "  offer:\n",
            "  offer:\n    text: Hello\n",
            "journeys.yaml:29: block 'offer': expected text and html, or variants that have them: not both",
        ),
        ("content:\n", "writer: {texts_per_day: 200}\ncontent:\n", "journeys.yaml:33: field 'writer': is not built yet: leave it out"),
        (
            "    about: First word after three weeks.\n",
            "    push: {title: We miss you}\n",
            "journeys.yaml:35: content 'we_miss_you', field 'push': is not built yet: leave it out",
        ),
        (
            "    about: First word after three weeks.\n",
            "    slot: {fields: {}}\n",
            "journeys.yaml:35: content 'we_miss_you', field 'slot': is not built yet: leave it out",
        ),
        ("journeys:\n", "  empty: {about: Nothing.}\njourneys:\n", "journeys.yaml:38: content 'empty': says nothing: expected email"),
        (
            "content: coupon",
            "content: coupon, variant: a}, {day: 3, channels: [till, email], content: none_such",
            "journeys.yaml:42: journey 'winback', field 'steps.content': unknown content 'none_such'; there are we_miss_you",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_wrong_is_told_with_its_place(old: str, new: str, message: str) -> None:
    """File, line, content or block, field, variant, column, and the nearest name."""
    assert message in refusal((old, new)).splitlines()


def test_a_step_by_email_needs_an_email() -> None:
    """Content that has nothing for the medium of a channel is refused where the step names it."""
    email = TEXT[TEXT.index("    email: {subject") : TEXT.index("journeys:")]
    assert (
        "journeys.yaml:40: journey 'winback', field 'steps.content': content 'we_miss_you' has no email, which channel email needs"
        in refusal((email, "")).splitlines()
    )


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "content/produce.mjml",
            "<mj-section>\n<mj-column><mj-text>{{ ordrs }}</mj-text></mj-column></mj-section>",
            (
                "journeys.yaml:27: block 'hero', field 'variants.html': variant 'produce': content/produce.mjml:2: "
                "unknown column 'ordrs'; did "
                "you mean 'orders'?"
            ),
        ),
        (
            "content/produce.mjml",
            "<mj-section>\n</mj-colum></mj-section>",
            (
                "journeys.yaml:27: block 'hero', field 'variants.html': variant 'produce': content/produce.mjml:2: "
                "is no MJML: unexpected element"
            ),
        ),
        (
            "content/newsletter.mjml",
            "<mjml><mj-body>\n\n{{ bdy }}</mj-body></mjml>",
            (
                "journeys.yaml:21: layout 'newsletter': content/newsletter.mjml:3: a layout holds only {{ body }} and unsubscribe_url, "
                "preferences_url, message_id, found {{ bdy }}: values belong to blocks"
            ),
        ),
        (
            "content/produce.mjml",
            "<p onclick='{{ orders }}'>",
            (
                "journeys.yaml:27: block 'hero', field 'variants.html': variant 'produce': content/produce.mjml:1: a "
                "value stands only in the "
                "text, or in the quoted value of an attribute that is no style and no script"
            ),
        ),
    ],
)
def test_a_file_is_told_with_its_own_line(file: str, text: str, message: str) -> None:
    """What is wrong in a file says in which line of it, and where the file is named."""
    assert message in refusal(files=FILES | {file: text}).splitlines()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("New this week.", "New! This! Week!", "content 'we_miss_you', field 'email': block 'hero', variant 'anybody'"),
        (
            "Ten percent off.",
            "Ten percent, guaranteed.",
            (
                "block 'offer', variant 'ten': breaks the rule banned (it holds a word of brand.banned): 'Ten "
                "percent, guaranteed.' (on brand.examples)"
            ),
        ),
        (
            "This week's harvest is in.",
            "See https://evil.example/ for more.",
            (
                "block 'hero', variant 'produce': breaks the rule link (a link is https, to a host of brand.links "
                "where that is given): 'See "
                "https://evil.example/ for more.' (on brand.examples)"
            ),
        ),
        (
            "it has been a while",
            "it has been such a long while that we cannot say how long it has",
            (
                "subject: breaks the rule subject_length (the subject is longer than brand.limits.subject): 'Ann, it "
                "has been such a long while "
                "that we cannot say how long it has' (on brand.examples)"
            ),
        ),
        (
            "{{ first_name | default('We') }}, it has been a while",
            "{% if first_name %}Hi {{ first_name }}{% endif %}",
            f"subject: breaks the rule empty (a part of it is empty): '' {EMPTIEST}",
        ),
        ("preheader: New & good", "preheader: 'Dear [Name]'", "preheader: breaks the rule placeholder"),
        (
            "  footer: {email: legal}\n",
            "",
            "breaks the rule unsubscribe_link (an e-mail has a link to unsubscribe, seen in its text and in its HTML",
        ),
        (
            "Hi {{ first_name | default('there') }},",
            "{% if first_name %}Hi {{ first_name }}{% else %}lorem ipsum{% endif %}",
            f"block 'greeting': breaks the rule placeholder (it holds a placeholder: [Name], lorem ipsum, TODO): 'lorem ipsum' {EMPTIEST}",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_the_brand_is_tested_on_every_variant(old: str, new: str, message: str) -> None:
    """On the examples and on whoever we know least about: the rule, the content, the block, the variant and the text are told."""
    problem = refusal((old, new))
    assert "content 'we_miss_you', field 'email'" in problem
    if "variant 'anybody'" in message:
        assert "breaks the rule exclamations" in problem
    else:
        assert message in problem


def test_a_block_in_two_layouts_is_one_html() -> None:
    """Styles of two layouts would make it two: that is refused, and layouts of the same styles are fine."""
    both = (
        ("layouts: {newsletter", "layouts: {other: {file: content/other.mjml}, newsletter"),
        ("journeys:\n", "  again:\n    email: {subject: Again, layout: other, body: [greeting]}\njourneys:\n"),
    )
    styled = '<mjml><mj-head><mj-attributes><mj-text color="red"/></mj-attributes></mj-head><mj-body>{{ body }}</mj-body></mjml>'
    assert (
        "block 'greeting': stands in 'newsletter' and 'other', whose styles make different HTML of it: write a block for each of them"
        in refusal(*both, files=FILES | {"content/other.mjml": styled}).replace("'other' and 'newsletter'", "'newsletter' and 'other'")
    )
    text = TEXT
    for old, new in both:
        text = text.replace(old, new)
    assert load(text, FILES | {"content/other.mjml": FILES["content/newsletter.mjml"]})


# ---- Files


def project(folder: Path, text: str = TEXT) -> Path:
    """Write a project of the example."""
    for name, content in (FILES | {"journeys.yaml": text}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder / "journeys.yaml"


def test_files_are_read_from_the_folder_of_the_file(tmp_path: Path) -> None:
    """The same portfolio as from texts; a changed file is seen without a change of journeys.yaml."""
    path = project(tmp_path)
    assert load_portfolio(path).fingerprint == load().fingerprint
    (tmp_path / "content" / "legal.mjml").write_text(LEGAL.replace("Yes.", "Yes, yes."))
    assert load_portfolio(path).fingerprint != load().fingerprint


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "expected a path from the folder of journeys.yaml, such as content/newsletter.mjml"),
        ("../secret.mjml", "expected a path from the folder of journeys.yaml, such as content/newsletter.mjml"),
        ("content/../../secret.mjml", "expected a path from the folder of journeys.yaml, such as content/newsletter.mjml"),
        ("content//legal.mjml", "expected a path from the folder of journeys.yaml, such as content/newsletter.mjml"),
        (".env", "expected a path from the folder of journeys.yaml, such as content/newsletter.mjml"),
        ("content\\\\legal.mjml", "expected a path from the folder of journeys.yaml, such as content/newsletter.mjml"),
        ("content/link.mjml", "content/link.mjml: leads out of the folder of journeys.yaml: expected a file within it"),
        ("out/secret.mjml", "out/secret.mjml: leads out of the folder of journeys.yaml: expected a file within it"),
        ("content", "content: is no file"),
        ("content/none.mjml", "content/none.mjml: cannot be read: No such file or directory"),
        ("content/large.mjml", "content/large.mjml: is larger than 200 kB: mail programs show no more than 102 kB"),
        ("content/latin.mjml", "content/latin.mjml:2: is not UTF-8 text (byte 2): save it as UTF-8"),
        ("content/turned.mjml", "content/turned.mjml:1: the character U+202E is not seen and changes what is: remove it"),
        ("content/loop.mjml", "content/loop.mjml: cannot be read"),
    ],
)
def test_a_file_outside_or_of_another_kind_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    """Nothing outside of the project is read, by whatever way it is named; the line that names it is told."""
    folder = tmp_path / "project"
    path = project(folder, TEXT.replace("file: content/produce.mjml", f'file: "{name}"'))
    (tmp_path / "secret.mjml").write_text("secret")
    (folder / "content" / "link.mjml").symlink_to(tmp_path / "secret.mjml")
    (folder / "out").symlink_to(tmp_path)
    (folder / "content" / "loop.mjml").symlink_to(folder / "content" / "loop.mjml")
    (folder / "content" / "large.mjml").write_text("x" * 200_001)
    (folder / "content" / "latin.mjml").write_bytes(b"a\n\xe9")
    (folder / "content" / "turned.mjml").write_text("a\u202eb")
    with pytest.raises(JourneysError) as error:
        load_portfolio(path)
    assert str(error.value).startswith(f"journeys.yaml:27: block 'hero', field 'variants.html.file': {reason}")
    assert "secret\n" not in str(error.value)


def test_a_document_by_itself_has_no_files() -> None:
    """Who resolves a text without its files is told."""
    assert "layout 'newsletter', field 'file': 'content/newsletter.mjml' was not read" in refusal(files={})


def test_every_kind_of_column_can_be_shown_and_given_as_an_example() -> None:
    """A type that a template reads has an emptiest value and an example."""
    assert set(content_library._EXAMPLES) == set(templates._KINDS) == {*content_library._EMPTIEST, pl.Date()}
    assert set(content_library.MEDIA) <= set(wording.Content.model_fields)


@pytest.mark.parametrize("values", [{}, {"when": "orders > 1"}, {"share": 0.5}])
def test_a_block_of_a_single_variant_is_for_everybody(values: dict[str, object]) -> None:
    """Alone, it has neither a condition nor a part of the customers."""
    text = TEXT.replace('{id: ten, share: 0.5, text: "Ten percent off."}', "")
    inner = "".join(f", {key}: {value}" for key, value in values.items())
    five = next(line for line in text.splitlines() if "id: five" in line)
    edited = text.replace(five, f"      - {{id: five{inner}, text: Five off.}}").replace("\n      - \n", "\n")
    if values:
        with pytest.raises(JourneysError):
            load(edited)
    else:
        assert [variant.id for variant in load(edited).blocks[3].variants] == ["five"]
