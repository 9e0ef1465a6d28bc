"""Commands for people, of ``atc_pipeline.commands``: they ask the tables, and say beforehand what a change would do.

What belongs here: parsing, printing, exit codes. What does not: any command but the one that checks the file, which
answers before all that takes seconds is imported.
"""

import os
import sys
from pathlib import Path

from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.validation import validated

PROJECT = Path(__file__).resolve().parent.parent


def validate(file: str | None) -> int:
    """Say what a portfolio holds, or one line per problem; return the exit code. Without a file it is the one in use."""
    try:
        print(validated(Path(file) if file else PROJECT / os.environ.get("ATC_JOURNEYS", "journeys.yaml")))  # noqa: T201
    except JourneysError as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__" and sys.argv[1:2] == ["validate"] and not any(each.startswith("-") for each in sys.argv[2:]):
    sys.exit(validate(sys.argv[2] if sys.argv[2:] else None))
# ruff: noqa: E402
import argparse

from atc_pipeline.commands import applying, asking, planning, previewing, proving, standing
from atc_pipeline.commands.command import Command, Place, Refused
from atc_pipeline.escaping import terminal
from atc_pipeline.explanation.reading import UnansweredError
from resources.storage.home import WrongHomeError
from resources.storage.objects import BucketError

COMMANDS: tuple[Command, ...] = (
    asking.Sql(),
    asking.Explain(),
    asking.Walk(),
    asking.Segments(),
    previewing.Show(),
    applying.Apply(),
    planning.Plan(),
    planning.Worth(),
    planning.Replay(),
    proving.Uplift(),
    proving.Paths(),
    standing.Standing(),
)


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m atc_pipeline", description="Ask the lake, which is only read.")
    names = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.expect(names.add_parser(command.name, help=command.help))
    check = names.add_parser("validate", help="check journeys.yaml: one line per problem, exit code 1")
    check.add_argument("file", nargs="?", help="another file than the one in use")
    asked = parser.parse_args(arguments)
    if asked.command == "validate":
        return validate(asked.file)
    command = next(command for command in COMMANDS if command.name == asked.command)
    try:
        answer = command.run(asked, Place.of(os.environ))
    except (Refused, UnansweredError, JourneysError, WrongHomeError, BucketError) as problem:
        print(terminal(str(problem)), file=sys.stderr)  # noqa: T201
        return problem.code if isinstance(problem, Refused) else 1
    print(terminal(answer.text))  # noqa: T201
    return answer.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
