"""Every version of ``journeys.yaml`` that ever made a table, as its text was: ``<home>/portfolios/<fingerprint>.yaml``, and in a folder
of the same name the files that it names.

What belongs here: keeping texts by version, and which was the newest. What does not: what they say (``atc_pipeline.journeys``).
"""

from collections.abc import Sequence
from pathlib import Path

from resources.storage.files import flush_names, replacing

_NEWEST, _ACCEPTED = "newest", "accepted"


class Portfolios:
    """The folder of kept versions."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, fingerprint: str) -> Path:
        """Return where a version is kept."""
        return self.root / f"{fingerprint}.yaml"

    def folder(self, fingerprint: str) -> Path:
        """Return where the files are kept that a version names."""
        return self.root / fingerprint

    def keep(self, fingerprint: str, text: str, files: Sequence[tuple[str, str]] = ()) -> None:
        """Keep a version with the files it names, and that it is the newest; nothing is written where both are so."""
        if not self.path(fingerprint).exists():
            for name, content in files:  # first: a version that is there is whole
                kept = self.folder(fingerprint) / name
                _write(kept, content)
                for folder in kept.relative_to(self.root).parents:  # the folders it made, too, outlast a power cut
                    flush_names(self.root / folder)
            _write(self.path(fingerprint), text)
        if self.newest() != fingerprint:
            _write(self.root / _NEWEST, fingerprint)

    def accept(self, fingerprint: str) -> None:
        """Keep that somebody has looked at what a version would do."""
        _write(self.root / _ACCEPTED / fingerprint, "")

    def is_accepted(self, fingerprint: str) -> bool:
        """Return whether somebody has."""
        return (self.root / _ACCEPTED / fingerprint).exists()

    def newest(self) -> str | None:
        """Return the version that ran last; None where none was kept."""
        try:
            return (self.root / _NEWEST).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None


def _write(path: Path, text: str) -> None:
    with replacing(path, is_lasting=True) as unfinished:
        unfinished.write_bytes(text.encode())
