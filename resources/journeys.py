"""The portfolio file: a run reads it once and keeps to it; the next run reads it anew, so that editing needs no reload.

What belongs here: where the file is. What does not: what is in it (``atc_pipeline.journeys``).
"""

from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.resolution import load_portfolio


class JourneysFile(dg.ConfigurableResource):
    """The marketers' ``journeys.yaml``."""

    path: str
    _portfolio: Portfolio | None = PrivateAttr(default=None)  # Dagster makes a resource anew for each run

    def load(self) -> Portfolio:
        """Return the portfolio of this run. Raises Failure with one line per problem, naming journey and field."""
        if self._portfolio is None:
            try:
                self._portfolio = load_portfolio(Path(self.path))
            except JourneysError as problem:
                raise dg.Failure(description=str(problem), allow_retries=False) from None
        return self._portfolio
