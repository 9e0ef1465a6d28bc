"""What was learned of a customer's chances: where the number of an option comes from, and what about the customer moved it most.

What belongs here: sentences about probabilities. What does not: learning them (``learning``), what the score makes of them (``page``).
"""

import math

from atc_pipeline.escaping import plain
from atc_pipeline.explanation import words
from atc_pipeline.explanation.day import Day, Row
from atc_pipeline.journeys.portfolio import NONE
from atc_pipeline.learning.model import DRIFTED, GoalModel
from atc_pipeline.rules.probabilities import MODEL, PRIOR

MOST = 3
"""Features that are named: more than these nobody weighs."""
HARDLY = math.log(1.05)
"""What moves the odds by less than this, either way, is not worth a word."""


def of_day(day: Day) -> str | None:
    """Say whether anything is learned, and whether it decides; nothing where ``journeys.yaml`` has no ``learning``."""
    learning, model = day.portfolio.learning, day.model
    if learning is None:
        return None
    if not _is_known(day):
        why = f": {plain(model.note)}" if model is not None and model.note else ""
        return f"nothing yet{why}; every chance is what journeys.yaml says (policy.prior_propensity)"
    assert model is not None
    use = "it decides (live)" if learning.use == "live" else "it is written down beside the score, and decides nothing (shadow)"
    fitted = f", fitted on {day.on(model.fitted_on)}" if model.fitted_on is not None else ""
    late = f". It was to be fitted anew, and could not: {plain(model.note)}" if model.note else ""
    return f"from {model.counted.entries:,} mature entries, {model.counted.goals:,} with the goal{fitted}; {use}{late}"


def of_option(day: Day, row: Row) -> str | None:
    """Say where an option's chance comes from, and what moved it most; nothing where nothing is learned of any journey."""
    journey_id, model = row["journey_id"], day.model
    if journey_id == NONE or model is None or not _is_known(day):
        return None
    if journey_id not in day.journeys:
        return "Learned: nothing that today's journeys.yaml could tell, which no longer has this journey."
    source = model.source(journey_id, day.portfolio)
    if source == PRIOR:
        return "Learned: nothing, since it has no goal. Its chance is what journeys.yaml says (policy.prior_propensity)."
    chances = _chances(row)
    if source == MODEL:
        return f"Learned of customers like this one: {chances}. {_moved_by(day, journey_id)}"
    return f"Learned of the journey as a whole: {chances}{_counted(model, journey_id)}. {_why_not_model(model, day, journey_id)}"


def _is_known(day: Day) -> bool:
    return day.model is not None and any(day.model.source(id_, day.portfolio) != PRIOR for id_ in day.journeys)


def _chances(row: Row) -> str:
    """Write both chances: of what decides they stand in the columns of the score, of what does not beside them."""
    names = ("propensity", "baseline") if row.get("learned_propensity") is None else ("learned_propensity", "learned_baseline")
    treated, alone = (row.get(name) for name in names)
    if treated is None or alone is None:
        return "what it was then was not kept"
    return f"{words.percent(treated)} would reach the goal if sent it, {words.percent(alone)} if left alone"


def _moved_by(day: Day, journey_id: str) -> str:
    moves = day.moves(journey_id)
    if moves is None:
        return "What moved it cannot be said: the profile of the day lacks a column that it was learned by."
    named = [(name, part) for name, part in moves.items() if abs(part) >= HARDLY][:MOST]
    if not named:
        return "Nothing about this customer moves it much from what is usual."
    profile = day.profile.row(0, named=True)
    parts = [f"{plain(name)} {words.plain(profile[name])} (odds × {math.exp(part):.2f})" for name, part in named]
    return f"Moved most by {words.all_of(parts)}."


def _counted(model: GoalModel, journey_id: str) -> str:
    known = model.known.get(journey_id)
    if known is None:
        return ", the rate of all journeys, since none of its entries has matured"
    counted = known.counted
    return f", from {counted.entries:,} mature entries, {counted.controls:,} of them in control"


def _why_not_model(model: GoalModel, day: Day, journey_id: str) -> str:
    """Say why customers are not told apart."""
    if model.outside.get(journey_id, 0) >= DRIFTED:
        return "The model is not used for it until the next fit: lately its goals did not come as foretold."
    if model.basis is None:
        return "No model could be fitted yet."
    if not model.fits(day.portfolio):
        return "The model is not used: it was learned by columns that are learned by no more."
    if not model.wins:
        return "The model is not used: telling customers apart foretold the latest entries no better."
    return "The model does not know the journey yet."
