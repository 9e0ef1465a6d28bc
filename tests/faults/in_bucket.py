"""The same world with everything in a bucket, and only the ledger on a disk.

What belongs here: putting it there and reading it back. What does not: the server (``tests.edges.bucket_server``), other worlds.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.edges.bucket_server import KEYS, NAME, objects, upload
from tests.edges.receiver import Receiver
from tests.faults.world import Clock, World, make_world


@dataclass
class BucketWorld(World):
    """A world in a bucket of a server."""

    server: str
    are_times_kept: ClassVar[bool] = False

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a run on a host whose copy of the bucket stays where it was."""
        there = {
            "ATC_HOME": f"s3://{NAME}/{self.folder.name}",
            "ATC_CACHE": str(self.folder / "cache"),
            "ATC_LEDGER": str(self.home / "ledger.duckdb"),
            "AWS_ENDPOINT_URL": self.server,
        }
        return super().environment | there | KEYS

    def collect(self) -> None:
        """Bring what is compared from the bucket."""
        for folder in ("lake", "outbox", "lake.origins"):
            shutil.rmtree(self.home / folder, ignore_errors=True)
            for name, content in objects(self.folder.name, folder).items():
                path = self.home / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


def make_in_bucket(server: str, folder: Path, receiver: Receiver, clock: Clock) -> BucketWorld:
    """Write the portfolio to a disk, the landing zone and an erasure to the bucket."""
    local = make_world(folder, receiver, clock)
    upload(local.home, folder.name)
    return BucketWorld(local.folder, receiver, clock, server)
