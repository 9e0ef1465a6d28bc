"""What no message may break, whoever or whatever wrote it (SPEC 9.4): rules that are always on, and those of the brand.

What belongs here: rules over finished texts, each with a name. What does not: which texts there are (``activation``), or what
becomes of a message that breaks one.

Every rule is a union or a sum over the parts of a text: what is broken by a block is broken by the message, and letters, words and
exclamation marks add up. So ``faults`` and ``measured`` are asked once for each distinct part of a day, and ``broken`` of their sums.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from html.parser import HTMLParser

from atc_pipeline.content.templates import SLOTS

RULES: Mapping[str, str] = {
    "template_left": "a piece of a template ({{ }}, {% %}) is left in it",
    "placeholder": "it holds a placeholder: [Name], lorem ipsum, TODO",
    "line_break": "a subject or preheader is one line",
    "empty": "a part of it is empty",
    "link": "a link is https, to a host of brand.links where that is given",
    "unsubscribe_link": "an e-mail has a link to unsubscribe, seen in its text and in its HTML: {{ unsubscribe_url }}",
    "html_size": "the HTML is at most 102 kB: mail programs cut the rest",
    "subject_length": "the subject is longer than brand.limits.subject",
    "email_size": "the HTML is larger than brand.limits.email_kb",
    "banned": "it holds a word of brand.banned",
    "reading": "it is harder to read than brand.reading (LIX)",
    "exclamations": "it has more exclamation marks than brand.exclamations",
    "capitals": "more of its letters are capitals than brand.capitals",
}
"""Every rule by its name, as ``guardrail:<name>`` tells it, and what it asks."""

_LARGEST_HTML_KB = 102  # Gmail clips there
_FEW_LETTERS = 10
"""In fewer letters capitals are no shouting: OK."""
_LONG_WORD = 6  # LIX: words of more letters are long

_TEMPLATE = re.compile(r"\{\{|\}\}|\{%|%\}|\{#|#\}")
_PLACEHOLDER = re.compile(r"\[[^\W\d][\w .'-]{0,40}\]|\blorem ipsum\b|\bTODO\b", re.IGNORECASE)
_ANY_LINK = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(?://|\\\\)[^\s<>\"]*|\bjavascript:|\bdata:[a-z]+/", re.IGNORECASE)
_STYLE_LINK = re.compile(r"url\(\s*['\"]?([^'\")]*)|@import\s+['\"]([^'\"]*)", re.IGNORECASE)
_HTTPS = re.compile(r"https://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::\d+)?(?:[/?#][^\s\\]*)?", re.IGNORECASE)
_HELD = re.compile("\ue000[a-z_]+\ue001")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE = re.compile(r"[.!?…:]+(?=\s|\Z)|\n+")


@dataclass(frozen=True)
class Rules:
    """What the brand asks; without one, only what is always on. None, and no names: anything goes."""

    banned: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    reading: float | None = None
    exclamations: int | None = None
    capitals: float | None = None
    subject: int | None = None
    email_kb: int | None = None

    @cached_property
    def words(self) -> re.Pattern[str] | None:
        """The banned words as a pattern: whole words, of any case; ``*`` ends a stem."""
        each = [r"\s+".join(map(re.escape, _folded(word.removesuffix("*")).split())) + r"\w*" * word.endswith("*") for word in self.banned]
        return re.compile(rf"(?<!\w)(?:{'|'.join(each)})(?!\w)") if each else None

    def is_allowed(self, link: str) -> bool:
        """Tell whether a link is https, to a host that is allowed; what we put in ourselves is."""
        if _HELD.fullmatch(link):
            return True
        address = _HTTPS.fullmatch(link)
        if address is None:
            return False
        host = address[1].lower()
        return not self.links or any(
            host.endswith(allowed.removeprefix("*").lower()) if allowed.startswith("*.") else host == allowed.lower()
            for allowed in self.links
        )


@dataclass(frozen=True)
class Measures:
    """What adds up over the parts of a text."""

    letters: int = 0
    capitals: int = 0
    words: int = 0
    long_words: int = 0
    sentences: int = 0
    exclamations: int = 0

    def __add__(self, more: "Measures") -> "Measures":
        return Measures(*(getattr(self, each.name) + getattr(more, each.name) for each in fields(self)))

    @property
    def lix(self) -> float:
        """How hard it is to read (Björnsson 1968): words a sentence, and long words in 100; 0 without words."""
        return self.words / max(1, self.sentences) + 100 * self.long_words / self.words if self.words else 0.0


def measured(text: str) -> Measures:
    """Measure a plain text; links and what is put in later are no words."""
    prose = _ANY_LINK.sub(" ", _HELD.sub(" ", text))
    words = _WORD.findall(prose)
    letters = sum(map(str.isalpha, prose))
    # A text that ends without a full stop, or a headline on a line of its own, is a sentence as well.
    sentences = sum(bool(_WORD.search(part)) for part in _SENTENCE.split(prose))
    long_words = sum(len(word) > _LONG_WORD for word in words)
    return Measures(letters, sum(map(str.isupper, prose)), len(words), long_words, sentences, prose.count("!") + prose.count("！"))


def faults(text: str, rules: Rules, *, is_html: bool = False) -> frozenset[str]:
    """Return the rules that a part of a text breaks by itself: what is left of templates, links, banned words."""
    page = _Page.read(text) if is_html else None
    seen = page.seen if page else text
    links = page.links if page else _ANY_LINK.findall(_HELD.sub(" ", text))
    folded = _folded(seen)
    broken = {
        "template_left": _TEMPLATE.search(text) is not None,
        "placeholder": _PLACEHOLDER.search(seen) is not None,
        "link": not all(rules.is_allowed(link if page else link.rstrip(".,;:!?)")) for link in links),
        "banned": rules.words is not None and rules.words.search(folded) is not None,
    }
    return frozenset(rule for rule, is_broken in broken.items() if is_broken)


def excesses(measures: Measures, rules: Rules) -> frozenset[str]:
    """Return the rules that a whole text breaks by what it measures."""
    broken = {
        "reading": rules.reading is not None and measures.lix > rules.reading,
        "exclamations": rules.exclamations is not None and measures.exclamations > rules.exclamations,
        "capitals": rules.capitals is not None
        and measures.letters >= _FEW_LETTERS
        and measures.capitals > rules.capitals * measures.letters,
    }
    return frozenset(rule for rule, is_broken in broken.items() if is_broken)


def header_faults(line: str, rules: Rules, *, is_subject: bool = False) -> frozenset[str]:
    """Return the rules that a subject or a preheader breaks."""
    broken = {
        "line_break": len(line.splitlines()) > 1 or "\r" in line or "\n" in line,
        "empty": not line.strip(),
        "subject_length": is_subject and rules.subject is not None and len(line) > rules.subject,
    }
    measures = measured(line)
    excessive = excesses(Measures(measures.letters, measures.capitals, exclamations=measures.exclamations), rules)  # no prose to read
    return frozenset({rule for rule, is_broken in broken.items() if is_broken} | faults(line, rules) | excessive)


def size_faults(html_bytes: int, rules: Rules) -> frozenset[str]:
    """Return the rules that an e-mail's HTML of so many bytes breaks."""
    is_cut, is_large = html_bytes > _LARGEST_HTML_KB * 1024, rules.email_kb is not None and html_bytes > rules.email_kb * 1024
    return frozenset([*["html_size"] * is_cut, *["email_size"] * is_large])


