"""What an e-mail looks like: layouts and blocks in MJML or HTML, made into one HTML with the styles where mail programs read them.

What belongs here: everything done once, when the portfolio is loaded: MJML, styles, and a block's text as HTML. What does not: filling in
values (``templates``), or putting blocks together for a customer (``activation``).

A layout is compiled together with all blocks that stand in it, since only so its head knows their columns and its styles reach them.
Compilers of markup know nothing of templates: whatever is one goes through them as a word of its own, and is put back behind them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape

import mrml
from css_inline import CSSInliner

from atc_pipeline.content.templates import MOST_WRITTEN, SLOTS, Spot, TemplateError, after_html, pieces

BODY = "\ue000body\ue001"
"""Where the blocks go in a layout's HTML."""
PREHEADER = "\ue000preheader\ue001"
"""Where the preheader goes, as HTML; nothing of it is seen in the mail itself."""
PLAIN = '<!doctype html>\n<html>\n<head><meta charset="utf-8"></head>\n<body>{{ body }}</body>\n</html>\n'
"""The layout of an e-mail that names none."""

_HIDDEN = f'<div style="display:none;max-height:0;overflow:hidden;mso-hide:all">{PREHEADER}</div>'
_PLAIN_MJML = "<mjml><mj-body>{{ body }}</mj-body></mjml>"
_INLINER = CSSInliner(keep_style_tags=False, keep_at_rules=True, load_remote_stylesheets=False)
_DEEPEST = 50  # the compilers go down with the nesting, and take the process with them where there is no end of it
_MOST_ELEMENTS = 4_000
_VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"])
_ANY_ELEMENT = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>")
_CONTAINERS = frozenset({"mjml", "mj-body", "mj-wrapper", "mj-section", "mj-group", "mj-column", "mj-hero"})
_ELEMENT = re.compile(r"<(/?)(mj[a-z-]*)\b[^>]*?(/?)>")
_WORD = re.compile(r"(?:<!--)?Atc7([0-9]+)Z(?:-->)?")
_TEXT_WORD = re.compile("(?:Atc7|\ue000)([0-9]+)[Z\ue001]")
_LINK = re.compile(r"https://[^\s<>\"'\ue000-\ue001]+[^\s<>\"'.,;:!?)\ue000-\ue001]")
_OUTPUT = re.compile(r"\{\{-?\s*([a-z_]+)\s*-?\}\}")
_UNKNOWN = re.compile(r"<mj[a-z-]*")
_POSITION = re.compile(r" in root template at position (\d+):\d+")


class LayoutError(TemplateError):
    """A layout, or the ``block`` of this key in it (None: the layout itself), is no MJML or HTML: in which line, and why."""

    def __init__(self, message: str, line: int = 1, *, block: str | None = None) -> None:
        super().__init__(message, line)
        self.block = block


@dataclass
class _Words:
    """The pieces of templates, each behind a word that compilers of markup leave alone."""

    pieces: list[str] = field(default_factory=list)

    def hidden(self, source: str, *, is_mjml: bool) -> str:
        """Return markup with a word for each piece of a template; raises TemplateError."""
        parts: list[str] = []
        spot, opened = Spot(), ["mj-body"] if is_mjml else []
        for kind, piece in pieces(source):
            if kind == "data":
                parts.append(piece)
                spot = after_html(spot, piece)
                _open(opened, piece)
            elif kind == "comment":
                continue
            else:
                word = f"Atc7{len(self.pieces)}Z"
                self.pieces.append(piece)
                is_between = kind == "tag" and spot.state == "text"
                word = f"<!--{word}-->" if is_between else word
                parts.append(f"<mj-raw>{word}</mj-raw>" if is_between and opened and opened[-1] in _CONTAINERS else word)
        return "".join(parts)

    def restored(self, markup: str) -> str:
        """Put the pieces back."""
        return _WORD.sub(lambda word: self.pieces[int(word[1])], markup)

    def lines(self, markup: str) -> int:
        """Count the lines of the markup as it was written."""
        return markup.count("\n") + sum(self.pieces[int(word[1])].count("\n") for word in _WORD.finditer(markup))


def _open(opened: list[str], data: str) -> None:
    for is_end, name, is_whole in _ELEMENT.findall(data):
        if is_end and name in opened:
            del opened[len(opened) - 1 - opened[::-1].index(name) :]
        elif not is_end and not is_whole:
            opened.append(name)


