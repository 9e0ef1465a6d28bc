"""The folder in which everything is kept.

What belongs here: what ``ATC_HOME`` says. What does not: what is in that folder (``lake``, ``landing``, ``delivery.ledger``).
"""

from collections.abc import Mapping
from pathlib import Path

HOME = "ATC_HOME"
NOT_OPENED = "?\\"
"""DuckDB takes what follows a question mark for settings, and a backslash for a slash: it finds no file of its own there."""


class WrongHomeError(ValueError):
    """``ATC_HOME`` names a folder in which nothing can be kept."""


def home_of(environment: Mapping[str, str], project: Path) -> Path:
    """Return the folder, ``.atc`` in the project where none is named. Raises WrongHomeError where DuckDB could open nothing in it."""
    home = project / (environment.get(HOME, "").strip() or ".atc")
    shown = str(home).encode(errors="backslashreplace").decode()
    if shown != str(home):
        raise WrongHomeError(f"{HOME}: {shown} is no UTF-8: choose another folder")
    if letter := next((letter for letter in NOT_OPENED if letter in shown), None):
        raise WrongHomeError(f"{HOME}: {shown} has a {letter} in it, and DuckDB can open no file there: choose another folder")
    return home
