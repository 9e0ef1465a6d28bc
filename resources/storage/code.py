"""Which code makes the tables: said in every file of the lake, so that a day decided otherwise again is known for a defect or an upgrade.

What belongs here: that name. What does not: which portfolio made a table (``resources.journeys``).
"""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import polars_hash

PROJECT = Path(__file__).resolve().parents[2]
"""The folder of the project."""
_ENGINE = PROJECT / "atc_pipeline"


@cache
def project_version() -> str:
    """Return 12 hex digits of what makes and keeps tables: the engine, the resources, and what says who is in which shard."""
    sources = hashlib.sha256(f"{code_version()} {polars_hash.__version__}".encode())
    for path in sorted((PROJECT / "resources").rglob("*.py")):
        sources.update(f"\0{path.relative_to(PROJECT).as_posix()}\0".encode() + path.read_bytes())
    return sources.hexdigest()[:12]


@cache
def code_version() -> str:
    """Return 12 hex digits of the SHA-256 of the engine's sources, as this process found them, and of what computes for it."""
    sources = hashlib.sha256(f"polars {pl.__version__} numpy {np.__version__}".encode())
    for path in sorted(_ENGINE.rglob("*.py")):
        sources.update(f"\0{path.relative_to(_ENGINE).as_posix()}\0".encode() + path.read_bytes())
    return sources.hexdigest()[:12]
