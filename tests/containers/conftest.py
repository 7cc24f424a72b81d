"""podman with the images of this checkout, for `make test-images` alone."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import NoReturn

import pytest

from tests.containers.machine import ROOT, TAG, Podman

BASE = os.environ.get("BASE", "docker.io/library/python:3.13-slim")
# Of machines without systemd, and of containers, which may not raise limits.
CONFIG = """
[containers]
default_ulimits = ["nofile=10000:10000", "nproc=10000:10000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


@pytest.fixture(scope="package")
def podman(missing: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """podman with the images of this checkout, tagged `test`."""
    if "TEST_IMAGES" not in os.environ:
        pytest.skip("`make test-images` runs these")
    if not shutil.which("podman"):
        missing("podman")
    config = tmp_path_factory.mktemp("podman") / "containers.conf"
    config.write_text(CONFIG + ('runtime = "runc"\n' if shutil.which("runc") else ""))
    program = Podman(environment={"CONTAINERS_CONF": str(config), **os.environ})
    base = ["podman", "image", "exists", BASE]
    if subprocess.run(base, env=program.environment, check=False).returncode:
        pull = ["podman", "pull", "--quiet", BASE]
        if subprocess.run(pull, env=program.environment, check=False).returncode:
            missing(f"{BASE} and cannot pull it (make image-base)")
    since = time.monotonic()
    built = subprocess.run(
        [ROOT / "deploy" / "images" / "build.sh"],
        env={"BUILDER": "podman", **program.environment, "TAG": TAG},
        capture_output=True,
        check=False,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    print(f"built in {time.monotonic() - since:.0f} s\n{built.stdout}")
    return program
