"""A report as a page: sections of sentences, a picture and a table, as every rendering for people shows them.

What belongs here: what a page is made of. What does not: any word of a report, and how a surface lays it out and escapes it
(``terminal``, ``markdown``, ``html``): texts here are as they came.
"""

from dataclasses import dataclass, field
from typing import Literal

Standing = Literal["proved", "described", "exploratory", ""]
"""Whether it is the result of a randomised comparison; whether it is only what was seen; or whether nobody asked it in advance."""


@dataclass(frozen=True)
class Table:
    """Rows under heads; the first column and those named in ``texts`` are words, the others figures."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A drawing, and what it shows in words."""

    svg: str
    says: str


@dataclass(frozen=True)
class Figure:
    """A number to be seen first, and what it is."""

    value: str
    says: str


@dataclass(frozen=True)
class Section:
    """Figures, sentences, a picture, a table, and what follows it.

    ``of``: how many customers it is about, and what has matured. ``is_drawn``: the table says no more than the picture shows.
    """

    title: str
    standing: Standing = ""
    of: str = ""
    figures: tuple[Figure, ...] = ()
    lines: tuple[str, ...] = ()
    picture: Picture | None = None
    table: Table | None = None
    notes: tuple[str, ...] = ()
    is_drawn: bool = False


@dataclass(frozen=True)
class Page:
    """One page: what it is called in a list, its title, the sentence that says it all, and its sections."""

    name: str
    title: str
    headline: str
    sections: tuple[Section, ...] = field(default=())
