"""The portfolio file, read anew by every run: editing ``journeys.yaml`` needs no reload.

What belongs here: where the file is. What does not: what is in it (``atc_pipeline.journeys``).
"""

from pathlib import Path

import dagster as dg

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio


class JourneysFile(dg.ConfigurableResource):
    """The marketers' ``journeys.yaml``."""

    path: str

    def load(self) -> Portfolio:
        """Read, check and resolve the file. Raises JourneysError, naming journey and field."""
        return load_portfolio(Path(self.path))
