"""A report as one HTML file: pictures in it, no script, nothing that is fetched; in light, in dark, and on paper.

What belongs here: the document, its style, and escaping for HTML. What does not: any word of a report (``proof``, ``journey``, ``paths``).
"""

from collections.abc import Sequence

from atc_pipeline.escaping import xml
from atc_pipeline.reports.page import Figure, Page, Section, Table

MOST_LETTERS = 1000
"""Of one text."""

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --faint: #59636e; --rule: #d8dee4; --wash: #f6f8fa; --mark: #0b5394; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #0d1117; --ink: #e6edf3; --faint: #9198a1; --rule: #30363d; --wash: #161b22; --mark: #79c0ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere; }
body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 72px; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 14px; margin-bottom: 8px; }
h1 { font-size: 25px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 20px; line-height: 1.25; margin: 0 0 6px; }
h3 { font-size: 16px; margin: 30px 0 4px; display: flex; gap: 10px; align-items: baseline; flex-wrap: wrap; }
p { margin: 6px 0; max-width: 78ch; }
nav { margin: 10px 0 0; display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 14px; }
a { color: var(--mark); }
article { padding-top: 34px; }
article + article { border-top: 1px solid var(--rule); margin-top: 40px; }
.headline { font-size: 18px; line-height: 1.4; max-width: 68ch; margin: 8px 0 0; }
.of, .note { color: var(--faint); font-size: 14px; }
.figures { display: flex; flex-wrap: wrap; gap: 12px 40px; margin: 14px 0; padding: 0; }
.figures div { max-width: 30ch; }
.figures dd { margin: 0; font-size: 27px; font-weight: 650; line-height: 1.2; letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
.figures dt { color: var(--faint); font-size: 13.5px; line-height: 1.35; margin-top: 2px; }
.standing { font-size: 12px; font-weight: 600; border: 1.5px solid currentColor; border-radius: 3px; padding: 0 6px; line-height: 1.5; }
.described { border-style: dashed; color: var(--faint); }
.exploratory { border-style: dotted; color: var(--faint); }
summary { color: var(--faint); font-size: 14px; cursor: pointer; }
figure { margin: 14px 0; overflow-x: auto; border: 1px solid var(--rule); border-radius: 6px; padding: 10px 8px; }
figure svg { display: block; max-width: 100%; height: auto; }
.wide { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-size: 13.5px; min-width: 50%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 0 5px 18px; border-bottom: 1px solid var(--rule); vertical-align: top; }
th, td { overflow-wrap: normal; }
th { font-weight: 600; color: var(--faint); vertical-align: bottom; border-bottom-color: var(--faint); }
th.word, td.word { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
td:first-child { font-weight: 600; overflow-wrap: anywhere; }
td { white-space: nowrap; }
td.word { white-space: normal; min-width: 8em; }
ul.note { padding-left: 18px; margin: 8px 0; max-width: 90ch; }
footer { color: var(--faint); font-size: 13px; border-top: 1px solid var(--rule); margin-top: 44px; padding-top: 12px; }
@media print {
  :root { --paper: #ffffff; --ink: #000000; --faint: #444444; --rule: #bbbbbb; --wash: #ffffff; --mark: #000000; }
  @page { size: A4; margin: 14mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav, details { display: none; }
  article + article { break-before: page; border-top: 0; margin-top: 0; padding-top: 0; }
  figure, tr, h3 { break-inside: avoid; }
  figure, .wide { overflow: visible; }
  h2, h3 { break-after: avoid; }
  table { font-size: 8.5pt; width: 100%; }
  th, td { padding-left: 8px; }
}
""".strip()
"""Colours that are readable on paper and by night; shapes and frames that say the same in black and white."""


def html(title: str, pages: Sequence[Page], footer: str) -> str:
    """Write pages into one document, with a list of them at its top."""
    links = "".join(f'<a href="#page-{number}">{_text(page.name)}</a>' for number, page in enumerate(pages))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Nothing is run or fetched, whatever a name in it says.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="color-scheme" content="light dark">',
            f"<title>{_text(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            f"<header><h1>{_text(title)}</h1><nav>{links}</nav></header>",
            *(_page(page, number) for number, page in enumerate(pages)),
            f"<footer>{_text(footer)}</footer>",
            "</main>",
            "</body>",
            "</html>\n",
        ]
    )


def _page(page: Page, number: int) -> str:
    sections = "".join(_section(section) for section in page.sections)
    return (
        f'<article id="page-{number}">\n<h2>{_text(page.title)}</h2>\n<p class="headline">{_text(page.headline)}</p>\n{sections}</article>'
    )


def _section(section: Section) -> str:
    standing = f'<span class="standing {section.standing}">{section.standing}</span>' if section.standing else ""
    parts = [f"<h3>{_text(section.title)} {standing}</h3>"]
    if section.of:
        parts.append(f'<p class="of">{_text(section.of)}</p>')
    if section.figures:
        parts.append(f'<dl class="figures">{"".join(_figure(figure) for figure in section.figures)}</dl>')
    parts += [f"<p>{_text(line)}</p>" for line in section.lines]
    if section.picture:
        parts.append(f"<figure>{section.picture.svg}</figure>")
    if section.table and section.table.rows:
        table = _table(section.table)
        parts.append(f"<details><summary>in numbers</summary>{table}</details>" if section.picture and section.is_drawn else table)
    if section.notes:
        parts.append(f'<ul class="note">{"".join(f"<li>{_text(note)}</li>" for note in section.notes)}</ul>')
    return "\n".join(parts) + "\n"


def _figure(figure: Figure) -> str:
    return f"<div><dd>{_text(figure.value)}</dd><dt>{_text(figure.says)}</dt></div>"


def _table(table: Table) -> str:
    sides = [' class="word"' if place == 0 or head in table.texts else "" for place, head in enumerate(table.heads)]
    heads = "".join(f"<th{side}>{_text(head)}</th>" for head, side in zip(table.heads, sides, strict=True))
    rows = "\n".join(
        f"<tr>{''.join(f'<td{side}>{_text(cell)}</td>' for cell, side in zip(row, sides, strict=True))}</tr>" for row in table.rows
    )
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _text(text: str) -> str:
    return xml(text, MOST_LETTERS)
