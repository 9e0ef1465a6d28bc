"""The right to erasure: a job that removes one person from everything we keep, and proves it (GDPR article 17).

What belongs here: the job, what it may be told, and what it tells. What does not: matching, files, the order of things
(``atc_pipeline.identity.erasure``, ``resources.erasure.traces``, ``resources.erasure.erasing``).
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.daily import STATE_TAG
from assets.jobs.forgetting import A_DAY, ERASURE
from assets.shown.facts import markdown_table
from atc_pipeline.escaping import markdown, plain
from atc_pipeline.identity.erasure import MOST_WRITTEN, Person, identify
from resources.channels.connected import Channels, WrongSettingError
from resources.delivery.ledger import Ledger
from resources.delivery.memberships import Memberships
from resources.destinations.connected import Destinations
from resources.destinations.destination import Destination
from resources.erasure.erasing import NotErasedError, erase, places_of_same_text, search
from resources.erasure.members import Members
from resources.erasure.records import BUSY, PLACE, Records, compact, delete, ended_runs, folders, is_in_files, named_runs
from resources.erasure.tombstones import Tombstones
from resources.erasure.traces import MOST_WAYS, UNFINISHED, Keeper, Trace, keepers, latest_map
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone


class ErasureConfig(dg.Config):
    """Whom to erase, and whether in earnest."""

    customer_id: str = Field(
        description="A customer_id, or an id that was merged into one: `42`, or `anon:<anonymousId>`. Dagster keeps this text with the "
        "run's record, which the sensor forget_erasures, or the next erasure, deletes a day later."
    )
    confirm: bool = Field(
        default=False, description="Whether to remove. Without it the job only searches, and reports what it would remove."
    )
    reference: str = Field(
        default="", description="Your number of the request, kept with the tombstone. It must not contain an id of the person."
    )
    same_text: list[str] = Field(
        default=[],
        description="Places, as the report calls them (raw_events.properties), where the text means something else; `dagster` for all "
        "records of runs.",
    )
    also: list[str] = Field(default=[], description="Further ids that are theirs, such as their id written otherwise (`ANN@example.org`).")
    even_if_unknown: bool = Field(
        default=False,
        description="Whether to keep out somebody of whom there is nothing; else that is an error, since it may be a typing error.",
    )


@dg.op(
    name="erase",
    description="Search all files, lay the tombstone, write anew each file that holds something of the person, and search again.",
    out=dg.Out(dg.Nothing),
)
def erase_op(
    context: dg.OpExecutionContext,
    config: ErasureConfig,
    lake: Lake,
    landing: LandingZone,
    channels: Channels,
    destinations: Destinations,
    ledger: Ledger,
    tombstones: Tombstones,
    journeys: JourneysFile,
) -> None:
    """Erase a person, or report what would be removed."""
    person, is_mapped = _identified(config, lake, journeys)
    records = [Records(context.instance, ERASURE)] if PLACE not in config.same_text else []
    members = Members(Memberships(ledger), partial(_connect, destinations, journeys), _now)
    every = partial(_keepers, [members, *records], lake, landing, channels, ledger, [str(folder) for folder in folders(context.instance)])
    try:
        traces = search(every(), person)
    except NotErasedError as problem:
        raise dg.Failure(plain(str(problem), None), allow_retries=False) from None
    report = Report([trace for _, trace in traces], person, config, context.instance)
    context.log.info(report.text())
    is_known = is_mapped or any(trace.theirs and trace.place not in {UNFINISHED, PLACE} for _, trace in traces)
    if not (is_known or config.even_if_unknown or tombstones.has(person.fingerprints)):
        raise dg.Failure(
            "nothing is known of this customer_id: neither identity_map nor any file has it. Was it typed as journey_assignments has it? "
            "The report says where it may be written otherwise. To keep somebody out of whom there is nothing, set even_if_unknown: true.",
            metadata=report.facts(),
            allow_retries=False,
        )
    facts = report.facts()
    if config.confirm:
        try:
            left = erase(person, every, traces, tombstones, reference=config.reference, ours=config.same_text, now=_now)
            delete(context.instance, earlier_erasures(context.instance, person, but=context.run_id))
            compact(context.instance)
        except (NotErasedError, *BUSY) as problem:
            says = str(problem) if isinstance(problem, NotErasedError) else f"Run this again: Dagster's database is in use ({problem})"
            raise dg.Failure(plain(says, None), metadata=facts, allow_retries=False) from None
        facts |= {"left": f"0 found in {len(every()):,} files", "others_rows_left_same_device": sum(trace.shared for trace in left)}
        facts |= {"kept_besides": lake.besides} if lake.besides else {}
        context.log.info(f"removed and searched again: {facts['left']}. {kept_for_a_day(context.instance, context.run_id)}")
    else:
        context.log.info("Nothing was removed: set confirm: true for that")
    context.add_output_metadata(facts)


@dg.job(
    name=ERASURE,
    tags=STATE_TAG,
    description="Remove one person from everything that is kept - every table and day, landing files, outbox, ledger, records of runs -, "
    "keep them out of later ingest, and prove it by a search of every file. Without `confirm: true` it only reports what it would remove.",
)
def erase_customer() -> None:
    """Run the one op."""
    erase_op()


def _identified(config: ErasureConfig, lake: Lake, journeys: JourneysFile) -> tuple[Person, bool]:
    mapped, arrived = lake.days("identity_map")[-1:], lake.days("raw_events")[-1:]
    if mapped and mapped < arrived:
        raise dg.Failure(
            f"events of {arrived[0]} are in, but identity_map ends on {mapped[0]}, and it says which ids are whose: run that day first",
            allow_retries=False,
        )
    theirs, blocked = latest_map(lake), journeys.load().blocked
    try:
        person, is_mapped = identify(config.customer_id, theirs, blocked)
        for written in config.also:
            person = person.together_with(identify(written, theirs, blocked)[0])
    except ValueError as problem:
        raise dg.Failure(plain(str(problem), None), allow_retries=False) from None
    if person.spellings.are_in(pl.Series([config.reference])).any():
        raise dg.Failure("reference contains an id of the person, and is kept: choose a text that names nobody", allow_retries=False)
    return person, is_mapped


def _connect(destinations: Destinations, journeys: JourneysFile, names: Sequence[str]) -> Mapping[str, Destination]:
    """Connect these destinations, and those of journeys.yaml, of which none may be named wrongly either."""
    portfolio = journeys.load()
    named = {
        *names,
        *(name for audience in portfolio.audiences for name in audience.to),
        *(portfolio.publish.to if portfolio.publish else ()),
    }
    try:
        return destinations.connect(named, _now)
    except WrongSettingError as problem:
        raise NotErasedError(f"memberships at {', '.join(names)}: nobody was told, and nothing of them removed: {problem}") from None


def _keepers(
    records: Sequence[Keeper], lake: Lake, landing: LandingZone, channels: Channels, ledger: Ledger, but: Sequence[str]
) -> list[Keeper]:
    return [*records, *keepers(lake, landing, channels.outbox, ledger, but)]


def earlier_erasures(instance: dg.DagsterInstance, person: Person, *, but: str) -> list[str]:
    """Return the erasures that ended a day ago, and those of this person."""
    return sorted({*ended_runs(instance, ERASURE, before=_now() - A_DAY), *named_runs(instance, person, ERASURE)} - {but})


def kept_for_a_day(instance: dg.DagsterInstance, run_id: str) -> str:
    """Say what still names the person after an erasure: the record of the erasure, and what we cannot write anew."""
    own = f"This run's own record names them: the sensor forget_erasures, or the next erasure, deletes it in a day (run {run_id})."
    if instance.is_ephemeral or is_in_files(instance):
        return own
    return own + " Dagster's records are in a database that is none of its files: what it keeps of deleted rows is for it to forget."


@dataclass(frozen=True)
class Report:
    """What was found, where, and what nobody but the reader can decide: on the run's page, and as text for a terminal."""

    traces: Sequence[Trace]
    person: Person
    config: ErasureConfig
    instance: dg.DagsterInstance

    def facts(self) -> dict[str, Any]:
        """Return it as the run's page shows it."""
        runs = "\n".join(f"- {markdown(run)}" for run in self._runs())
        return (
            {
                "ids": self._ids(),
                "removed" if self.config.confirm else "would_be_removed": markdown_table(self._by_place()),
                "rows": sum(trace.theirs for trace in self.traces),
            }
            | ({"same_text_elsewhere": markdown_table(self._elsewhere())} if self._elsewhere().height else {})
            | ({"how_it_is_written_there": markdown_table(self._written())} if self._written().height else {})
            | ({"customers_written_like_them": dg.MetadataValue.md(f"`also:` {markdown(self._alike())}")} if self._alike() else {})
            | ({"runs_whose_record_names_them": dg.MetadataValue.md(runs)} if runs else {})
        )

    def text(self) -> str:
        """Return it as lines for a terminal."""
        verb = "is to be removed" if self.config.confirm else "would be removed"
        parts = [f"What of this person {verb} ({self._ids()}):", _lines(self._by_place())]
        if runs := self._runs():
            parts += [
                f"Records of runs that name them: what Dagster shows of these runs {verb}, with their logs.",
                f"The lake keeps what the runs made. To keep the records, name {PLACE} in same_text.",
                *(f"  {run}" for run in runs),
            ]
        if self._elsewhere().height:
            parts += [
                "Text that is, or may be meant for, an id of theirs. Decide for each place: what means something else, name in same_text;",
                "what is an id of theirs written otherwise, in also; see to the rest by hand.",
                _lines(self._elsewhere()),
            ]
        if self._written().height:
            parts += ["How it is written there:", _lines(self._written())]
        if self._alike():
            parts.append(f"Customers whose id is written like theirs, to be copied if they are the same person: also: {self._alike()}")
        return "\n".join(parts)

    def _ids(self) -> str:
        return f"{len(self.person.users)} of users, {len(self.person.visitors)} of anonymous visitors"

    def _by_place(self) -> pl.DataFrame:
        rows = pl.DataFrame(
            [(trace.place, trace.file, trace.theirs, trace.shared) for trace in self.traces],
            schema={"place": pl.String, "file": pl.String, "rows": pl.Int64, "others' rows, same device": pl.Int64},
            orient="row",
        )
        return (
            rows.group_by("place")
            .agg(pl.col("file").n_unique().alias("files"), pl.col("rows", "others' rows, same device").sum())
            .sort("place")
        )

    def _elsewhere(self) -> pl.DataFrame:
        places = list(places_of_same_text(self.traces).items())
        return (
            pl.DataFrame(places, schema={"place": pl.String, "rows": pl.Int64}, orient="row")
            .sort("place")
            .with_columns(said_to_mean_something_else=pl.col("place").is_in(self.config.same_text))
        )

    def _written(self) -> pl.DataFrame:
        ways = sum((trace.written for trace in self.traces), Counter[tuple[str, str]]())
        rows = pl.DataFrame(
            [(*way, rows) for way, rows in ways.items()], schema={"place": pl.String, "written": pl.String, "rows": pl.Int64}, orient="row"
        )
        return rows.sort("place", "rows", "written", descending=[False, True, False]).group_by("place", maintain_order=True).head(MOST_WAYS)

    def _alike(self) -> str:
        """Return the ids of customers that are written like one of theirs, as a list of YAML."""
        ways = {way for trace in self.traces for place, way in trace.written if place.endswith(".customer_id") and len(way) < MOST_WRITTEN}
        return json.dumps(sorted(ways)[:MOST_WAYS]) if ways else ""

    def _runs(self) -> list[str]:
        named = sorted({run for trace in self.traces if trace.place == PLACE for run in trace.file.split(", ") if run})
        runs = [self.instance.get_run_by_id(run) for run in named]
        return [
            f"{name}: {run.job_name} {run.tags.get('dagster/partition', '')}".strip() if run else f"{name}: deleted, its checks are not"
            for name, run in zip(named, runs, strict=True)
        ]


def _lines(table: pl.DataFrame) -> str:
    """Lay a table out in columns, as text that does nothing but stand there."""
    rows = [table.columns, *([plain(str(cell)) for cell in row] for row in table.iter_rows())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _now() -> datetime:
    return datetime.now(UTC)
