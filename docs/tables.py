"""Writes ``tables.md`` beside it: every table of the lake, of what the code says of it (``make docs``).

Where journeys.yaml decides which columns there are, it says what they are like: ``consent_<channel>``, ``<count>``.

What belongs here: how the page looks. What does not: anything that is true of one table (``tables`` of its room).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from atc_pipeline.days.catalog import tables
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.kinds import KINDS, Takes
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.tables.table import Column, Table
from atc_pipeline.tables.words import meaning_of, range_of, type_of
from resources.delivery.ledger import TABLE as LEDGER

PAGE = Path(__file__).with_suffix(".md")

HEAD = """# Tables

<!-- Written by `make docs` of what the code says of the tables (`tables.py` in each room of `atc_pipeline/`): do not edit. -->

`<ATC_HOME>/lake/<table>/date=<D>/part.parquet`: one file per table and day, `D` the business day. (Made by shard, a table of customers is
`date=<D>/shard=<n>/part.parquet`, one file per shard, with the same columns: [scale.md](scale.md).) Every table begins with `date`
(Date, = D); rows of a file are sorted by the key, which no two rows of a day share. A column is never null unless it may be. Days are Date,
moments Datetime in UTC, counts Int64, text String, the rest Float64 unless said. Columns may be added; these keep their names and meaning.

Names in angle brackets stand for what journeys.yaml defines: a channel, a topic, an intent, an event, and a trait of each kind. The
file of a day has the columns for each of those.
"""

LEDGER_HEAD = """## Delivery ledger

Not a table of the lake: `deliveries` in `<ATC_HOME>/ledger.duckdb`, or in the database that `ATC_LEDGER` names (in PostgreSQL texts are
`text collate "C"`), one row per message that was ever handed over. `decision` is the row of journey_assignments that it was sent for, as
JSON.
"""

A_TRAIT: Mapping[Takes, str] = {
    "events": "{0}: {{{0}: <event>}}",
    "property": "{0}: {{{0}: <property>, of: <event>}}",
    "trait": "{0}: {{{0}: sum}}",
    "profile": "{0}: {{{0}: <property>, type: string}}",
}
ONE_OF_EACH = """
version: "1"
calendar: {starts_on: 2026-01-01, timezone: UTC}
channels: {channel: {consent: opt_in}}
traits:
{traits}
interests: {half_life_days: 30, topics: {topic: [{event: <event>}]}}
intents: {intent: {half_life_days: 1, full_at: 1, signals: [{event: <event>}]}}
engagement: {touch: <event>, response: <event>, half_life_days: 30}
predictions: {order: <event>, value: <property>}
journeys:
  - {id: journey, name: A journey, length_days: 1, queue: {where: "tenure_days < 7"}, goal: {event: <event>}}
"""
"""One of everything that gives a table columns, and ``{traits}``: a trait of each kind under the kind's name."""


def page() -> str:
    """Return the page."""
    sections = [_section(table) for table in tables(_portfolio()).values()]
    return "\n".join([HEAD, *sections, f"{LEDGER_HEAD}\n```sql\n{LEDGER.strip()}\n```\n"])


def _portfolio() -> Portfolio:
    """Resolve ``ONE_OF_EACH``, and give it names that no journeys.yaml may have."""
    traits = "\n".join(f"  {A_TRAIT[kind.takes].format(name)}" for name, kind in KINDS.items())
    one_of_each = resolve(parse_document(ONE_OF_EACH.replace("{traits}", traits), "docs/tables.py"))
    return replace(
        one_of_each,
        channels=tuple(replace(channel, id=f"<{channel.id}>") for channel in one_of_each.channels),
        topics=tuple(replace(topic, id=f"<{topic.id}>") for topic in one_of_each.topics),
        intents=tuple(replace(intent, id=f"<{intent.id}>") for intent in one_of_each.intents),
        traits=tuple(replace(trait, id=f"<{trait.id}>") for trait in one_of_each.traits),
        journeys=tuple(replace(journey, id=f"<{journey.id}>") for journey in one_of_each.journeys),
    )


def _section(table: Table) -> str:
    key = ", ".join(f"`{name}`" for name in table.key) or "none: one row a day"
    lines = [f"## {table.name}", "", table.meaning, "", f"Key: {key}.", "", "| column | type | may be | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *(_line(column) for column in table.columns[1:]), ""])


def _line(column: Column) -> str:
    may_be = ", ".join(text for text in ("null" if column.is_nullable else "", range_of(column)) if text)
    return f"| `{column.name}` | {type_of(column.dtype)} | {may_be} | {meaning_of(column)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
