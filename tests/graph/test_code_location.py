"""What the UI says when ``journeys.yaml`` cannot be used: the same as the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.graph.small_world import JOURNEYS

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]

LOCATION_ERROR = """
import sys
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.schema import create_schema

entry = "locationEntries { locationOrLoadError { __typename ... on PythonError { message } } }"
query = "{ workspaceOrError { ... on Workspace { " + entry + " } } }"
target = ModuleTarget("atc_pipeline.definitions", attribute=None, working_directory=None, location_name="atc_pipeline")
with DagsterInstance.get() as instance, WorkspaceProcessContext(instance, target) as process:
    answer = create_schema().execute(query, context_value=process.create_request_context())
    print(answer.data["workspaceOrError"]["locationEntries"][0]["locationOrLoadError"])
"""


def ask(journeys: Path, *command: str) -> str:
    """Run Python in a fresh interpreter with this portfolio; return all it said."""
    folder = str(journeys.parent)
    settings = {"ATC_JOURNEYS": str(journeys), "ATC_HOME": f"{folder}/home", "DAGSTER_HOME": folder, "PYTHONPATH": str(PROJECT)}
    environment = os.environ | settings
    done = subprocess.run([sys.executable, *command], cwd=journeys.parent, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("broken", "fault", "told"),
    [
        ("newcomers]", "newcomer]", "journey 'welcome', field 'queue.any'"),
        ("tenure_days < 2", "tenure_day < 2", "tenure_days"),
        ("length_days: 3", "length_day: 3", "length_days"),
    ],
)
def test_a_bad_portfolio_is_told_alike_by_command_line_and_ui(tmp_path: Path, broken: str, fault: str, told: str) -> None:
    """The code location's error, as GraphQL gives it to the UI, is the loader's own message."""
    journeys = tmp_path / "journeys.yaml"
    journeys.write_text(JOURNEYS.replace(broken, fault, 1))
    message = ask(
        journeys,
        "-c",
        "import sys; from pathlib import Path; from atc_pipeline.journeys.resolution import load_portfolio\n"
        "try: load_portfolio(Path(sys.argv[1]))\nexcept Exception as problem: print(problem)",
        str(journeys),
    ).strip()
    assert told in message
    assert "Traceback" not in message
    assert message.splitlines()[0] in ask(journeys, "-c", LOCATION_ERROR).replace("\\n", "\n").replace('\\"', '"').replace("\\'", "'")
