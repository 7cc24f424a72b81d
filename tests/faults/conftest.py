"""A suite whose processes may be killed."""

from collections.abc import Iterator

import pytest

from tests.suite import Suite, started


@pytest.fixture(scope="package")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite that no other test needs. Each test leaves it whole."""
    with started(tmp_path_factory.mktemp("mortal"), limits="off") as ours:
        yield ours
