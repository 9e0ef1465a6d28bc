"""A report as Markdown: headings, tables, and pictures where they are kept.

What belongs here: headings, tables and escaping for Markdown. What does not: any word of a report (``proof``, ``journey``, ``paths``).
"""

import base64
from collections.abc import Sequence

from atc_pipeline import escaping
from atc_pipeline.reports.page import Page, Section, Table

MOST_LETTERS = 400
"""Of one text."""


def markdown(pages: Sequence[Page], *, with_pictures: bool = False) -> str:
    """Write pages under each other."""
    return "\n\n".join(_page(page, with_pictures=with_pictures) for page in pages) + "\n"


def embedded(svg: str, says: str) -> str:
    """Put a picture into Markdown, whole."""
    return f"![{escaping.markdown(says)}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _page(page: Page, *, with_pictures: bool) -> str:
    parts = [f"## {_text(page.title)}", f"**{_text(page.headline)}**"]
    for section in page.sections:
        parts += _section(section, with_pictures=with_pictures)
    return "\n\n".join(parts)


def _section(section: Section, *, with_pictures: bool) -> list[str]:
    standing = f" ({section.standing})" if section.standing else ""
    parts = [f"### {_text(section.title)}{standing}"]
    if section.of:
        parts.append(f"*{_text(section.of)}*")
    lines = [*(f"**{_text(figure.value)}** {_text(figure.says)}" for figure in section.figures), *map(_text, section.lines)]
    if lines:
        parts.append("\n".join(f"- {line}" for line in lines))
    if section.picture and with_pictures:
        parts.append(embedded(section.picture.svg, section.picture.says))
    if section.table and section.table.rows:
        parts.append(table(section.table))
    if section.notes:
        parts.append("\n".join(f"- {_text(note)}" for note in section.notes))
    return parts


def table(shown: Table) -> str:
    """Write a table."""
    sides = [":--" if place == 0 or head in shown.texts else "--:" for place, head in enumerate(shown.heads)]
    rows = [[_text(head) for head in shown.heads], sides, *([_text(cell) for cell in row] for row in shown.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _text(text: str) -> str:
    return escaping.markdown(text.strip(), MOST_LETTERS)
