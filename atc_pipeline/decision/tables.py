"""Tables of the decision: their columns and types.

What belongs here: what the columns are. What does not: how rows come about (``queues``, ``decide``, ``memory``).
"""

import polars as pl

from atc_pipeline.decision.gates import RULINGS

QUEUES = {
    "date": pl.Date(),
    "journey_id": pl.String(),
    "customer_id": pl.String(),
    "queued_on": pl.Date(),
    "waiting_days": pl.Int64(),
}


CANDIDATES = {
    "date": pl.Date(),
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "is_queued": pl.Boolean(),
    "is_incumbent": pl.Boolean(),
    "mandatory": pl.Boolean(),
    "priority": pl.Float64(),
    "propensity": pl.Float64(),
    "value": pl.Float64(),
    "interest_match": pl.Float64(),
    "intent_match": pl.Float64(),
    "waiting_days": pl.Int64(),
    "linked_boost": pl.Float64(),
    "score": pl.Float64(),
    "ruling": pl.String(),
    "failed_gates": pl.List(pl.String()),
    "rank": pl.Int64(),
    "margin": pl.Float64(),
}

ASSIGNMENTS = {
    "date": pl.Date(),
    "customer_id": pl.String(),
    "decision": pl.String(),
    "journey_id": pl.String(),
    "entered_on": pl.Date(),
    "day_index": pl.Int64(),
    "ends_on": pl.Date(),
    "arm": pl.String(),
    "score": pl.Float64(),
    "runner_up": pl.String(),
    "runner_up_score": pl.Float64(),
    "selection_probability": pl.Float64(),
    "ended_journey_id": pl.String(),
    "ended_reason": pl.String(),
}

FUNNEL = {
    "date": pl.Date(),
    "journey_id": pl.String(),
    "queued": pl.Int64(),
    "carried": pl.Int64(),
    **dict.fromkeys(RULINGS[1:], pl.Int64()),
    "chosen": pl.Int64(),
    "started": pl.Int64(),
    "wanted": pl.Int64(),
    "places": pl.Int64(),
    "price": pl.Float64(),
}


STATE = {
    "date": pl.Date(),
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "entered_on": pl.Date(),
    "ended_on": pl.Date(),
    "ended_reason": pl.String(),
    "times_entered": pl.Int64(),
    "times_completed": pl.Int64(),
    "entry_score": pl.Float64(),
    "arm": pl.String(),
    "recent_starts": pl.List(pl.Date()),
    "left_on": pl.Date(),
    "finished_on": pl.Date(),
}
"""``left_on`` and ``finished_on``: the last day this journey ended, and completed or converted; kept when it is entered again."""
