"""The right to erasure: a job that removes one person from everything we keep, and proves it (GDPR article 17).

What belongs here: the job, what it may be told, and what it tells. What does not: matching, files, the order of things
(``atc_pipeline.erasure``, ``resources.traces``, ``resources.erasing``).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
from pydantic import Field

from assets.daily import STATE_TAG
from assets.facts import markdown_table
from atc_pipeline.erasure import Person, identify
from resources.channels import Channels
from resources.erasing import NotErasedError, erase, search
from resources.lake import Lake
from resources.landing import LandingZone
from resources.ledger import Ledger
from resources.tombstones import Tombstones
from resources.traces import UNFINISHED, Found, keepers, latest_map


class ErasureConfig(dg.Config):
    """Whom to erase, and whether in earnest."""

    customer_id: str = Field(
        description="A customer_id, or an id that was merged into one: `42`, or `anon:<anonymousId>`. Dagster keeps this text with the run: "
        "the sensor forget_erasures deletes such runs a day later."
    )
    confirm: bool = Field(
        default=False, description="Whether to remove. Without it the job only searches, and reports what it would remove."
    )
    reference: str = Field(default="", description="Your number of the request, kept with the tombstone. It must not contain an id of the person.")
    same_text: list[str] = Field(
        default=[], description="Places, as the report calls them (raw_events.properties), where the same text means something else."
    )
    even_if_unknown: bool = Field(
        default=False, description="Whether to keep out somebody of whom there is nothing; else that is an error, since it may be a typing error."
    )


@dg.op(
    name="erase_customer",
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
    try:
        person, is_mapped = identify(config.customer_id, latest_map(lake))
    except ValueError as problem:
        raise dg.Failure(str(problem), allow_retries=False) from problem
    if any(name.lower() in config.reference.lower() for name in person.names):
        raise dg.Failure("reference contains an id of the person, and is kept: choose a text that names nobody", allow_retries=False)
    ...


@dg.job(
    name="erase_customer",
    tags=STATE_TAG,
    description="Remove one person from everything that is kept - every table and day, landing files, outbox, ledger -, keep them out of "
    "later ingest, and prove it by a search of every file. Without `confirm: true` it only reports what it would remove.",
)
def erase_customer() -> None:
    """Run the one op."""
    erase_op()
