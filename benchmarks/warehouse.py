"""The baseline: a first day's decision as the SQL that a warehouse team would write, on DuckDB.

What belongs here: that SQL, made from the same portfolio and run over the same Parquet file. What does not: the engine.

It is the shape the textbooks teach: one ``select`` per journey, ``union all``, a join with the journeys' metadata, the score
(SPEC 7's default formula), and the first row of a window. It knows no memory, keeps no reasons and rounds no score.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import polars as pl

from atc_pipeline.journeys.portfolio import NONE, Channel, Journey, Portfolio


def connect(threads: int, spill: Path) -> duckdb.DuckDBPyConnection:
    """Open DuckDB in memory, with its own default limit of memory; what exceeds it goes into the folder ``spill``."""
    return duckdb.connect(config={"threads": threads, "temp_directory": str(spill / "spill")})


def decide(connection: duckdb.DuckDBPyConnection, profiles: Path, portfolio: Portfolio) -> None:
    """Write one row per customer into the table ``decided``: ``customer_id``, ``journey_id``, ``score``."""
    connection.register("journeys", _metadata(portfolio).to_arrow())
    connection.execute(f"create or replace temp view profiles as from read_parquet('{profiles}')")
    connection.execute(f"create or replace temp table decided as {decision_sql(portfolio)}")


def decision_sql(portfolio: Portfolio) -> str:
    """Write the statement: options, scores, and each customer's first row in the total order of SPEC 7.

    "None" stands before what it ties with: any other option must score strictly more.
    """
    policy = portfolio.policy
    usable = {channel.id: _usable(channel) for channel in portfolio.channels}
    suppressed = policy.suppressed_when.text if policy.suppressed_when else "false"
    branches = [_options(journey, usable, suppressed) for journey in portfolio.journeys]
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


def _options(journey: Journey, usable: dict[str, str], suppressed: str) -> str:
    """Select the rows of one journey: who qualifies and can be reached, and what the score needs of the profile."""
    tests = [journey.queue.where.text] if journey.queue.where else []
    tests += [f"({journey.exit_when.text}) is not true"] if journey.exit_when else []
    tests += [f"({' or '.join(usable[name] for name in journey.channels)})"] if journey.channels else []
    tests.append(f"({suppressed}) is not true")
    interest = f"least(1.0, {' + '.join(f'interest_{topic}' for topic in journey.interests)})" if journey.interests else "0.0"
    intent = _greatest([f"intent_{intent}" for intent in journey.intents])
    return (
        f"select customer_id, '{journey.id}' as journey_id, {interest} as interest_match, {intent} as intent_match, null as none_score "  # noqa: S608
        f"from profiles where {' and '.join(tests)}"
    )


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
