"""Small JSON documents in a folder, which cannot be made again.

What belongs here: their files. What does not: what is in them (``resources.erasure.tombstones``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.storage.files import replacing


@dataclass(frozen=True)
class Documents:
    """The files ``<home>/<kind>/<name>.json``, each whole or absent, and on the disk when ``write`` returns."""

    home: str
    kind: str

    def names(self) -> list[str]:
        """Return the names of all, in order."""
        return sorted(path.stem for path in (Path(self.home) / self.kind).glob("*.json"))

    def has(self, name: str) -> bool:
        """Return whether there is one."""
        return self._path(name).exists()

    def read(self, name: str) -> dict[str, Any]:
        """Read one. Raises FileNotFoundError where there is none, ValueError where it is damaged."""
        return dict(json.loads(self._path(name).read_text()))

    def write(self, name: str, document: Mapping[str, Any]) -> None:
        """Replace one in one step."""
        with replacing(self._path(name), is_ours=True, is_lasting=True) as unfinished:
            unfinished.write_text(json.dumps(document, indent=1))

    def _path(self, name: str) -> Path:
        return Path(self.home) / self.kind / f"{name}.json"
