"""The portfolio file, read anew by every run: editing ``journeys.yaml`` needs no reload.

What belongs here: where the file is. What does not: what is in it (``atc_pipeline.journeys``).
"""

from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from atc_pipeline.escaping import terminal
from atc_pipeline.journeys.document import JourneysError
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio


class JourneysFile(dg.ConfigurableResource):
    """The marketers' ``journeys.yaml``."""

    path: str
    _is_run: bool = PrivateAttr(default=False)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Know that this is a run, in which a mistake in the file needs no trace."""
        self._is_run = True

    def load(self) -> Portfolio:
        """Read, check and resolve the file. Raises JourneysError, naming journey and field; in a run, dg.Failure with its lines."""
        try:
            return load_portfolio(Path(self.path))
        except JourneysError as problem:
            if not self._is_run:
                raise
            raise dg.Failure(f"{self.path} is refused:\n{terminal(str(problem))}", allow_retries=False) from None
