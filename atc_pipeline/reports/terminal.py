"""A report for a terminal: plain text, wrapped.

What belongs here: columns, wrapping and escaping for a terminal. What does not: any word of a report (``proof``, ``journey``, ``paths``).
"""

import textwrap
from collections.abc import Sequence

from atc_pipeline.escaping import plain
from atc_pipeline.reports.page import Page, Section, Table

WIDTH = 110
_MOST_NAME = 44
_GAP = "  "


def text(pages: Sequence[Page]) -> str:
    """Lay pages out under each other."""
    return "\n\n".join(_page(page) for page in pages) + "\n"


def _page(page: Page) -> str:
    title = _wrapped(page.title)
    lines = [*title, "─" * max(len(line) for line in title), *_wrapped(page.headline)]
    for section in page.sections:
        lines += ["", *_section(section)]
    return "\n".join(line.rstrip() for line in lines)


def _section(section: Section) -> list[str]:
    standing = f" ({section.standing})" if section.standing else ""
    lines = [f"{plain(section.title).upper()}{standing}"]
    lines += _wrapped(section.of, "  ") if section.of else []
    for line in (*(f"{figure.value}  {figure.says}" for figure in section.figures), *section.lines):
        lines += _wrapped(line, "  ", "    ")
    if section.table:
        lines += _table(section.table)
    for note in section.notes:
        lines += _wrapped(note, "  ", "    ")
    return lines


def _table(table: Table) -> list[str]:
    is_text = [place == 0 or head in table.texts for place, head in enumerate(table.heads)]
    rows = [[plain(cell, _MOST_NAME if word else None) for cell, word in zip(row, is_text, strict=True)] for row in table.rows]
    heads = [textwrap.wrap(head, max(12, *(len(row[place]) for row in rows))) if rows else [head] for place, head in enumerate(table.heads)]
    height = max(len(head) for head in heads)
    tops = [[*[""] * (height - len(head)), *head] for head in heads]
    widths = [max(len(word) for word in [*top, *(row[place] for row in rows)]) for place, top in enumerate(tops)]
    grid = [[top[line] for top in tops] for line in range(height)] + rows
    return [
        "  " + _GAP.join(f"{cell:<{width}}" if word else f"{cell:>{width}}" for cell, width, word in zip(row, widths, is_text, strict=True))
        for row in grid
    ]


def _wrapped(line: str, first: str = "", further: str | None = None) -> list[str]:
    indent = first if further is None else further
    return textwrap.wrap(plain(line, None), WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False) or [""]
