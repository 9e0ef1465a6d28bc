"""The folder in which everything is kept, or the bucket and the folder that is its copy on this host.

What belongs here: what ``ATC_HOME`` says. What does not: what is in that folder (``lake``, ``landing``, ``delivery.ledger``).
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from resources.storage.mirror import join
from resources.storage.objects import Address

HOME = "ATC_HOME"
CACHE = "ATC_CACHE"
LEDGER = "ATC_LEDGER"
_BUCKETS = "s3://"
NOT_OPENED = "?\\"
"""DuckDB takes what follows a question mark for settings, and a backslash for a slash: it finds no file of its own there."""


class WrongHomeError(ValueError):
    """``ATC_HOME`` names a folder in which nothing can be kept."""


def home_of(environment: Mapping[str, str], project: Path) -> Path:
    """Return the folder, ``.atc`` in the project where none is named; of ``s3://<bucket>/<prefix>``, its copy on this host.

    Raises WrongHomeError where DuckDB could open nothing in it, where the bucket cannot be looked at, or the ledger would be in it.
    """
    named = environment.get(HOME, "").strip()
    if named.lower().startswith(_BUCKETS):
        return _copy_of(named, environment, project)
    return _openable(HOME, project / (named or ".atc"))


def is_in_bucket(environment: Mapping[str, str]) -> bool:
    """Return whether everything is kept in a bucket."""
    return environment.get(HOME, "").strip().lower().startswith(_BUCKETS)


def _copy_of(address: str, environment: Mapping[str, str], project: Path) -> Path:
    """Return the copy of a bucket on this host; of the bucket, the portfolios are looked at."""
    try:
        place = Address.of(address)
    except ValueError as problem:
        raise WrongHomeError(f"{HOME}: {address} {problem}") from None
    if not environment.get(LEDGER, "").strip():
        raise WrongHomeError(
            f"{HOME} is {address}, and the ledger of what was sent cannot lie in a bucket: set {LEDGER} to postgresql://..., or to a "
            "DuckDB file on a disk that is kept"
        )
    try:
        from resources.storage.bucket import Bucket  # noqa: PLC0415  # only who has a bucket has installed what speaks to it
    except ModuleNotFoundError as problem:
        raise WrongHomeError(f"{HOME} is {address}, and {problem.name} is not installed: requirements.lock has it") from None
    cache = project / (environment.get(CACHE, "").strip() or ".atc/mirror")
    root = _openable(CACHE, cache / quote(f"{place.bucket}/{place.prefix}", safe=""))
    try:
        mirror = join(Bucket(place), root.absolute())
        mirror.bring("portfolios")
    except OSError as problem:
        raise WrongHomeError(str(problem)) from None
    return mirror.folder


def _openable(setting: str, folder: Path) -> Path:
    shown = str(folder).encode(errors="backslashreplace").decode()
    if shown != str(folder):
        raise WrongHomeError(f"{setting}: {shown} is no UTF-8: choose another folder")
    if letter := next((letter for letter in NOT_OPENED if letter in shown), None):
        raise WrongHomeError(f"{setting}: {shown} has a {letter} in it, and DuckDB can open no file there: choose another folder")
    return folder
