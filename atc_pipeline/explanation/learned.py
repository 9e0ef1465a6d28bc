"""What was learned of a customer's chances: where the number of an option comes from, and what about the customer moved it most.

What belongs here: sentences about probabilities. What does not: learning them (``learning``), what the score makes of them (``page``).
"""

import math
from collections.abc import Sequence

from atc_pipeline.escaping import plain
from atc_pipeline.explanation import words
from atc_pipeline.explanation.day import Day, Row
from atc_pipeline.journeys.portfolio import NONE
from atc_pipeline.learning.model import DRIFTED, GoalModel
from atc_pipeline.rules.probabilities import MODEL, PRIOR, RATES

_MOVED, _SEEN = 3, 0.05
"""Features that are named, and how much the logit must have moved by one."""


def of_day(day: Day) -> str | None:
    """Say why nothing is learned yet, or why what is known is older than it should be; else nothing."""
    if day.learned is None:
        return None
    model = day.learned.model
    why = f": {plain(model.note)}" if model.note else ""
    if all(source == PRIOR for source in day.learned.sources.values()):
        return f"nothing yet{why}; every chance is what journeys.yaml says (policy.prior_propensity)"
    return f"a new fit was due, and could not be made{why}" if model.note else None


def of_option(day: Day, row: Row) -> str | None:
    """Say where the probability of an option comes from, and what moved it most for this customer."""
    learning, id_ = day.portfolio.learning, row["journey_id"]
    if id_ == NONE or day.learned is None or learning is None:
        return None
    is_live = learning.use == "live"
    chance, alone = (row.get(name if is_live else f"learned_{name}") for name in ("propensity", "baseline"))
    if chance is None or alone is None:
        return None
    model, source = day.learned.model, day.learned.sources.get(id_, PRIOR)
    beside = "" if is_live else ", beside the score"
    numbers = f"{words.percent(chance)} reach the goal, {words.percent(alone)} left alone"
    if source == MODEL:
        moved = _moved_by(day, id_)
        after = f"; odds moved most by {', '.join(moved)}" if moved else ""
        return f"Foretold by the model of {words.plain(model.fitted_on)}{beside}: {numbers}{after}."
    if source == RATES:
        why = f"{_counted(model, id_)}; {_why_not_model(model, day, id_)}"
        return f"Foretold by the journey's own rate, whoever it is{beside}: {numbers}. {why}."
    return f"Foretold by what journeys.yaml says{beside}: {numbers}."


def _moved_by(day: Day, journey_id: str) -> Sequence[str]:
    """Name what moved the odds; nothing where the profile of the day lacks what the model reads."""
    if day.learned is None or day.profile.is_empty() or not set(day.learned.columns) <= set(day.profile.columns):
        return []
    moved = list(day.learned.contributions(day.profile, journey_id).items())[:_MOVED]
    return [f"{name} × {math.exp(part):.2g}" for name, part in moved if abs(part) > _SEEN]


def _counted(model: GoalModel, journey_id: str) -> str:
    """Say of how many entries a rate is, and whether anybody was left alone."""
    known = model.known.get(journey_id)
    if known is None:
        return "None of its entries has matured: this is the rate of all journeys"
    counted = known.counted
    controls = f"{counted.controls:,} of them in control" if counted.controls else "none in control, so that who is left alone is not known"
    return f"From {counted.entries:,} mature {'entry' if counted.entries == 1 else 'entries'}, {controls}"


def _why_not_model(model: GoalModel, day: Day, journey_id: str) -> str:
    """Say why customers are not told apart."""
    if model.basis is None:
        return "no model could be fitted yet"
    if not model.fits(day.portfolio):
        return "the model reads columns that are learned by no more"
    if not model.wins:
        return "telling customers apart foretold the latest entries no better"
    if model.outside.get(journey_id, 0) >= DRIFTED:
        return "the model is not used for it until the next fit, since goals did not come as it had foretold"
    return "the model does not know it yet"
