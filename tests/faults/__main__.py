"""The long form: ``python -m tests.faults --kills 200 --seed 1`` kills so many runs and prints what was seen."""

import argparse
import os
import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from tests.edges.bucket_server import KEYS, serving
from tests.faults.in_bucket import make_in_bucket
from tests.faults.killing import kill_often, leave_alone, table
from tests.faults.world import make_world


def main() -> int:
    """Parse, kill, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many runs to kill (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="what decides when each is killed (default 1)")
    parser.add_argument("--bucket", action="store_true", help="keep everything but the ledger in a bucket of a local S3 server")
    parser.add_argument("--shards", type=int, default=1, help="of how many shards days are made (default 1)")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving() if told.bucket else nullcontext("") as server:
        if server:
            os.environ |= KEYS | {"AWS_ENDPOINT_URL": server, "no_proxy": "127.0.0.1"}  # for what this process puts there and reads
        here = partial(make_world, shards=told.shards)
        make = partial(make_in_bucket, server) if server else here
        seen = kill_often(Path(folder) / "killed", leave_alone(Path(folder) / "calm", here), told.kills, told.seed, make)
    points = sum((tally.at_points for tally in seen.stages.values()), start=Counter[str]())
    lines = [
        table(seen),
        "",
        f"{seen.worlds} worlds, {seen.days} days, {seen.messages} messages; {seen.survived} attempts ended before they were killed",
        f"{seen.messages_again} messages in {seen.requests_again} requests came twice; {seen.unsure} are unknown in the end",
        "points: " + ", ".join(f"{name} {count}" for name, count in sorted(points.items())),
        *(seen.differences or ["no difference from an undisturbed run"]),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if seen.differences else 0


if __name__ == "__main__":
    sys.exit(main())
