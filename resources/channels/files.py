"""The channel that writes files, for whoever fetches them.

What belongs here: the outbox. What does not: other channels.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from resources.channels.channel import json_lines, outcomes
from resources.storage.files import locked


@dataclass(frozen=True)
class FileChannel:
    """Files for whoever fetches them: ``<outbox>/date=<D>/<journey>.ndjson``, one message a line, sorted by key.

    A file is replaced as a whole, and a message sent again replaces its line. What cannot be written is ``failed``: no reader
    saw any of it.
    """

    outbox: Path
    batch_size: int = 10_000
    is_dry: bool = False

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message: ``delivered`` where its line is in the file."""
        answers = []
        for (day, journey_id), group in messages.group_by("date", "journey_id", maintain_order=True):
            try:
                _merge_lines(self.outbox / f"date={day}" / f"{journey_id}.ndjson", json_lines(group))
            except OSError as problem:
                answers.append(outcomes(group, "failed", f"outbox: {problem.strerror or problem}"))
            except UnicodeDecodeError:
                answers.append(outcomes(group, "failed", "outbox: the file that is there is damaged; move it away"))
            else:
                answers.append(outcomes(group, "delivered"))
        return messages.select("idempotency_key").join(pl.concat(answers), on="idempotency_key", how="left", maintain_order="left")


def _merge_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        present = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
        merged = (
            pl.DataFrame({"line": lines + present}, schema={"line": pl.String})
            .with_columns(pl.col("line").str.json_path_match("$.idempotency_key").alias("key"))
            .unique("key", keep="first")
            .sort("key")
        )
        for left in path.parent.glob(".*.part"):  # by a process that is gone: we hold its lock
            left.unlink()
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in merged["line"])
                file.flush()
                os.fsync(file.fileno())  # the ledger is about to call these delivered
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
