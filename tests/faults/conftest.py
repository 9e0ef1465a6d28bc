"""One undisturbed run of all days, which every fault is held against."""

import pytest

from tests.faults.killing import Calm, leave_alone


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """A world that was left alone, day by day."""
    return leave_alone(tmp_path_factory.mktemp("calm"))
