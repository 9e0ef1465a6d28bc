"""A day of a table in parts: one file for each shard of the customers, and a manifest that says how many there are.

``date=<D>/shard=<n>/part.parquet`` beside ``date=<D>/manifest.json``. The folder takes the place of the one before it as a whole, so that a
day is never of two makings; it is made under a name of its own, which the manifest goes into last.

What belongs here: that folder, how it is found and put in place. What does not: what is in its files, and how they are read (``lake``).
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resources.storage.files import put_folder, replacing

MANIFEST = "manifest.json"
PART = "part.parquet"
_UNFINISHED = re.compile(r"\.(date=\d{4}-\d\d-\d\d)\.(new|old)\..+")
_TOKEN = secrets.token_hex(6)


def writer() -> str:
    """Name this process as nobody else ever is: numbers of processes are given out again, and are the same in every container."""
    return f"{os.getpid()}-{_TOKEN}"


def files_of(folder: Path) -> list[Path]:
    """Return the files of a day, in the order of its shards; of one in one piece, that; none where there is no such day."""
    if (folder / PART).exists():
        return [folder / PART]
    manifest = manifest_of(folder)
    return [] if manifest is None else [part_of(folder, number) for number in range(manifest["shards"])]


def is_there(folder: Path) -> bool:
    """Return whether the day was written."""
    return (folder / PART).exists() or (folder / MANIFEST).exists()


def part_of(folder: Path, number: int) -> Path:
    """Return where one shard of a day is."""
    return folder / f"shard={number}" / PART


def manifest_of(folder: Path) -> Mapping[str, Any] | None:
    """Return what the manifest says: ``shards``, and ``definitions`` where there are any; None where the day is in one piece."""
    try:
        manifest: Mapping[str, Any] = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return None
    return manifest


def unfinished(folder: Path, by: str) -> Path:
    """Return where a ``writer`` makes, or has others make, the day that is to take the place of ``folder``."""
    return folder.with_name(f".{folder.name}.new.{by}")


def clear(folder: Path) -> None:
    """Remove what this process has left of an attempt at the day."""
    shutil.rmtree(unfinished(folder, writer()), ignore_errors=True)


def publish(folder: Path, shards: int, definitions: Mapping[str, str] | None) -> None:
    """Put a day of which all parts are written by now in the place of the one before it.

    Killed in here, it leaves the day before or, once the manifest is there, the new one: the next run puts it in place (``recover``).
    """
    new = unfinished(folder, writer())
    lacking = [number for number in range(shards) if not part_of(new, number).exists()]
    if lacking:
        raise FileNotFoundError(f"{new}: shards {', '.join(map(str, lacking))} of {shards} were never written")
    manifest = {"shards": shards} | ({} if definitions is None else {"definitions": dict(sorted(definitions.items()))})
    with replacing(new / MANIFEST, is_ours=True) as file:
        file.write_text(json.dumps(manifest))
    put(folder)


def put(folder: Path) -> None:
    """Put what this process has made, and is whole, in the place of a day."""
    put_folder(unfinished(folder, writer()), folder, folder.with_name(f".{folder.name}.old.{writer()}"))


def recover(root: Path, day: str = "date=*") -> None:
    """Put in place what others had whole when they ended, and remove what they had not: by whoever alone may write."""
    for left in sorted(root.glob(f"*/.{day}.*")):
        named = _UNFINISHED.fullmatch(left.name)
        if named is None:
            continue
        folder = left.with_name(named[1])
        if not folder.exists() and is_there(left):
            put_folder(left, folder, left)  # the new one comes before the old one in the order of their names
        else:
            shutil.rmtree(left, ignore_errors=True)
