"""The near end of a destination's wire: what is to be there, what differs, and a function that tells it in a process to be killed."""

import base64
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import partial

import polars as pl

from atc_pipeline.activation import differences
from atc_pipeline.activation.differences import DIFFERENCE, KEY
from resources.delivery.ledger import Ledger
from resources.delivery.memberships import Memberships
from resources.delivery.synchronizing import synchronize
from resources.destinations.https import HttpsDestination
from resources.destinations.posting import Post
from tests.edges.collecting import SECRET

DAY = date(2026, 3, 10)
KEYS = (base64.b64decode(SECRET.removeprefix("whsec_")),)
wall_clock = partial(datetime.now, UTC)
os.environ["no_proxy"] = "127.0.0.1"  # whatever proxy this machine needs, the destination is on this side of it


def wanted(names: Sequence[str], destination: str = "there", audience: str = "club", **more: str) -> pl.DataFrame:
    """What is to be there of these customers."""
    rows = [
        {"audience_id": audience, "destination": destination, "customer_id": name, "checksum": name[:1] + more.get("version", "")}
        | {"identifiers": f'{{"id":"{name}{more.get("version", "")}"}}', "fields": more.get("fields")}
        for name in names
    ]
    return pl.DataFrame(rows, schema={name: DIFFERENCE[name] for name in (*KEY, "checksum", "identifiers", "fields")})


def differing(want: pl.DataFrame, has: pl.DataFrame) -> pl.DataFrame:
    """What must be told, in a portfolio that has no audiences any more: nobody's consent is asked for."""

    class Nothing:
        audiences = ()
        channels = ()

    names = pl.LazyFrame(schema={"absorbed": pl.String, "customer_id": pl.String})
    people = pl.LazyFrame(schema={"customer_id": pl.String})
    erased = pl.Series(dtype=pl.String)
    return differences.differences(want.lazy(), has.lazy(), people, names, erased, Nothing(), today=DAY)  # type: ignore[arg-type]


def tell_all(want: pl.DataFrame, home: str, url: str) -> None:
    """Tell a destination what differs, a few customers at a time, in a process that is killed."""
    there = HttpsDestination(Post(url, wall_clock, retries=0), KEYS, wall_clock, 3)
    memberships = Memberships(Ledger(home=home))
    synchronize(differing(want, memberships.rows()), {"there": there}, memberships, wall_clock)
