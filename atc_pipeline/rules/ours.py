"""Ours: what we say about what we sent, which is not to feed what we know of customers (SPEC 1)."""

import polars as pl

LIBRARY = "atc_pipeline"
"""The name of the library, in the context of the events that are ours."""


def is_ours(context: str = "context") -> pl.Expr:
    """True where an event is ours, by the JSON text of its ``context``; never null."""
    return pl.col(context).map_batches(_is_ours, return_dtype=pl.Boolean(), is_elementwise=True)


def _is_ours(contexts: pl.Series) -> pl.Series:
    # Of somebody else's events hardly one has the word in it, and to look for that is a tenth of looking for the name's place.
    is_candidate = contexts.str.contains(LIBRARY, literal=True).fill_null(value=False)
    if not is_candidate.any():
        return is_candidate
    name = contexts.filter(is_candidate).str.json_path_match("$['library'].name")
    return is_candidate.scatter(is_candidate.arg_true(), (name == LIBRARY).fill_null(value=False))
