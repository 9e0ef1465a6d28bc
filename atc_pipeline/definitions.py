"""The composition root: which assets, checks, triggers and resources make the one code location.

Nothing imports this module. It reads ``journeys.yaml`` (the calendar fixes the partitions), or where that is refused the newest version
that was not, and no other file.
"""

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import dagster as dg

from assets.activation import activation_assets
from assets.audiences import audience_assets
from assets.checks import all_checks
from assets.customers import customer_assets
from assets.decision import decision_assets
from assets.events import event_assets
from assets.identity import identity_assets
from assets.jobs import additions, freshness
from assets.jobs.dead_runs import dead_runs
from assets.jobs.due import due_schedule, send_due, settle_unknown
from assets.jobs.erasure import erase_customer
from assets.jobs.failures import failed_checks, failure_log
from assets.jobs.forgetting import forget_erasures
from assets.jobs.landing import landing_sensor, seconds_between
from assets.jobs.purposes import jobs_by_purpose
from assets.jobs.schedule import schedule
from assets.outcomes import outcome_assets
from assets.paths import path_assets
from assets.sent import sent_assets
from assets.shown.catalog import with_tables
from atc_pipeline.journeys.problems import JourneysError
from resources.channels.alerts import check_setting
from resources.channels.connected import Channels
from resources.delivery.ledger import Ledger, WrongLedgerError
from resources.destinations.connected import Destinations
from resources.erasure.tombstones import Tombstones
from resources.journeys import JourneysFile
from resources.runners import Runner, WrongRunnerError
from resources.storage.home import WrongHomeError, home_of
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.warehouse import Warehouse

PROJECT = Path(__file__).resolve().parent.parent


def build_definitions(environment: Mapping[str, str], **resources: object) -> dg.Definitions:
    """Wire the code location; ``resources`` override those made from the environment."""
    journeys = PROJECT / environment.get("ATC_JOURNEYS", "journeys.yaml")
    home = home_of(environment, PROJECT).as_posix()
    versions = JourneysFile(path=str(journeys), home=home)
    portfolio = versions.in_use().portfolio
    partitions = dg.DailyPartitionsDefinition(
        start_date=portfolio.starts_on.isoformat(),
        end_date=(portfolio.ends_on + timedelta(days=1)).isoformat() if portfolio.ends_on else None,  # Dagster leaves it out
        timezone=portfolio.timezone,
        end_offset=1,  # today is a day from 00:00 on (ADR 26)
    )
    assets = [
        *event_assets(partitions),
        *identity_assets(partitions),
        *customer_assets(partitions),
        *decision_assets(partitions),
        *outcome_assets(partitions),
        *path_assets(partitions),
        *activation_assets(partitions),
        *audience_assets(partitions),
        *sent_assets(partitions),
    ]
    tables = [key.to_user_string() for asset in assets for key in asset.keys]
    lake = Lake(root=f"{home}/lake")
    jobs = jobs_by_purpose(without=freshness.SELECTION)
    add_journeys = additions.add_journeys()
    daily_job = jobs[0]
    check_setting(environment)
    runner = Runner.from_environment(environment)
    return dg.Definitions(
        assets=with_tables(assets, portfolio),
        asset_checks=[*all_checks(portfolio), additions.file_is_valid(), freshness.freshness_check()],
        jobs=[*jobs, add_journeys, erase_customer, send_due, settle_unknown],
        schedules=[schedule(daily_job, partitions, lake, tables), due_schedule(lake)],
        sensors=[
            landing_sensor(daily_job, partitions, lake, tables, seconds_between(environment)),
            additions.journeys_sensor(add_journeys, partitions, lake, portfolio),
            freshness.freshness_sensor(lake),
            failure_log(),
            failed_checks(),
            dead_runs(),
            forget_erasures(),
        ],
        executor=dg.in_process_executor,
        resources={
            "journeys": versions,
            "landing": LandingZone(root=f"{home}/landing"),
            "lake": lake,
            "warehouse": Warehouse(home=home, lake=f"{home}/lake"),
            "channels": Channels.from_environment(home, environment),
            "destinations": Destinations.from_environment(home, environment),
            "ledger": Ledger.from_environment(home, environment),
            "tombstones": Tombstones(home=home),
            "runner": runner,
        }
        | resources,
    )


def _of_this_process() -> dg.Definitions:
    try:
        return build_definitions(os.environ)
    except (JourneysError, WrongHomeError, WrongLedgerError, WrongRunnerError):
        sys.tracebacklimit = 0  # the message names the file and the line, or the setting, that are wrong: no line of ours is
        raise


defs = _of_this_process()
