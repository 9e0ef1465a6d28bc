"""What a changed file needs is made by hand: ``apply`` runs the job that the sensor ``journeys_file`` starts, and says what it did.

What belongs here: this command. What does not: what is new (``atc_pipeline.days.additions``), or making it (``assets.jobs.additions``).
"""

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from assets.jobs.additions import JOB, ONLY_NEW
from atc_pipeline.commands.command import PROJECT, Answer, Place, Refused
from atc_pipeline.days.additions import Additions, additions
from atc_pipeline.days.features import OutdatedDayError
from atc_pipeline.escaping import plain
from atc_pipeline.journeys.changes import changes
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.tables.store import DamagedDayError, MissingDayError, OlderDayError
from resources.storage.lake import Lake

REFUSED = 2
"""Exit code where the file is refused."""
LAST_LINES = 3_000
LOCATION = {".dagster/repository": "__repository__@atc_pipeline"}
"""Whose run it is: without this tag the pages of the job do not show what was run from a terminal."""

_SAYS_WHAT_TO_DO = (OutdatedDayError, MissingDayError, OlderDayError, DamagedDayError)


class Apply:
    """Makes what a changed ``journeys.yaml`` needs."""

    name = "apply"
    help = "make what a changed journeys.yaml needs: queues of new journeys over the last days, and nothing that is there; decides nothing"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect nothing but a wish to look first."""
        parser.add_argument(
            "--check", action="store_true", help="say what would be made, and make nothing; exit code 3 if there is something"
        )

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Run the job and say what it made; exit code 2 where the file is refused, 1 where the run failed."""
        try:
            in_use = place.journeys.in_use()
        except JourneysError as problem:
            raise Refused(str(problem), REFUSED) from None
        if in_use.problem is not None:
            raise Refused(in_use.problem, REFUSED)
        portfolio = in_use.portfolio
        try:
            new = additions(place.lake, portfolio)
        except _SAYS_WHAT_TO_DO as problem:
            raise Refused(str(problem)) from None
        if new is None:
            raise Refused("nothing was decided yet, so that nothing can be added: run make demo, or materialize the assets")
        try:
            words = changes(place.portfolio_of(new.last), portfolio).words
        except JourneysError:  # the version that decided the day is gone
            words = ()
        lines = [f"Version {portfolio.fingerprint}", *(f"  {plain(line)}" for line in words)]
        if not new:
            return Answer("\n".join([*lines, "Nothing is left to make: the next decision uses it." if words else "Nothing is new."]))
        lines.append(f"To make, {new.first} to {new.last}: {new.words}")
        if asked.check:
            return Answer("\n".join(lines), 3)
        before = _sizes(place.lake, new)
        _run(new)
        return Answer("\n".join([*lines, *_made(new, before, _sizes(place.lake, new))]))


@dataclass(frozen=True)
class _Failed:
    """What a run that failed said last."""

    log: str

    @property
    def words(self) -> str:
        """Return the reason, without Dagster's lines about itself."""
        lines = self.log.splitlines()
        reasons = [line for line in lines if "STEP_FAILURE" in line or "Failure:" in line or "Error:" in line]
        return "\n".join(reasons[-3:] or lines[-5:])


def _run(new: Additions) -> None:
    """Run the job as ``dagster job execute`` does: with the project's ``.env``, so that its history is where the pages look for it."""
    stretch = (
        {"dagster/partition": str(new.first)}
        if new.first == new.last
        else {"dagster/asset_partition_range_start": str(new.first), "dagster/asset_partition_range_end": str(new.last)}
    )
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "atc_pipeline.definitions", "-j", JOB]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "only_new.json"
        config.write_text(json.dumps(ONLY_NEW), encoding="utf-8")
        environment = os.environ | {"PWD": str(PROJECT)}
        ran = subprocess.run(  # noqa: S603  # our own interpreter, and what we have written down
            [*command, "-c", str(config), "--tags", json.dumps(stretch | LOCATION)],
            cwd=PROJECT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if ran.returncode:
        raise Refused(
            f"the run failed; what is written is whole, and apply goes on where it ended:\n{_Failed(ran.stdout + ran.stderr).words}"
        )


def _sizes(lake: Lake, new: Additions) -> Mapping[date, Mapping[str, int]]:
    counted = pl.col("journey_id"), pl.len()
    return {
        day: dict(lake.lazy("journey_queues", day).group_by(counted[0]).agg(counted[1]).collect().iter_rows())
        for day in (new.first + timedelta(days=number) for number in range((new.last - new.first).days + 1))
    }


def _made(new: Additions, before: Mapping[date, Mapping[str, int]], after: Mapping[date, Mapping[str, int]]) -> Sequence[str]:
    lines = [f"Made: {new.words}"]
    for name in new.queues:
        was, first, last = (of.get(name, 0) for of in (before[new.last], after[new.first], after[new.last]))
        lines.append(f"  {plain(name)}: {first:,} queue on {new.first}, {last:,} on {new.last} ({was:,} before)")
    return [*lines, "Nothing that is past was decided again: the next decision uses it."]
