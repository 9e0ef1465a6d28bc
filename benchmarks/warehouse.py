"""The baselines: a first day's decision in SQL on DuckDB, as the textbooks have it and as fast as we can write it.

What belongs here: that SQL, made from the same portfolio and run over the same Parquet file. What does not: the engine.

``by_rows`` is the shape the textbooks teach: one ``select`` per journey, ``union all``, a join with the journeys' metadata, the score
(SPEC 7's default formula), and the first row of a window. ``by_columns`` makes no option rows: a column of scores per journey, null where
it is no option, the greatest of them, and which it is. Neither knows memory, keeps reasons or rounds a score.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import polars as pl

from atc_pipeline.journeys.portfolio import NONE, Channel, Journey, Policy, Portfolio


def connect(threads: int, spill: Path) -> duckdb.DuckDBPyConnection:
    """Open DuckDB in memory, with its own default limit of memory; what exceeds it goes into the folder ``spill``."""
    return duckdb.connect(config={"threads": threads, "temp_directory": str(spill / "spill")})


Statement = Callable[[Portfolio], str]
"""Writes one row per customer of ``profiles``: ``customer_id``, ``journey_id``, ``score``; ``journeys`` is the metadata."""


def decide(connection: duckdb.DuckDBPyConnection, profiles: Path, portfolio: Portfolio, statement: Statement) -> None:
    """Write what a statement says into the table ``decided``."""
    connection.register("journeys", _metadata(portfolio).to_arrow())
    connection.execute(f"create or replace temp view profiles as from read_parquet('{profiles}')")
    connection.execute(f"create or replace temp table decided as {statement(portfolio)}")


def by_rows(portfolio: Portfolio) -> str:
    """Write the statement: options, scores, and each customer's first row in the total order of SPEC 7.

    "None" stands before what it ties with: any other option must score strictly more.
    """
    policy = portfolio.policy
    branches = [_options(journey, portfolio) for journey in portfolio.journeys]
    none = (
        f"select customer_id, '{NONE}' as journey_id, 0.0 as interest_match, 0.0 as intent_match, "  # noqa: S608
        f"coalesce({policy.none.text}, 0) as none_score from profiles"
    )
    options = "\n    union all ".join([*branches, none])
    return f"""
with options as (
    {options}
),
scored as (
    select customer_id, journey_id, mandatory, priority,
        case when journey_id = '{NONE}' then none_score
        else {policy.prior_propensity}::double * value * (1 + interest_match) * (1 + intent_match) * (1 + priority / 100.0) end as score
    from options join journeys using (journey_id)
)
select customer_id, journey_id, score from scored
qualify row_number() over (
    partition by customer_id order by mandatory desc, score desc, journey_id = '{NONE}' desc, priority desc, journey_id
) = 1"""  # noqa: S608  # made of a portfolio that was checked at load


def by_columns(portfolio: Portfolio) -> str:
    """Write the statement without option rows: among equal scores the first journey in the total order is found first."""
    policy = portfolio.policy
    in_order = sorted(portfolio.journeys, key=lambda journey: (-journey.priority, journey.id))
    mandatory, optional = ([journey.id for journey in in_order if journey.mandatory is is_first] for is_first in (True, False))
    columns = ",\n        ".join(
        f"case when {_is_option(journey, portfolio)} then {_score(journey, policy)} end as {_column(journey.id)}" for journey in in_order
    )
    return f"""
with scored as (
    select customer_id, coalesce({policy.none.text}, 0) as none_score,
        {columns}
    from profiles
),
best as (select *, {_best(mandatory)} as first_band, {_best(optional)} as second_band from scored)
select customer_id,
    case when first_band is not null then {_which(mandatory, "first_band")}
    when second_band > none_score then {_which(optional, "second_band")} else '{NONE}' end as journey_id,
    case when first_band is not null then first_band when second_band > none_score then second_band else none_score end as score
from best"""  # noqa: S608  # made of a portfolio that was checked at load


def _score(journey: Journey, policy: Policy) -> str:
    """Write the default formula, with all that is known of a journey multiplied beforehand."""
    score = f"{policy.prior_propensity * journey.value * (1 + journey.priority / 100)!r}::double"
    score += f" * (1 + {_interest(journey)})" if journey.interests else ""
    return score + (f" * (1 + {_intent(journey)})" if journey.intents else "")


def _column(journey_id: str) -> str:
    return f'"score of {journey_id}"'


def _best(journey_ids: Sequence[str]) -> str:
    return _greatest([_column(id_) for id_ in journey_ids]) if journey_ids else "null::double"


def _which(journey_ids: Sequence[str], best: str) -> str:
    cases = " ".join(f"when {_column(id_)} = {best} then '{id_}'" for id_ in journey_ids)
    return f"case {cases} end" if journey_ids else "null"


def _options(journey: Journey, portfolio: Portfolio) -> str:
    """Select the rows of one journey: who qualifies and can be reached, and what the score needs of the profile."""
    return (
        f"select customer_id, '{journey.id}' as journey_id, {_interest(journey)} as interest_match, {_intent(journey)} as intent_match, "  # noqa: S608
        f"null as none_score from profiles where {_is_option(journey, portfolio)}"
    )


def _is_option(journey: Journey, portfolio: Portfolio) -> str:
    usable = {channel.id: _usable(channel) for channel in portfolio.channels}
    tests = [journey.queue.where.text] if journey.queue.where else []
    tests += [f"({journey.exit_when.text}) is not true"] if journey.exit_when else []
    tests += [f"({' or '.join(usable[name] for name in journey.channels)})"] if journey.channels else []
    tests += [f"({portfolio.policy.suppressed_when.text}) is not true"] if portfolio.policy.suppressed_when else []
    return " and ".join(f"({test})" for test in tests) or "true"


def _interest(journey: Journey) -> str:
    return f"least(1.0, {' + '.join(f'interest_{topic}' for topic in journey.interests)})" if journey.interests else "0.0"


def _intent(journey: Journey) -> str:
    return _greatest([f"intent_{intent}" for intent in journey.intents])


def _greatest(terms: Sequence[str]) -> str:
    return f"greatest({', '.join(terms)})" if terms else "0.0"


def _usable(channel: Channel) -> str:
    match channel.consent:
        case "opt_in":
            return f"consent_{channel.id}"
        case "opt_out":
            return f"consent_{channel.id} is distinct from false"
        case _:
            return "true"


def _metadata(portfolio: Portfolio) -> pl.DataFrame:
    """One row per journey, "none" included: the table that a warehouse would keep of them."""
    rows = [(journey.id, journey.mandatory, journey.priority, journey.value) for journey in portfolio.journeys]
    schema = {"journey_id": pl.String, "mandatory": pl.Boolean, "priority": pl.Float64, "value": pl.Float64}
    return pl.DataFrame([*rows, (NONE, False, 0.0, 0.0)], schema=schema, orient="row")
