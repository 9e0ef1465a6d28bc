"""The report as Markdown for a pull request: GitHub's tables, what is aside folded away, customers by bucket and never by name.

What belongs here: headings, tables and escaping for Markdown. What does not: any word of the report (``page``).
"""

import re

from atc_pipeline import escaping
from atc_pipeline.plan.page import Cell, Page, Row, Section, Table, fitted
from atc_pipeline.plan.report import Report

MOST_LETTERS = 300
"""Of one text."""

_REFERENCE = re.compile(r"(?<!&)#(?=\d)")
"""What GitHub takes for an issue or a pull request, and writes a link back to."""


def markdown(report: Report) -> str:
    """Write the report for a comment on a pull request."""
    return fitted(_laid_out, report, with_names=False)


def _laid_out(page: Page) -> str:
    lines = [f"### {_text(page.headline, 1000)}", "", f"<sub>{_text(page.title)}</sub>", ""]
    lines += [f"- ❌ **{_text(rule)}**: {_text(says, 1000)}" for rule, says in page.failed]
    if page.held:
        lines.append(f"- ✅ {', '.join(_text(rule) for rule in page.held)}")
    if page.failed or page.held:
        lines.append("")
    for section in page.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(section: Section) -> list[str]:
    body = []
    for line in section.lines:
        body += [_text(line, 2000), ""]
    if section.table:
        body += [*_table(section.table), ""]
    for note in section.notes:
        body += [f"<sub>{_text(note, 2000)}</sub>", ""]
    title = _text(section.title)
    if section.aside:
        summary = f"<b>{escaping.xml(section.title)}</b>: {escaping.xml(section.aside)}"
        return ["<details>", f"<summary>{summary}</summary>", "", *body, "</details>", ""]
    return [f"#### {title}", "", *body]


def _table(table: Table) -> list[str]:
    heads = ["", *(_text(head) for head in table.heads)]
    rules = [":-:", *(":--" if position == 0 or head in table.texts else "--:" for position, head in enumerate(table.heads))]
    return [_row(heads), _row(rules), *(_row([f"`{row.mark}`" if row.mark else "", *_cells(row)]) for row in table.rows)]


def _cells(row: Row) -> list[str]:
    first, *rest = row.cells
    details = "".join(f"<br><sub>{_text(detail, 1000)}</sub>" for detail in row.details)
    return [f"{_bold(_cell(first))}{details}", *(_cell(cell) for cell in rest)]


def _bold(text: str) -> str:
    return f"**{text}**" if text.strip() else ""


def _cell(cell: Cell) -> str:
    return _text(cell) if isinstance(cell, str) else f"{_text(cell[0])} → **{_text(cell[1])}**"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str, most: int = MOST_LETTERS) -> str:
    return _REFERENCE.sub("`#`", escaping.markdown(text.strip(), most))
