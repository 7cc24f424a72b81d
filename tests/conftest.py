"""Suites for the tests that cross units: each started once, or the one SCOREBOARD_URL names.

SCOREBOARD_URL lets the journeys run against a deployment. SCOREBOARD_ADMIN_FILE may then name
a file with an administrator's `{"username", "password"}` there, and SCOREBOARD_COMMAND the words
that run a unit's command there: `kubectl exec deploy/{unit} -- python -m services.{unit}`.
SCOREBOARD_LIMITS=off says that it was given this setting; else what exceeds the limits is skipped.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suite import URL, Suite, started

ADMIN_FILE = os.environ.get("SCOREBOARD_ADMIN_FILE")
LIMITS = os.environ.get("SCOREBOARD_LIMITS")


@pytest.fixture(scope="package")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite under its default limits."""
    if URL:
        yield deployed(URL)
    else:
        with started(tmp_path_factory.mktemp("suite")) as ours:
            yield ours


@pytest.fixture(scope="package")
def unlimited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite that counts, but refuses none for a count."""
    if URL and LIMITS == "off":
        yield deployed(URL)
    else:
        with started(tmp_path_factory.mktemp("unlimited"), limits="off") as ours:
            yield ours


def deployed(url: str) -> Suite:
    """The deployment that SCOREBOARD_URL names."""
    return Suite(url=url, admin_file=Path(ADMIN_FILE) if ADMIN_FILE else None)
