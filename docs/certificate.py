"""Writes ``certificate.md`` beside it: whether what the system says is right, tried where the truth is known (``make certify``).

``python -m docs.certificate quick`` tries less of it, and writes nothing. Either ends with 1 where a claim does not hold.

What belongs here: which claims there are, progress, how the page looks. What does not: any claim (``atc_pipeline.certificate``), any world
(``sample.world``).
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

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


def _on_worlds(scale: Scale) -> Iterator[Claim]:
    """Yield what is claimed of the whole pipeline."""
    yield from pipeline_claims(scale, world.make, Trials())
    yield broken_worlds_are_noticed(scale, world.make, Trials())
    yield future_is_not_seen(scale, world.make, Trials())
    yield learning_helps(scale, world.make, Trials())
    yield from real_money_is_right(scale, households.make, Trials())


CLAIMS: tuple[Trying, ...] = (
    estimator_is_right,
    knows_when_it_cannot,
    many_are_safe,
    looking_is_safe,
    broken_is_noticed,
    other_policies_are_valued_right,
    _on_worlds,
)
"""What is claimed, in the order of the page; first what needs no pipeline."""

HEAD = """# Certificate

<!-- Written by `make certify` of what it found: do not edit. -->

What the system says of journeys, tried where the truth is known: on tables of entries and outcomes that are drawn by chance, and on worlds
whose customers do what chance and delivered messages make them do. What each claim means is said in [spec.md](spec.md), 16. Seeds are
fixed: the same code gives the same figures.
"""


def main(arguments: Sequence[str]) -> int:
    """Try all claims; return 1 where one does not hold."""
    if arguments not in ([], [Scale.QUICK]):
        sys.stderr.write("python -m docs.certificate [quick]\n")
        return 2
    scale = Scale.QUICK if arguments else Scale.FULL
    began = perf_counter()
    claims = list(tried(scale, CLAIMS))
    if scale is Scale.FULL:
        PAGE.write_text(page(claims, perf_counter() - began), encoding="utf-8")
    failed = [claim.name for claim in claims if not claim.passed]
    sys.stdout.write(f"{len(claims) - len(failed)} of {len(claims)} claims hold, in {_time(perf_counter() - began)}\n")
    return 1 if failed else 0


def tried(scale: Scale, claims: Sequence[Trying]) -> Iterator[Claim]:
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


def page(claims: Sequence[Claim], seconds: float) -> str:
    """Return the page."""
    rows = [f"| {claim.name} | {claim.how} | {claim.bar} | {_mark(claim)} | {_time(claim.seconds)} |" for claim in claims]
    return "\n".join(
        [
            HEAD,
            "| claim | how | it must | it does | time |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"Version {_version()}; {_machine()}; {_time(seconds)} in all.",
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
