"""What is wrong with ``journeys.yaml``, and where: one line per problem, in the marketer's terms.

What belongs here: places, lines and the words around a problem. What does not: what may be wrong (``reading``, ``document``,
``resolution``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atc_pipeline.journeys.dialect import shortened

Place = tuple[str | int, ...]
"""Where in the file: keys and list positions from the top, such as ``("journeys", 2, "queue", "any", 0)``."""

MOST_PROBLEMS = 20
"""So many are told; nobody reads more."""


class JourneysError(Exception):
    """``journeys.yaml`` is refused; one line per problem says where it is, what was expected and the nearest valid name."""

    def __init__(self, problems: Iterable[str], *, untold: int = 0) -> None:
        lines = list(dict.fromkeys(problems))
        untold += max(0, len(lines) - MOST_PROBLEMS)
        super().__init__("\n".join([*lines[:MOST_PROBLEMS], *([f"... and {untold} more"] if untold else [])]))


@dataclass(frozen=True)
class Source:
    """The file behind a document: its name, the line of every key and item, and the journeys' ids in order."""

    name: str
    lines: Mapping[Place, int]
    journey_ids: tuple[object, ...]

    def problem(self, place: Place, message: str, *, key: object = None) -> str:
        """Return one line that says where ``place`` (or a key in it) is, in the file and in the marketer's terms, and what is wrong."""
        known = (*place, key) if isinstance(key, str | int) else place
        while known and known not in self.lines:
            known = known[:-1]
        line = f":{self.lines[known]}" if known in self.lines else ""
        subject = self._subject(place)
        return f"{self.name}{line}: {subject}: {message}" if subject else f"{self.name}{line}: {message}"

    def _subject(self, place: Place) -> str:
        match place:
            case ("journeys", int(position), *rest):
                name = self.journey_ids[position] if position < len(self.journey_ids) else None
                owner = f"journey '{shortened(name)}'" if isinstance(name, str) else f"journey {position + 1}"
            case ("interests", "topics", str(name), *rest):
                owner = f"interest '{shortened(name)}'"
            case (("channels" | "traits" | "intents" | "segments" | "layouts" | "blocks" | "metrics") as section, str(name), *rest):
                owner = f"{section[:-1]} '{shortened(name)}'"
            case ("content", str(name), *rest):
                owner = f"content '{shortened(name)}'"
            case _:
                owner, rest = "", list(place)
        field = ".".join(shortened(key) for key in rest if isinstance(key, str))
        return ", ".join(part for part in (owner, f"field '{field}'" if field else "") if part)
