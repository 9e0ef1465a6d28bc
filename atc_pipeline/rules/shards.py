"""Shards: some of the customers each, by a hash of the name that a customer has now, the same on every machine and for ever.

What belongs here: which shard a name is in. What does not: what is done with one (``days.shards``), and files of one
(``resources.storage.lake``).
"""

import polars as pl

from atc_pipeline.rules.lots import xxh64


def shard_of(name: str | pl.Expr, shards: int) -> pl.Expr:
    """Return the number of the shard, 0 to ``shards`` - 1, that a customer of this name is in; of nobody, the first."""
    named = pl.col(name) if isinstance(name, str) else name
    return (xxh64(named) % shards).fill_null(0)