def has_unsubscribe_link(text: str, html: str) -> bool:
    """Tell whether both parts of an e-mail show where to unsubscribe; what is put in later still stands as its mark."""
    slot = SLOTS["unsubscribe_url"]
    return slot in text and slot in _Page.read(html).followed


def email_faults(*, subject: str, preheader: str | None, text: str, html: str, rules: Rules) -> tuple[str, ...]:
    """Return the rules that a whole e-mail breaks, in the order of ``RULES``; the system's slots are still marks."""
    broken = header_faults(subject, rules, is_subject=True) | faults(text, rules) | faults(html, rules, is_html=True)
    broken |= excesses(measured(text), rules) | size_faults(len(html.encode()), rules)
    if preheader is not None:
        broken |= header_faults(preheader, rules)
    broken |= frozenset([*["empty"] * (not text.strip()), *["unsubscribe_link"] * (not has_unsubscribe_link(text, html))])
    return ordered(broken)


def ordered(rules: Collection[str]) -> tuple[str, ...]:
    """Return names of rules in the order in which they are told."""
    return tuple(rule for rule in RULES if rule in rules)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@dataclass
class _Page(HTMLParser):
    """What of an HTML part is seen, and where it leads."""

    links: list[str] = field(default_factory=list)
    followed: set[str] = field(default_factory=set)
    parts: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    @classmethod
    @lru_cache(maxsize=1024)  # day after day most blocks say the same
    def read(cls, html: str) -> "_Page":
        page = cls()
        page.feed(html)
        page.close()
        return page

    @property
    def seen(self) -> str:
        return " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag: str, attributes: Iterable[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src", "action", "background", "poster", "srcset", "formaction", "xlink:href") and value is not None:
                self.links.append(value.strip())
                if tag == "a" and name == "href":
                    self.followed.add(value.strip())
            elif name == "style" and value:
                self._style(value)
        if tag in ("script", "style", "title"):
            self.hidden.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.hidden:
            self.hidden.remove(tag)

    def handle_data(self, data: str) -> None:
        if "style" in self.hidden:
            self._style(data)
        elif not self.hidden:
            self.parts.append(data)

    def _style(self, style: str) -> None:
        self.links.extend((called or imported).strip() for called, imported in _STYLE_LINK.findall(style))