def compiled(layout: str, blocks: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Compile a layout and the blocks that stand in it: the layout's HTML, and each block's, a template still; raises LayoutError."""
    _check_layout(layout)
    for key, markup in ((None, layout), *blocks.items()):
        _check_nesting(markup, key)
    try:
        return _compiled(layout, blocks)
    except LayoutError:
        _compiled(layout, {})  # whose mistake it is: the layout's ...
        for key, block in blocks.items():
            try:
                _compiled(layout, {key: block})  # ... or which block's
            except TemplateError as error:
                above = layout.count("\n", 0, layout.index("body", layout.index("{{"))) if "<mjml" in layout else 0
                raise LayoutError(str(error), max(1, error.line - above), block=key) from None
        raise


def as_html(text: str) -> str:
    """Write the template of a text as one of HTML: paragraphs, lines, and links that can be followed."""
    words: list[str] = []
    parts: list[str] = []
    for kind, piece in pieces(text):
        name = _OUTPUT.fullmatch(piece)
        if kind == "data":
            parts.append(piece)
        elif kind == "output" and name is not None and name[1] in SLOTS and name[1].endswith("_url"):
            words.append(f'<a href="{piece}">{piece}</a>')
            parts.append(f"\ue000{len(words) - 1}\ue001")
        elif kind == "output":
            words.append(piece)
            parts.append(f"Atc7{len(words) - 1}Z")
        elif kind == "tag":
            words.append(piece)
            parts.append(f"\ue000{len(words) - 1}\ue001")
    html = _LINK.sub(lambda link: f'<a href="{link[0]}">{link[0]}</a>', "".join(parts).strip())
    html = "".join(_escaped(html))
    html = re.sub(r"\s*\n\s*\n\s*", "</p><p>", html).replace("\n", "<br>")
    return "<p>" + _TEXT_WORD.sub(lambda word: words[int(word[1])], html) + "</p>"


@cache
def plain_html() -> str:
    """Return the HTML of an e-mail without a layout."""
    return compiled(PLAIN, {})[0]


def text_of(parts: Sequence[str]) -> str:
    """Put the text part of an e-mail together from its blocks' texts: paragraphs, without those that are empty."""
    return "\n\n".join(part.strip() for part in parts if part.strip())


def html_of(layout: str, parts: Sequence[str], preheader: str | None) -> str:
    """Put the HTML part of an e-mail together: a layout's HTML with its blocks' HTML, and the preheader (a text)."""
    before, _, after = layout.partition(BODY)
    head, _, rest = before.partition(PREHEADER)
    return "".join([head, escape(preheader or "", quote=False), rest, *parts, after])


def _escaped(html: str) -> Iterator[str]:
    """Escape everything but the links that were made."""
    at = 0
    for tag in re.finditer(r'<a href="([^"]*)">|</a>', html):
        yield escape(html[at : tag.start()], quote=False)
        yield f'<a href="{escape(tag[1])}">' if tag[1] is not None else tag[0]
        at = tag.end()
    yield escape(html[at:], quote=False)


def _check_layout(layout: str) -> None:
    if len(layout) > MOST_WRITTEN:
        raise LayoutError(f"is longer than {MOST_WRITTEN:,} characters")
    line, bodies = 1, 0
    for kind, piece in pieces(layout):
        name = _OUTPUT.fullmatch(piece)
        if kind == "tag" or (kind == "output" and (name is None or name[1] not in ("body", *SLOTS))):
            raise LayoutError(
                f"a layout holds only {{{{ body }}}} and {', '.join(SLOTS)}, found {piece[:60]}: values belong to blocks", line
            )
        bodies += name is not None and name[1] == "body"
        if bodies > 1:
            raise LayoutError("{{ body }} stands in it a second time: expected once", line)
        line += piece.count("\n")
    if not bodies:
        raise LayoutError("{{ body }} is missing: where do the blocks go?")


def _check_nesting(markup: str, block: str | None) -> None:
    opened: list[str] = []
    for count, element in enumerate(_ANY_ELEMENT.finditer(markup)):
        is_end, name, rest = element[1], element[2].lower(), element[3]
        if is_end and name in opened:
            del opened[len(opened) - 1 - opened[::-1].index(name) :]
        elif not is_end and name not in _VOID and not rest.endswith("/"):
            opened.append(name)
        if len(opened) > _DEEPEST or count > _MOST_ELEMENTS:
            reason = f"has more than {_MOST_ELEMENTS:,} elements" if count > _MOST_ELEMENTS else f"is nested more than {_DEEPEST} deep"
            line = markup.count("\n", 0, element.start()) + 1
            raise LayoutError(f"{reason}, or an element is not closed", line, block=block)


def _compiled(layout: str, blocks: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    is_mjml = "<mjml" in layout
    words = _Words()
    hidden = words.hidden(layout, is_mjml=False)
    place = next(f"Atc7{position}Z" for position, piece in enumerate(words.pieces) if _names_body(piece))
    held = "".join(_held(number, _block(block, words, is_mjml=is_mjml)) for number, block in enumerate(blocks.values()))
    before, after = hidden.split(place)
    document = f"{before}{_mark('body', is_mjml=is_mjml)}{_marks(held, is_mjml=is_mjml)}{after}"
    html = _INLINER.inline(_of_mjml(document, words) if is_mjml else document)
    for number in range(len(words.pieces)):
        if f"Atc7{number}Z" not in html and f"Atc7{number}Z" != place:
            raise LayoutError(f"{words.pieces[number][:60]} stands where nothing is shown: inside mj-text, say, it is", 1)
    done: dict[str, str] = {}
    for number, key in enumerate(blocks):
        start, end = (f"<!--AtcBlock{number}{side}-->" for side in ("From", "To"))
        if html.count(start) != 1 or html.count(end) != 1:
            raise LayoutError("{{ body }} stands where no block can: expected inside the body, between elements")
        head, _, rest = html.partition(start)
        inside, _, tail = rest.partition(end)
        done[key], html = words.restored(inside), head + tail
    if html.count("<!--AtcBody-->") != 1 or after_html(Spot(), html.partition("<!--AtcBody-->")[0]).state != "text":
        raise LayoutError("{{ body }} stands where no block can: expected inside the body, between elements")
    if unknown := _UNKNOWN.search("".join([html, *done.values()])):
        raise LayoutError(f"unknown element {unknown[0]}: is it spelled as MJML has it, and in its place?")
    whole = _slotted(words.restored(html.replace("<!--AtcBody-->", BODY)))
    return re.sub(r"(<body\b[^>]*>)", lambda tag: tag[1] + _HIDDEN, whole, count=1), done


def _names_body(piece: str) -> bool:
    name = _OUTPUT.fullmatch(piece)
    return name is not None and name[1] == "body"


def _mark(name: str, *, is_mjml: bool) -> str:
    comment = f"<!--Atc{name.title()}-->"
    return f"<mj-raw>{comment}</mj-raw>" if is_mjml else comment


def _held(number: int, block: str) -> str:
    return f"<!--AtcBlock{number}From-->{block}<!--AtcBlock{number}To-->"


def _marks(held: str, *, is_mjml: bool) -> str:
    return re.sub(r"<!--AtcBlock\d+(?:From|To)-->", r"<mj-raw>\g<0></mj-raw>", held) if is_mjml else held


def _block(block: str, words: _Words, *, is_mjml: bool) -> str:
    if "<mj-" in block and not is_mjml:  # a section in a layout of plain HTML
        _, done = _compiled(_PLAIN_MJML, {"": block})
        return words.hidden(done[""], is_mjml=False)
    if is_mjml and "<mj-" not in block:
        block = f'<mj-section padding="0"><mj-column><mj-text>{block}</mj-text></mj-column></mj-section>'
    return words.hidden(block, is_mjml=is_mjml)


def _of_mjml(document: str, words: _Words) -> str:
    try:
        return mrml.to_html(document, mrml.ParserOptions(), mrml.RenderOptions(fonts={})).content
    except OSError as error:
        position = _POSITION.search(str(error))
        line = words.lines(document.encode()[: int(position[1])].decode(errors="ignore")) + 1 if position else 1
        raise LayoutError(f"is no MJML: {_POSITION.sub('', str(error)).replace(' in root template', '')}", line) from None


def _slotted(html: str) -> str:
    """Put the marks of slots into a layout, which has no other templates."""
    return _OUTPUT.sub(lambda output: SLOTS.get(output[1], output[0]), html)
