"""A shop of twelve customers and four days: what the graph tests run the whole lineage on."""

import json
from collections.abc import Mapping
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path

import dagster as dg
import polars as pl

from atc_pipeline.definitions import build_definitions

FIRST = date(2026, 3, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(4)]

JOURNEYS = """
version: "1"
calendar: {timezone: Europe/Berlin, starts_on: 2026-03-01}
channels:
  email: {consent: opt_in}
  app: {consent: opt_out}
traits:
  orders: {count: Order Completed}
  spend: {sum: revenue, of: Order Completed}
  spend_2d: {sum: revenue, of: Order Completed, within_days: 2}
  last_city: {last: city, of: Order Completed}
  spend_percentile: {percentile: spend}
interests:
  half_life_days: 10
  topics:
    tea: [{event: Product Viewed, where: "category = 'tea'"}]
    coffee: [{event: Product Viewed, where: "category = 'coffee'"}]
segments:
  newcomers: "tenure_days < 2 and orders = 0"
  buyers: "orders > 0"
journeys:
  - id: welcome
    length_days: 3
    queue: {any: [newcomers]}
    channels: [email, app]
    goal: {event: Order Completed}
    next_journeys: [tea_club]
    steps: [{day: 1, channel: email, content: hello}, {day: 2, channel: app, content: tips}]
  - id: tea_club
    length_days: 2
    queue: {any: [buyers, everyone_else]}
    interests: [tea]
    value: 3
    reentry: {after_days: 1, from: exit}
    steps: [{day: 1, channel: email, content: tea_1}, {day: 2, channel: email, content: tea_2}]
  - id: rescue
    length_days: 5
    queue: {where: "orders >= 2"}
    priority: 50
    value: 9
    can_interrupt: true
    steps: [{day: 1, channel: app, content: rescue_1}]
policy: {none: "0.01", switch_margin: 0.1}
"""

CONTENT = """
brand: {footer: {email: legal}, links: [tea.example], examples: {last_city: Bonn}}
blocks:
  town: {text: "News from {{ last_city | default('your town') }}."}
  offer:
    variants:
      - {id: buyers, when: "orders > 0", text: "A tea for {{ spend | money('$') }}.", html: "<h1>Tea</h1> for {{ spend | money('$') }}"}
      - {id: others, text: "A first tea."}
  legal: {text: "You said yes. {{ unsubscribe_url }}"}
content:
  hello: {about: Welcome., email: {subject: "Hello {{ last_city | default('there') }}", body: [town, offer]}}
  tea_1: {about: Tea., email: {subject: Tea, preheader: At last, body: [offer]}}
  tea_2: {about: More tea., email: {subject: More tea, body: [town]}}
"""
SPOKEN = (
    JOURNEYS.replace("email: {consent: opt_in}", "email: {consent: opt_in, medium: email, to: address}").replace(
        "traits:\n", "traits:\n  address: {last: category, of: Product Viewed}\n"
    )
    + CONTENT
)
"""The same where e-mails are rendered; their addresses are not looked at."""


def line(customer: str, day: date, number: int, **fields: object) -> str:
    """One well-formed line of the Segment Spec."""
    event = {"messageId": f"{day}-{number}", "type": "track", "userId": customer, "timestamp": f"{day}T09:{number % 60:02}:00Z"} | fields
    return json.dumps(event)


def write_landing(landing: Path) -> None:
    """Write four days of events, a few bad lines and a duplicate among them."""
    for age, day in enumerate(DAYS):
        lines = []
        for number in range(12):
            customer = f"c{number:02}"
            if age == 0:
                lines.append(line(customer, day, number, type="identify", traits={"consent_email": number % 3 != 0}))
            if (number + age) % 3 == 0:
                bought = {"revenue": 10.5 + number, "city": ["Bonn", "Kiel"][number % 2]}
                lines.append(line(customer, day, 20 + number, event="Order Completed", properties=bought))
            if (number + age) % 2 == 0:
                lines.append(
                    line(customer, day, 40 + number, event="Product Viewed", properties={"category": ["tea", "coffee"][number % 4 // 2]})
                )
        lines += ["{broken", json.dumps({"type": "track", "userId": "c01", "timestamp": f"{day}T10:00:00Z"}), lines[0]]
        folder = landing / day.isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "events.ndjson").write_text("\n".join(lines) + "\n")


def make_world(folder: Path, journeys: str = JOURNEYS) -> dict[str, str]:
    """Write the portfolio and the landing zone; return the environment that points at them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journeys.yaml").write_text(journeys)
    write_landing(folder / "home" / "landing")
    return {"ATC_HOME": str(folder / "home"), "ATC_JOURNEYS": str(folder / "journeys.yaml")}


def run(
    environment: dict[str, str],
    first: date,
    last: date,
    *,
    instance: dg.DagsterInstance,
    job: str = "daily",
    config: dict[str, object] | None = None,
    must_succeed: bool = True,
) -> dg.ExecuteInProcessResult:
    """Run a job for a stretch of days as Dagster runs it: one day as a partition, more as one range."""
    found = build_definitions(environment).resolve_job_def(job)
    if first == last:
        return found.execute_in_process(instance=instance, partition_key=str(first), run_config=config, raise_on_error=must_succeed)
    tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    return found.execute_in_process(instance=instance, tags=tags, run_config=config, raise_on_error=must_succeed)


def tables(environment: dict[str, str]) -> dict[str, bytes]:
    """Return every file of the lake by path, as bytes."""
    lake = Path(environment["ATC_HOME"]) / "lake"
    return {path.relative_to(lake).as_posix(): path.read_bytes() for path in sorted(lake.rglob("part.parquet"))}


def timeless(files: Mapping[str, bytes]) -> dict[str, object]:
    """Leave out of ``tables`` when messages were handed over, which two runs never have in common."""
    return {
        path: pl.read_parquet(BytesIO(content)).drop("sent_at", "timestamp", strict=False).rows() if path.startswith(TIMED) else content
        for path, content in files.items()
    }


TIMED = ("activation/", "sent_events/")
"""Tables that say when something was done, and of a dry run that nothing was."""
