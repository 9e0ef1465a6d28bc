"""The report for a terminal: 100 columns of plain text.

What belongs here: columns, wrapping and escaping for a terminal. What does not: any word of the report (``page``).
"""

import textwrap
from collections.abc import Sequence

from atc_pipeline.escaping import plain
from atc_pipeline.plan.page import Cell, Page, Row, Section, Table, fitted
from atc_pipeline.plan.report import Report

WIDTH = 100
MOST_LETTERS = 400
"""Of one text; and of the first column of a table, less."""
_NAME_LETTERS, _LEAST_NAME, _LEAST_TEXT = 40, 12, 50
_GAP = "  "


def text(report: Report) -> str:
    """Lay the report out."""
    return fitted(_laid_out, report, with_names=True)


def _laid_out(page: Page) -> str:
    title = _wrapped(page.title)
    lines = [*title, "─" * max(len(line) for line in title), "", *_wrapped(page.headline), ""]
    width = max((len(_plain(rule)) for rule, _ in page.failed), default=0)
    for rule, says in page.failed:
        lines += _wrapped(says, f"FAILED  {_plain(rule):<{width}}  ")
    if page.held:
        lines += _wrapped(", ".join(page.held), "holds   ")
    if page.failed or page.held:
        lines.append("")
    for section in page.sections:
        lines += [*_section(section), ""]
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def _section(section: Section) -> list[str]:
    lines = [section.title.upper()]
    for line in section.lines:
        lines += _wrapped(line, "  ")
    if section.table:
        lines += _table(section.table)
    for note in section.notes:
        lines += _wrapped(note, "  ")
    return lines


def _table(table: Table) -> list[str]:
    columns = [[row.cells[position] for row in table.rows] for position in range(len(table.heads))]
    is_text = [position == 0 or head in table.texts for position, head in enumerate(table.heads)]
    shown = [
        [_plain(_joined(cell)) for cell in column] if word else _figures(column)
        for word, column in zip(is_text[1:], columns[1:], strict=True)
    ]
    widths = [max(len(head), *(len(cell) for cell in column)) for head, column in zip(table.heads[1:], shown, strict=True)]
    is_wide = bool(shown) and is_text[-1]
    if is_wide:  # it is wrapped
        widths[-1] = min(widths[-1], _LEAST_TEXT)
    most = max(_LEAST_NAME, min(_NAME_LETTERS, WIDTH - 4 - sum(width + len(_GAP) for width in widths)))
    names = [_shortened(_joined(cell), most) for cell in columns[0]]
    cells, widths = [names, *shown], [max(len(table.heads[0]), *map(len, names)), *widths]
    if is_wide:
        widths[-1] = WIDTH - 4 - sum(width + len(_GAP) for width in widths[:-1])
    lines = [] if is_wide else [f"    {_row(table.heads, widths, is_text)}"]
    for position, row in enumerate(table.rows):
        lines += _lines(row, [column[position] for column in cells], widths, is_text)
    return lines


def _lines(row: Row, cells: Sequence[str], widths: Sequence[int], is_text: Sequence[bool]) -> list[str]:
    last = textwrap.wrap(cells[-1], widths[-1], subsequent_indent="  ") if is_text[-1] and len(cells) > 1 else [cells[-1]]
    lines = [f"  {row.mark or ' '} {_row([*cells[:-1], last[0] if last else ''], widths, is_text)}"]
    indent = 4 + sum(width + len(_GAP) for width in widths[:-1])
    lines += [" " * indent + line for line in last[1:]]
    for detail in row.details:
        lines += _wrapped(detail, "      ")
    return lines


def _row(cells: Sequence[str], widths: Sequence[int], is_text: Sequence[bool]) -> str:
    padded = (f"{cell:<{width}}" if word else f"{cell:>{width}}" for cell, width, word in zip(cells, widths, is_text, strict=True))
    return _GAP.join(padded)


def _figures(column: Sequence[Cell]) -> list[str]:
    """Right-align both sides of every pair, so that arrows stand in a line."""
    width = max((len(cell[1]) for cell in column if isinstance(cell, tuple)), default=0)
    return [cell if isinstance(cell, str) else f"{cell[0]} → {cell[1]:>{width}}" for cell in column]


def _joined(cell: Cell) -> str:
    return cell if isinstance(cell, str) else " → ".join(cell)


def _wrapped(line: str, indent: str = "") -> list[str]:
    return textwrap.wrap(_plain(line, 2000), WIDTH, initial_indent=indent, subsequent_indent=" " * len(indent), break_on_hyphens=False) or [
        indent
    ]


def _shortened(name: str, most: int) -> str:
    visible = plain(name, most)
    return visible if len(visible) <= most else f"{visible[: most - 1]}…"


def _plain(line: str, most: int = MOST_LETTERS) -> str:
    return plain(line, most)
