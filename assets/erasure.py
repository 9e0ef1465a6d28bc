"""The right to erasure: a job that removes one person from everything we keep, and proves it (GDPR article 17).

What belongs here: the job, what it may be told, and what it tells. What does not: matching, files, the order of things
(``atc_pipeline.erasure``, ``resources.traces``, ``resources.erasing``).
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets.daily import STATE_TAG
from assets.facts import markdown_table
from assets.triggers import ERASURE
from atc_pipeline.erasure import Person, identify
from resources.channels import Channels
from resources.erasing import NotErasedError, erase, places_of_same_text, search
from resources.lake import Lake
from resources.landing import LandingZone
from resources.ledger import Ledger
from resources.tombstones import Tombstones
from resources.traces import UNFINISHED, Found, Keeper, keepers, latest_map


class ErasureConfig(dg.Config):
    """Whom to erase, and whether in earnest."""

    customer_id: str = Field(
        description="A customer_id, or an id that was merged into one: `42`, or `anon:<anonymousId>`. Dagster keeps this text with the "
        "run's record, which the sensor forget_erasures deletes a day later."
    )
    confirm: bool = Field(
        default=False, description="Whether to remove. Without it the job only searches, and reports what it would remove."
    )
    reference: str = Field(
        default="", description="Your number of the request, kept with the tombstone. It must not contain an id of the person."
    )
    same_text: list[str] = Field(
        default=[], description="Places, as the report calls them (raw_events.properties), where the same text means something else."
    )
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
    ledger: Ledger,
    tombstones: Tombstones,
) -> None:
    """Erase a person, or report what would be removed."""
    person, is_mapped = _identified(config, lake)
    every = partial(_keepers, lake, landing, channels, ledger)
    try:
        found = search(every(), person)
    except NotErasedError as problem:
        raise dg.Failure(str(problem), allow_retries=False) from problem
    is_known = is_mapped or any(one.theirs and one.place != UNFINISHED for _, one in found)
    if not (is_known or config.even_if_unknown or tombstones.has(person.fingerprints)):
        raise dg.Failure(
            "nothing is known of this customer_id: neither identity_map nor any file has it. Was it typed as journey_assignments has it? "
            "To keep somebody out of whom there is nothing, set even_if_unknown: true.",
            metadata=_counted(person),
            allow_retries=False,
        )
    told = _counted(person) | _told([one for _, one in found], config, context.instance, person)
    if config.confirm:
        try:
            left = erase(person, every, found, tombstones, reference=config.reference, ours=config.same_text, now=_now)
        except NotErasedError as problem:
            raise dg.Failure(str(problem), metadata=told, allow_retries=False) from problem
        told |= {"left": f"0 found in {len(every()):,} files", "others_rows_left_same_device": sum(one.shared for one in left)}
    else:
        context.log.info("Nothing was removed: set confirm: true for that")
    context.add_output_metadata(told)


@dg.job(
    name=ERASURE,
    tags=STATE_TAG,
    description="Remove one person from everything that is kept - every table and day, landing files, outbox, ledger -, keep them out of "
    "later ingest, and prove it by a search of every file. Without `confirm: true` it only reports what it would remove.",
)
def erase_customer() -> None:
    """Run the one op."""
    erase_op()


def _identified(config: ErasureConfig, lake: Lake) -> tuple[Person, bool]:
    mapped, arrived = lake.days("identity_map")[-1:], lake.days("raw_events")[-1:]
    if mapped and mapped < arrived:
        raise dg.Failure(
            f"events of {arrived[0]} are in, but identity_map ends on {mapped[0]}, and it says which ids are whose: run that day first",
            allow_retries=False,
        )
    try:
        person, is_mapped = identify(config.customer_id, latest_map(lake))
    except ValueError as problem:
        raise dg.Failure(str(problem), allow_retries=False) from problem
    if any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", config.reference, re.IGNORECASE) for name in person.names):
        raise dg.Failure("reference contains an id of the person, and is kept: choose a text that names nobody", allow_retries=False)
    return person, is_mapped


def _keepers(lake: Lake, landing: LandingZone, channels: Channels, ledger: Ledger) -> list[Keeper]:
    return list(keepers(lake, landing, Path(channels.home) / "outbox", ledger))


def _counted(person: Person) -> dict[str, Any]:
    return {"ids": f"{len(person.users)} of users, {len(person.visitors)} of anonymous visitors"}


def _told(found: Sequence[Found], config: ErasureConfig, instance: dg.DagsterInstance, person: Person) -> dict[str, Any]:
    """Say what was found, where, and what nobody but the reader can decide."""
    rows = pl.DataFrame(
        [(one.place, one.file, one.theirs, one.shared) for one in found],
        schema={"place": pl.String, "file": pl.String, "rows": pl.Int64, "others' rows, same device": pl.Int64},
        orient="row",
    )
    by_place = rows.group_by("place").agg(pl.len().alias("files"), pl.col("rows", "others' rows, same device").sum()).sort("place")
    told: dict[str, Any] = {
        "removed" if config.confirm else "would_be_removed": markdown_table(by_place),
        "rows": int(rows["rows"].sum()),
    }
    same_text = pl.DataFrame(
        list(places_of_same_text(found).items()), schema={"place": pl.String, "rows": pl.Int64}, orient="row"
    ).with_columns(said_to_mean_something_else=pl.col("place").is_in(config.same_text))
    if not same_text.is_empty():
        told["same_text_elsewhere"] = markdown_table(same_text)
    runs = _runs_that_name(person, instance)
    if runs:
        told["runs_whose_record_names_them"] = dg.MetadataValue.md("\n".join(f"- `dagster run delete {run}`" for run in runs))
    return told


def _runs_that_name(person: Person, instance: dg.DagsterInstance) -> list[str]:
    """Search Dagster's own records, in which failing rows of checks name customers.

    Dagster can delete the record of a run, not change an event of it: whether to forget with it what the run has materialized is
    for people to say. Erasures name the person too, and are deleted by the sensor ``forget_erasures``.
    """
    pattern = re.compile(person.pattern)
    runs = [run for run in instance.get_runs() if run.job_name != ERASURE]
    return [run.run_id for run in runs if any(pattern.search(dg.serialize_value(entry)) for entry in instance.all_logs(run.run_id))]


def _now() -> datetime:
    return datetime.now(UTC)
