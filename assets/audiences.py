"""Audiences and the one answer: who is to be where, and destinations told so that they are."""

from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import dagster as dg
import polars as pl

from assets.daily import after, chosen, days_of, each_day, made, spec, together
from assets.shown.facts import markdown_table, reasons_of, samples_of
from atc_pipeline.days.activation import is_current
from atc_pipeline.days.audiences import Members, Synchronizing, days_to_tell, places_of
from atc_pipeline.escaping import terminal
from resources.channels.channel import WrongSettingError
from resources.delivery.ledger import Ledger, LedgerError
from resources.delivery.memberships import Memberships
from resources.delivery.synchronizing import Synchronizer
from resources.destinations.connected import Destinations
from resources.destinations.destination import Rehearsal
from resources.erasure.tombstones import Tombstones
from resources.journeys import JourneysFile
from resources.storage.lake import Lake

ADDS_UP = dg.AssetCheckSpec(
    "acknowledged_and_differences_are_members",
    asset="audience_syncs",
    description="What destinations acknowledged, and what still differs, are the members: nobody is forgotten in between. If it fails, it "
    "is a fault of ours: the rows say who; run the day again (job synchronize), since every difference is made anew.",
    blocking=True,
)


class AudienceConfig(dg.Config):
    """Which audiences may lose as many members as they would (``answer``: the one answer), by name."""

    accept_removal: list[str] = []


def audience_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``audience_members`` and ``audience_changes``, and ``audience_syncs`` and ``answers``."""

    @dg.multi_asset(
        name="list_members",
        specs=[
            dg.AssetSpec(
                "audience_members",
                **spec(
                    partitions,
                    "activation",
                    after(["journey_assignments", "customer_profiles", "micro_segment_memberships", "identity_map"]),
                ),
            ),
            dg.AssetSpec("audience_changes", **spec(partitions, "activation", after(["journey_assignments"]))),
        ],
        **together(partitions),
    )
    def listed(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> Iterator[dg.MaterializeResult]:
        """Nobody is told here: that is `audience_syncs`, which stands on it."""
        each_day(context, lake, Members(lake, journeys.load()))
        yield from made(context, ["audience_members", "audience_changes"])

    @dg.multi_asset(
        name="synchronize_destinations",
        specs=[
            dg.AssetSpec("audience_syncs", **spec(partitions, "activation", after(UPSTREAM), ["polars", "duckdb"])),
            dg.AssetSpec("answers", **spec(partitions, "activation", after(UPSTREAM), ["polars", "duckdb"])),
        ],
        check_specs=[ADDS_UP],
        **together(partitions),
    )
    def synchronized(
        context: dg.AssetExecutionContext,
        config: AudienceConfig,
        lake: Lake,
        journeys: JourneysFile,
        destinations: Destinations,
        ledger: Ledger,
        tombstones: Tombstones,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """A set is as of one day: of days that are not past, the last is told, and the others are rehearsed."""
        portfolio, days, memberships = journeys.load(), days_of(context), Memberships(ledger)
        try:
            places = places_of(portfolio, memberships.rows())
            _refuse_strangers(config, places, journeys)
            connected = destinations.connect(places["destination"], _now)
        except (LedgerError, WrongSettingError) as problem:
            raise dg.Failure(description=f"no destination was told: {problem}", allow_retries=False) from None
        current = [day for day in days if is_current(day, _now(), portfolio)]
        live = days_to_tell(days, current, max(lake.days("audience_members"), default=None))
        rehearsal = dict.fromkeys(connected, Rehearsal())
        step = Synchronizing(
            lake,
            portfolio,
            lambda day: Synchronizer(day, connected if day in live else rehearsal, memberships, _now),
            days,
            erased=tombstones.fingerprints(),
            accepted=config.accept_removal,
        )
        each_day(context, lake, step)
        for day in days[-1:] if "audience_syncs" in chosen(context) else []:
            rows = lake.read("audience_syncs", day)
            facts = {"by_destination": markdown_table(step.kept[day]), "rejected": reasons_of(rows), "samples": samples_of(rows)}
            context.add_asset_metadata(facts, asset_key="audience_syncs", partition_key=day.isoformat())
        yield from made(context, ["audience_syncs", "answers"])
        if ADDS_UP.name in {key.name for key in context.selected_asset_check_keys}:
            yield _adds_up(step)

    return [listed, synchronized]


UPSTREAM = ["audience_members", "journey_assignments", "customer_profiles", "micro_segment_memberships", "identity_map"]


def _refuse_strangers(config: AudienceConfig, places: pl.DataFrame, journeys: JourneysFile) -> None:
    names = sorted(set(places["audience_id"]))
    for name in config.accept_removal:
        if name not in names:
            nearest = "".join(f"; nearest: {match!r}" for match in get_close_matches(name, names, n=1, cutoff=0))
            raise WrongSettingError(f"accept_removal: {terminal(name)} is no audience of {journeys.path}{nearest}")


def _adds_up(step: Synchronizing) -> dg.AssetCheckResult:
    astray = [rows.select(pl.lit(day).alias("date"), pl.all()) for day, rows in step.unexplained.items() if rows.height]
    failing = pl.concat(astray) if astray else pl.DataFrame()
    shown: dict[str, Any] = {"failing_rows": failing.height, "first_failing_rows": markdown_table(failing.head(20))} if astray else {}
    return dg.AssetCheckResult(
        asset_key="audience_syncs",
        check_name=ADDS_UP.name,
        passed=not astray,
        metadata={"days_tested": len(step.unexplained), **shown},
    )


def _now() -> datetime:
    return datetime.now(UTC)
