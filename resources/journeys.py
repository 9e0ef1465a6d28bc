"""The portfolio in use, and those that were: a run reads it once and keeps to it; the next run reads it anew, without a reload.

The newest valid version runs: a file that is refused changes nothing, and whoever asks is told so (SPEC 17).

What belongs here: which version is in use, and which decided a day. What does not: what is in one (``atc_pipeline.journeys``), how
they are kept (``resources.storage.portfolios``).
"""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
from pydantic import PrivateAttr

from atc_pipeline.journeys.measures import decided_otherwise, is_turned_on
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.reading import read_text
from atc_pipeline.journeys.resolution import Files, load_portfolio, read_files, resolve_text
from atc_pipeline.tables.store import Store
from resources.storage.files import refusal
from resources.storage.lake import Lake
from resources.storage.portfolios import Portfolios


@dataclass(frozen=True)
class InUse:
    """The newest valid version."""

    portfolio: Portfolio
    problem: str | None
    """Why ``journeys.yaml`` itself is refused, and which version runs instead; None where it is the file that runs."""


@dataclass(frozen=True)
class Versions:
    """The versions that were kept in a home."""

    home: str

    def kept(self, fingerprint: str) -> Portfolio:
        """Return a version. Raises JourneysError where it is gone, or no version of ours can read it any more."""
        versions = _kept_in(self.home)
        return load_portfolio(versions.path(fingerprint), versions.folder(fingerprint))

    def find(self, fingerprint: str) -> Portfolio | None:
        """Return a version; None where it is gone, or no version of ours can read it any more."""
        try:
            return self.kept(fingerprint)
        except JourneysError:
            return None


class JourneysFile(dg.ConfigurableResource):
    """The marketers' ``journeys.yaml``, and its versions that made tables, in ``<home>/portfolios``."""

    path: str
    home: str
    _in_use: InUse | None = PrivateAttr(default=None)  # Dagster makes a resource anew for each run

    def in_use(self) -> InUse:
        """Return the newest valid version; writes nothing. Raises JourneysError where the file is refused and no version was kept."""
        return self._read()[0]

    def load(self) -> Portfolio:
        """Return the portfolio of this run, which is kept for good.

        Raises Failure with one line per problem, naming journey and field, where the file is refused and no version was kept.
        """
        if self._in_use is None:
            try:
                in_use, text, files = self._read()
                self._versions.keep(in_use.portfolio.fingerprint, text, files)
            except JourneysError as problem:
                raise dg.Failure(description=str(problem), allow_retries=False) from None
            except OSError as problem:
                raise dg.Failure(
                    f"{self._versions.root}: cannot be written ({refusal(problem) or problem}): no day is made by a version that is not "
                    "kept. Is the disk full, or the folder read-only?",
                    allow_retries=False,
                ) from None
            self._in_use = in_use
        return self._in_use.portfolio

    @property
    def problem(self) -> str | None:
        """Say why the file is refused, and which version runs instead; None where it is the file that runs."""
        return (self._in_use or self.in_use()).problem

    @property
    def versions(self) -> "Versions":
        """Return the versions that were kept, for whoever makes days on other machines."""
        return Versions(self.home)

    def kept(self, fingerprint: str) -> Portfolio:
        """Return a version that was kept. Raises JourneysError where it is gone, or no version of ours can read it any more."""
        return self.versions.kept(fingerprint)

    def accept(self, portfolio: Portfolio) -> None:
        """Note that it was looked at what a version would do."""
        self._versions.accept(portfolio.fingerprint)

    def of_day(self, store: Store, day: date, table: str = "journey_assignments") -> Portfolio:
        """Return the version that decided a day, or made the day of another table; the one in use where nobody says which.

        Files from before versions were kept do not say. Raises JourneysError where that version is gone.
        """
        fingerprint = store.written_by(table, day).portfolio if store.has(table, day) else None
        portfolio = (self._in_use or self.in_use()).portfolio
        return portfolio if fingerprint in (None, portfolio.fingerprint) else self.kept(str(fingerprint))

    def _read(self) -> tuple[InUse, str, Files]:
        path, newest = Path(self.path), self._versions.newest()
        try:
            text = read_text(path)
            files = read_files(text, path.name, path.parent)
            portfolio = resolve_text(text, path.name, files)
            if newest not in (None, portfolio.fingerprint):
                self._check_decided(self._versions.path(str(newest)), portfolio, path.name)
            return InUse(portfolio, None), text, files
        except JourneysError as problem:
            if newest is None:
                raise
            kept = self._versions.path(newest)
            try:
                text = read_text(kept)
                files = read_files(text, kept.name, self._versions.folder(newest))
                portfolio = resolve_text(text, kept.name, files)
            except JourneysError as gone:
                raise JourneysError([*str(problem).splitlines(), *str(gone).splitlines()]) from None
            return (
                InUse(portfolio, f"{problem}\nRefused: version {portfolio.fingerprint} runs on, the newest valid one ({kept})"),
                text,
                files,
            )

    def _check_decided(self, newest: Path, portfolio: Portfolio, name: str) -> None:
        """Raise JourneysError where a day that was named in advance is changed after it, or what is learned is to decide, unseen."""
        try:
            before = load_portfolio(newest, newest.parent / newest.stem)
        except JourneysError:  # of an older grammar
            return
        problems = decided_otherwise(before, portfolio, datetime.now(ZoneInfo(portfolio.timezone)).date())
        # A plan is of days that were decided: where there are none nobody can have looked.
        if is_turned_on(before, portfolio) and not self._versions.is_accepted(portfolio.fingerprint) and self._has_decided():
            problems.append(
                "field 'learning.use': nobody has looked at what live does by this very version: scores may have another scale against "
                "policy.none. Read what `python -m atc_pipeline plan` says, and run it with --accept"
            )
        if problems:
            raise JourneysError([f"{name}: {problem}" for problem in problems])

    def _has_decided(self) -> bool:
        return bool(Lake(root=f"{self.home}/lake").days("journey_assignments"))

    @property
    def _versions(self) -> Portfolios:
        return _kept_in(self.home)


def _kept_in(home: str) -> Portfolios:
    return Portfolios(Path(home) / "portfolios")
