"""Processes that are forked from a server of their own, in the environment of whoever starts them.

What belongs here: that, and no import of ours: what a process unpickles first is here, and threads of Polars that are there before it has
disks of its own stay outside of them (``mounts``).
"""

import os
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any


class _Process(ForkServerProcess):
    """A process in the environment of whoever starts it; the server that forks it has the one of whoever came first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.environment = dict(os.environ)

    def run(self) -> None:
        """Do what was asked for."""
        os.environ.clear()
        os.environ.update(self.environment)
        super().run()


class Processes(ForkServerContext):
    """Where to get them from."""

    Process = _Process  # type: ignore[assignment]
