"""Previews: a picture of a rendered message, which can do nothing but be looked at (SPEC 9.3).

The message is HTML inside an SVG that is shown as an image: no script of it runs, and nothing is loaded. It is written anew as XML of
what an allow list names, so that it is whole whatever the HTML was.

What belongs here: how one message is drawn, and told as text. What does not: which ones are (``days.previews``), how many are kept
(``assets.shown.previews``).
"""

import base64
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import NamedTuple

from atc_pipeline.content.templates import SLOTS
from atc_pipeline.escaping import plain, terminal, xml

WIDTH = 640
_LINE, _LETTERS_A_LINE, _AROUND = 26, 58, 250
_HEIGHTS = (260, 1400)
"""Pixels: of a line of text and how much stands in it, of what is around it, and the least and the most of a picture."""

SHOWN_SLOTS = {
    "unsubscribe_url": "https://example.com/unsubscribe",
    "preferences_url": "https://example.com/preferences",
    "message_id": "0" * 32,
}
"""What a preview has in the place of what is only known when a message is handed over."""


class Preview(NamedTuple):
    """One message as it would be sent: to whom, or as an example of which variant; ``problem``: why it would not."""

    content: str
    variant: str | None
    subject: str | None
    preheader: str | None
    text: str | None
    html: str | None
    problem: str | None

    @property
    def name(self) -> str:
        """Say which one it is, on one line."""
        return plain(self.content if self.variant is None else f"{self.content} · {self.variant}")

    def shown(self) -> "Preview":
        """Return it with something in its slots."""
        subject, preheader, text, html = (value and with_slots(value) for value in (self.subject, self.preheader, self.text, self.html))
        return self._replace(subject=subject, preheader=preheader, text=text, html=html)

    def tell(self) -> str:
        """Tell it as text, for a terminal."""
        shown = self.shown()
        lines = [self.name, *([f"  would not be sent: {plain(self.problem)}"] if self.problem else [])]
        if shown.text is not None:
            lines += [f"  Subject    {plain(shown.subject or '', None)}"]
            lines += [f"  Preheader  {plain(shown.preheader, None)}"] if shown.preheader else []
            lines += ["", *(f"  {line}".rstrip() for line in terminal(shown.text).split("\n"))]
        return "\n".join(lines)


def with_slots(text: str) -> str:
    """Put something into system slots, to be looked at."""
    for name, shown in SHOWN_SLOTS.items():
        text = text.replace(SLOTS[name], shown)
    return text


def picture(preview: Preview) -> str:
    """Draw a message as its reader would see it, subject and preheader above it."""
    shown = preview.shown()
    body = "" if shown.html is None else as_xml(shown.html)
    if not body:
        body = f'<pre style="white-space:pre-wrap;font:15px/1.5 sans-serif">{_lines(shown.text or preview.problem or "")}</pre>'
    least, most = _HEIGHTS
    lines = sum(1 + len(line) // _LETTERS_A_LINE for line in (shown.text or "").split("\n"))
    height = min(most, max(least, _AROUND + _LINE * lines))
    above = (
        f'<div style="padding:12px 16px;border-bottom:1px solid #d0d7de;background:#f6f8fa;font:14px/1.4 sans-serif;color:#1f2328">'
        f"<b>{xml(shown.subject or preview.name)}</b>"
        f'<br/><span style="color:#667079">{xml(shown.preheader or "")}</span></div>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
        f'<rect width="100%" height="100%" fill="#ffffff"/><foreignObject x="0" y="0" width="{WIDTH}" height="{height}">'
        f'<div xmlns="http://www.w3.org/1999/xhtml" style="width:{WIDTH}px;height:{height}px;overflow:hidden;color:#1f2328">'
        f"{above}<div>{body}</div></div></foreignObject></svg>"
    )


def as_image(svg: str, name: str) -> str:
    """Write a picture as Markdown shows it, by itself."""
    words = re.sub(r"[^\w .:·+-]", " ", name)
    return f"![{words}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')})"


def as_xml(html: str) -> str:
    """Write HTML anew as XML: elements and attributes of the allow lists, every other element by its text, pictures by their words."""
    writer = _Writer()
    writer.feed(html)
    writer.close()
    return writer.written()


_SHOWN = frozenset({"a", "b", "big", "blockquote", "br", "center", "code", "col", "colgroup", "dd", "div", "dl", "dt", "em", "font"}) | {
    "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "ins", "li", "ol", "p", "pre", "s", "small", "span", "strong", "style", "sub", "sup",
    "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul",
}  # fmt: skip
_EMPTY = frozenset({"br", "hr", "col"})
_WITHOUT_TEXT = frozenset({"script", "title", "noscript", "template", "iframe", "object", "svg", "math", "textarea", "select"})
_ATTRIBUTES = frozenset({"align", "bgcolor", "border", "cellpadding", "cellspacing", "class", "color", "colspan", "dir", "face"}) | {
    "height", "lang", "rowspan", "size", "style", "valign", "width",
}  # fmt: skip
_MOST_DEEP = 200
"""Elements within each other: of what lies deeper, the text."""


class _Writer(HTMLParser):
    """Writes what is read of HTML as XML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._open: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag in _WITHOUT_TEXT:
            self._hidden.append(tag)
        elif self._hidden:
            return
        elif tag == "img":
            alternative = next((value for name, value in attrs if name == "alt" and value), "")
            self._parts.append(f'<span style="background:#e3e7eb;color:#667079">[{xml(alternative or "picture")}]</span>')
        elif tag in _EMPTY:
            self._parts.append(f"<{tag}{_attributes(attrs)}/>")
        elif tag in _SHOWN and len(self._open) < _MOST_DEEP:
            self._open.append(tag)
            self._parts.append(f"<{tag}{_attributes(attrs)}>")

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag not in _WITHOUT_TEXT:
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        elif not self._hidden and tag in self._open:
            while True:
                last = self._open.pop()
                self._parts.append(f"</{last}>")
                if last == tag:
                    return

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(_lines(data))

    def written(self) -> str:
        return "".join([*self._parts, *(f"</{tag}>" for tag in reversed(self._open))])


def _attributes(attributes: Sequence[tuple[str, str | None]]) -> str:
    kept: Mapping[str, str] = {name: value or "" for name, value in reversed(attributes) if name in _ATTRIBUTES}
    return "".join(f' {name}="{xml(" ".join(value.split()), None)}"' for name, value in sorted(kept.items()))


def _lines(text: str) -> str:
    return "\n".join(xml(line, None) for line in text.expandtabs(1).split("\n"))
