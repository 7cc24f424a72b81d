"""Tests of `python -m local` where it cannot run: one line that says why, and nothing left."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local.suite.processes import ROOT
from local.suite.supervisor import claimed

Refusal = Callable[..., str]


@pytest.fixture
def refusal(tmp_path: Path) -> Refusal:
    """What it says when it refuses to run with these settings."""

    def run(**settings: object) -> str:
        given = {"SCOREBOARD_DATA_DIR": tmp_path / "data", **settings}
        ended = subprocess.run(
            [sys.executable, "-m", "local"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **{name: str(value) for name, value in given.items()}},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 1
        assert not (tmp_path / "data" / "processes.json").exists()
        return ended.stderr.removesuffix("\n")

    return run


def test_a_port_in_use(refusal: Refusal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        line = refusal(SCOREBOARD_PORT=port)

    assert line == (
        f"port {port} of 127.0.0.1: Address already in use; choose another by SCOREBOARD_PORT"
    )


def test_a_data_directory_in_use(refusal: Refusal, tmp_path: Path) -> None:
    with claimed(tmp_path / "data"):
        line = refusal()

    assert line == (
        f"{tmp_path / 'data'} is in use by process {os.getpid()};"
        " choose another by SCOREBOARD_DATA_DIR"
    )


def test_a_data_directory_that_cannot_be_made(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    place = tmp_path / "file" / "data"

    assert refusal(SCOREBOARD_DATA_DIR=place) == f"{place}: Not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="to root no directory is closed")
def test_a_data_directory_that_is_closed(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)

    assert refusal().endswith("Permission denied")


def test_a_postgres_that_is_unavailable(refusal: Refusal) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        closed, public = bound.getsockname()[1], free_port()
        line = refusal(
            SCOREBOARD_PORT=public,
            DATABASE_URL=f"postgresql://someone@127.0.0.1:{closed}/postgres",
            REDIS_URL="redis://127.0.0.1:1",
        )

    assert line.startswith("postgres: ")
    assert "\n" not in line


def test_settings_that_do_not_fit(refusal: Refusal) -> None:
    assert refusal(SCOREBOARD_PORT="high") == (
        "the settings do not fit\nSCOREBOARD_PORT: must be of type int"
    )


def test_a_setting_of_a_unit_that_does_not_fit_ends_it_before_the_stores_are_started(
    refusal: Refusal, tmp_path: Path
) -> None:
    given = {"SCOREBOARD_PORT": free_port(), "POINTS_MAX": 0, "SCOREBOARD_LIMITS": "some"}

    assert refusal(**given).splitlines() == [
        "the settings do not fit",
        "fraud, actions, gateway: SCOREBOARD_LIMITS: must be one of default, off, not 'some'",
        "actions: POINTS_MAX: must be between 1 and 9007199254740991, not 0",
    ]
    assert not list((tmp_path / "data").glob("pg*"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
