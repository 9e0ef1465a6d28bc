"""Writes ``certificate.md`` beside it: whether what the system says is right, tried where the truth is known (``make certify``).

``python -m docs.certificate quick`` tries less of it, and writes nothing; with names of claims only these are tried, and the others stay
as they are (``certificate.json``). It ends with 1 where a claim does not hold.

What belongs here: which claims there are, progress, how the page looks. What does not: any claim (``atc_pipeline.certificate``), any world
(``sample.world``).
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from atc_pipeline.certificate.beforehand import valued_beforehand
from atc_pipeline.certificate.claim import Claim, Scale
from atc_pipeline.certificate.estimator import estimator_is_right
from atc_pipeline.certificate.faults import broken_worlds_are_noticed
from atc_pipeline.certificate.future import future_is_not_seen
from atc_pipeline.certificate.learned import learning_helps
from atc_pipeline.certificate.pipeline import pipeline_claims
from atc_pipeline.certificate.real import real_money_is_right
from atc_pipeline.certificate.values import other_policies_are_valued_right
from atc_pipeline.certificate.verdicts import broken_is_noticed, knows_when_it_cannot, looking_is_safe, many_are_safe
from resources.storage.trials import Trials
from sample import households, world

PAGE = Path(__file__).with_suffix(".md")

Trying = Callable[[Scale], Claim | Iterable[Claim]]

CLAIMS: Mapping[str, Trying] = {
    "estimator": estimator_is_right,
    "silence": knows_when_it_cannot,
    "many": many_are_safe,
    "looking": looking_is_safe,
    "broken": broken_is_noticed,
    "values": other_policies_are_valued_right,
    "pipeline": lambda scale: pipeline_claims(scale, world.make, Trials()),
    "faults": lambda scale: broken_worlds_are_noticed(scale, world.make, Trials()),
    "future": lambda scale: future_is_not_seen(scale, world.make, Trials()),
    "beforehand": lambda scale: valued_beforehand(scale, world.make, Trials()),
    "learning": lambda scale: learning_helps(scale, world.make, Trials()),
    "real": lambda scale: real_money_is_right(scale, households.make, Trials()),
}
"""What is claimed, in the order of the page; first what needs no pipeline."""

HEAD = """# Certificate

<!-- Written by `make certify` of what it found: do not edit. -->

What the system says of journeys, tried where the truth is known: on tables of entries and outcomes that are drawn by chance, and on worlds
whose customers do what chance and delivered messages make them do. What each claim means is said in [spec.md](spec.md), 16. Seeds are
fixed: the same code gives the same figures.
"""


def main(arguments: Sequence[str]) -> int:
    """Try all claims, or those named; return 1 where one does not hold. What was found of the others stays on the page."""
    names = [name for name in arguments if name != Scale.QUICK]
    if not set(names) <= set(CLAIMS) or len(names) < len(arguments) - 1:
        sys.stderr.write(f"python -m docs.certificate [quick] [{'|'.join(CLAIMS)} ...]\n")
        return 2
    scale = Scale.QUICK if Scale.QUICK in arguments else Scale.FULL
    began = perf_counter()
    asked = {name: trying for name, trying in CLAIMS.items() if name in names or not names}
    claims = list(tried(scale, asked.values()))
    if scale is Scale.FULL:
        kept = {claim.name: claim for claim in _found()} if names else {}
        version = f"{_version()}; {_machine()}"
        every = kept | {claim.name: Found(**asdict(claim), version=version) for claim in claims}
        PAGE.with_suffix(".json").write_text(json.dumps([asdict(claim) for claim in every.values()], indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(list(every.values())), encoding="utf-8")
    failed = [claim.name for claim in claims if not claim.passed]
    sys.stdout.write(f"{len(claims) - len(failed)} of {len(claims)} claims hold, in {_time(perf_counter() - began)}\n")
    return 1 if failed else 0


@dataclass(frozen=True)
class Found(Claim):
    """What came out, and by which code and machine."""

    version: str = ""


def _found() -> list[Found]:
    kept = PAGE.with_suffix(".json")
    return [Found(**claim) for claim in json.loads(kept.read_text(encoding="utf-8"))] if kept.exists() else []


def tried(scale: Scale, claims: Iterable[Trying]) -> Iterator[Claim]:
    """Try claim by claim, and tell each as it comes; one that is made of what another one was tried on takes no time itself."""
    for trying in claims:
        began = perf_counter()
        made = trying(scale)
        for claim in [made] if isinstance(made, Claim) else made:
            timed = replace(claim, seconds=perf_counter() - began)
            sys.stdout.write("\n".join([f"{_mark(timed)}  {timed.name} ({_time(timed.seconds)})", *_figures(timed, "      {}: {}"), "\n"]))
            sys.stdout.flush()
            yield timed
            began = perf_counter()


def page(claims: Sequence[Found]) -> str:
    """Return the page."""
    rows = [f"| {claim.name} | {claim.how} | {claim.bar} | {_mark(claim)} | {_time(claim.seconds)} |" for claim in claims]
    versions = {claim.version: [other.name for other in claims if other.version == claim.version] for claim in claims}
    by = [f"Version {version}{'' if len(versions) == 1 else ': ' + ', '.join(names)}." for version, names in versions.items()]
    return "\n".join(
        [
            HEAD,
            "| claim | how | it must | it does | time |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"{_time(sum(claim.seconds for claim in claims))} in all.",
            *by,
            *(line for claim in claims for line in _section(claim)),
            "",
        ]
    )


def _section(claim: Claim) -> Iterator[str]:
    yield from ("", f"## {claim.name[0].upper()}{claim.name[1:]}", "", "| scenario | figures |", "|---|---|")
    yield from _figures(claim, "| {} | {} |")


def _figures(claim: Claim, line: str) -> Iterator[str]:
    return (line.format(scenario, figures) for scenario, figures in claim.figures.items())


def _mark(claim: Claim) -> str:
    return "yes" if claim.passed else "NO"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _version() -> str:
    """Say which code it was: the commit and its day, and whether files had changed since."""
    commit = _git("log", "-1", "--format=%h of %cs")
    return f"{commit or 'unknown'}{', with changes' if _git('status', '--porcelain', '--untracked-files=no') else ''}"


def _git(*arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=PAGE.parent, capture_output=True, text=True, check=False)  # noqa: S603, S607  # no input
    return ran.stdout.strip()


def _machine() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "polars", "scipy"))
    return f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {libraries}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
