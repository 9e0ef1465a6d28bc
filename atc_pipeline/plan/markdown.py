"""The report as Markdown for a pull request: GitHub's tables, what is aside folded away, customers by bucket and never by name.

What belongs here: headings, tables and escaping for Markdown. What does not: any word of the report (``page``).
"""

import re

from atc_pipeline import escaping
from atc_pipeline.plan.page import Cell, Page, Section, Table, fitted
from atc_pipeline.plan.report import Report

MOST_LETTERS = 300
"""Of one text."""

_ROOMY = 4
"""Columns that leave room for a sentence in the first."""
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
    """Write a table; what belongs to a row stands in its first cell, or in a list below where the columns leave it no room."""
    is_marked, is_wide = any(row.mark for row in table.rows), len(table.heads) > _ROOMY
    heads = [*([""] if is_marked else []), *(_text(head) for head in table.heads)]
    sides = [":--" if position == 0 or head in table.texts else "--:" for position, head in enumerate(table.heads)]
    lines: list[list[str]] = []
    for row in table.rows:
        if lines and not row.cells[0]:  # more of the row above
            lines[-1][-1] += f"<br>{_cell(row.cells[-1])}"
            continue
        mark = [f"`{row.mark}`" if row.mark else ""] if is_marked else []
        details = "" if is_wide else "".join(f"<br><sub>{_text(detail, 1000)}</sub>" for detail in row.details)
        lines.append([*mark, f"**{_cell(row.cells[0])}**{details}", *(_cell(cell) for cell in row.cells[1:])])
    below = [f"- **{_cell(row.cells[0])}** {_text('; '.join(row.details), 1000)}" for row in table.rows if is_wide and row.details]
    return [_row(heads), _row([*([":-:"] if is_marked else []), *sides]), *map(_row, lines), *(["", *below] if below else [])]


def _cell(cell: Cell) -> str:
    """Write a figure so that it does not break, and a change with its end in bold."""
    if isinstance(cell, str):
        return _text(cell)
    before, after = (_text(side).replace(" ", "&nbsp;") for side in cell)
    return f"{before}&nbsp;→&nbsp;**{after}**"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str, most: int = MOST_LETTERS) -> str:
    return _REFERENCE.sub("`#`", escaping.markdown(text.strip(), most))
