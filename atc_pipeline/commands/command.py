"""What all commands have in common: where things are kept, what they answer, and how they tell what takes its time.

What belongs here: the place, the answer, progress. What does not: any command.
"""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Protocol

from atc_pipeline.escaping import terminal
from atc_pipeline.journeys.portfolio import Portfolio
from resources.journeys import JourneysFile
from resources.storage.home import home_of
from resources.storage.lake import Lake
from resources.storage.mirror import bring

PROJECT = Path(__file__).resolve().parents[2]
_PATIENCE, _PAUSE, _LONG_PAUSE = 2.0, 0.25, 5.0
"""Seconds after which progress is shown, and between two words of it: on a terminal, and where each is a line of a log."""
_WIDTH = 60


class Refused(Exception):  # noqa: N818  # what a command says instead of an answer is no error of ours
    """What is asked for cannot be done; ``code``: what the command exits with."""

    def __init__(self, says: str, code: int = 1) -> None:
        super().__init__(says)
        self.code = code


@dataclass(frozen=True)
class Answer:
    """What a command says, and what it exits with."""

    text: str
    code: int = 0


@dataclass(frozen=True)
class Place:
    """Where things are kept, as the environment says; nothing is opened yet."""

    home: Path
    lake: Lake
    journeys: JourneysFile

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Place":
        """Read it off the environment. Raises WrongHomeError, or BucketError."""
        home = home_of(environment, PROJECT)
        bring(home)
        file = PROJECT / environment.get("ATC_JOURNEYS", "journeys.yaml")
        return cls(home, Lake(root=str(home / "lake")), JourneysFile(path=str(file), home=str(home)))

    @property
    def portfolio_of(self) -> Callable[[date], Portfolio]:
        """Return what says by which version a day was decided."""
        return partial(self.journeys.of_day, self.lake)


class Command(Protocol):
    """One command: its name, what it is for, its arguments, and what it answers."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def help(self) -> str:
        """What it is for, in a line."""

    def expect(self, parser: ArgumentParser) -> None:
        """Say which arguments it takes."""

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Do it. Raises Refused."""


class Progress:
    """Tells on the terminal's second channel which day is done, once it takes longer than anybody would wait for in silence."""

    def __init__(self) -> None:
        self._began = self._told_at = time.monotonic()
        self._is_shown = False

    def __call__(self, doing: str, day: date) -> None:
        """Hear that a day is done."""
        now = time.monotonic()
        if now - self._began < _PATIENCE or now - self._told_at < (_PAUSE if sys.stderr.isatty() else _LONG_PAUSE):
            return
        self._told_at, self._is_shown = now, True
        self._write(f"{doing}: {day} done")

    def end(self) -> None:
        """Take the line away."""
        if self._is_shown and sys.stderr.isatty():
            sys.stderr.write(f"\r{' ' * _WIDTH}\r")

    @staticmethod
    def _write(says: str) -> None:
        text = terminal(says)
        sys.stderr.write(f"\r{text:<{_WIDTH}}" if sys.stderr.isatty() else f"{text}\n")
        sys.stderr.flush()
