"""The outbox: messages as files, for whoever fetches them.

What belongs here: its files, and one line a message in them. What does not: what is sent, and what became of it (``channels``).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from resources.storage.files import replacing
from resources.storage.kept import KeptFile, KeptLines, LeftBehind, all_files
from resources.storage.locks import locked

_LEFT_BEHIND = r"\..+\.(part|erasing|\d+)"


@dataclass(frozen=True)
class Outbox:
    """``<root>/date=<D>/<journey>.ndjson``, one message a line, sorted by key. A file is replaced as a whole."""

    root: Path

    @classmethod
    def of(cls, home: str) -> "Outbox":
        """Return the one in this home."""
        return cls(Path(home) / "outbox")

    def merge(self, day: date, journey_id: str, lines: list[str]) -> None:
        """Add lines to a file; of one key the new one stays. Raises OSError, or UnicodeDecodeError where the file is damaged."""
        path = self.root / f"date={day}" / f"{journey_id}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):  # else the later of two would undo the earlier
            present = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
            merged = (
                pl.DataFrame({"line": lines + present}, schema={"line": pl.String})
                .with_columns(pl.col("line").str.json_path_match("$.idempotency_key").alias("key"))
                .unique("key", keep="first")
                .sort("key")
            )
            # The ledger is about to call these delivered.
            with replacing(path, is_ours=True, is_lasting=True) as unfinished, unfinished.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in merged["line"])

    def put(self, day: date, name: str, lines: Sequence[str]) -> None:
        """Write a file of lines that is not there yet: whole, or absent. Raises OSError."""
        path = self.root / f"date={day}" / f"{name}.ndjson"
        with replacing(path, is_lasting=True) as unfinished, unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)

    def kept(self) -> Iterator[KeptFile]:
        """Yield all files, to be searched and written anew."""
        for path, name in all_files(self.root):
            if LeftBehind.is_called(path, _LEFT_BEHIND):
                yield LeftBehind(name, path)
            elif path.suffix == ".ndjson" and not path.name.startswith("."):
                yield KeptLines(name, path, _rewriting)
            else:
                yield KeptFile(name, path)


def _rewriting(path: Path) -> AbstractContextManager[Path]:
    return replacing(path, ".erasing", is_lasting=True)
