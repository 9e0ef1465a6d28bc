"""What ``journeys.yaml`` holds, in one line: for ``validate``.

What belongs here: counting. What does not: what is wrong with a file (``resolution`` says that by refusing it), or printing.
"""

from pathlib import Path

from atc_pipeline.journeys.resolution import load_portfolio


def validated(path: Path) -> str:
    """Say what the file holds, drafts left out. Raises JourneysError, one line per problem."""
    portfolio = load_portfolio(path)
    paused = sum(journey.status == "paused" for journey in portfolio.journeys)
    journeys = _count(len(portfolio.journeys), "journey") + (f" ({paused} paused)" if paused else "")
    things = {"segment": portfolio.segments, "trait": portfolio.traits, "interest": portfolio.topics, "intent": portfolio.intents}
    counts = [_count(len(each), noun) for noun, each in (things | {"channel": portfolio.channels}).items()]
    return f"{path.name}: {', '.join([journeys, *counts])}: ok"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
