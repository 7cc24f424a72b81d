"""A pod of the rendered overlay `small`, run by podman in the place of a cluster.

podman has no projected volumes, and its probes need curl in the image: volumes are folders here,
as `python -m deploy files` makes them, and the test does what the probes do. The pod is in the
machine's network, so its ports are set, by the unit's ConfigMap.
"""

import asyncio
import copy
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.testing import eventually
from deploy import databases, files
from deploy.tests.manifests import of_kind, rendered
from tests.containers import inside
from tests.containers.machine import (
    READY_S,
    REPOSITORY,
    TAG,
    Podman,
    await_ready,
    free_ports,
    give,
    stores,
)

UNIT = "auth"  # which calls no other
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

pytestmark = pytest.mark.timeout(1800)


def test_a_pod_waits_for_its_schema_and_then_serves_confined(
    podman: Podman, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    ports = free_ports("postgres", "redis", "grpc", "ops")
    made = tmp_path / "files"
    addresses = {store: f"127.0.0.1:{ports[store]}" for store in ("postgres", "redis")}
    files.make(made, **addresses)
    (made / "tmp" / UNIT).mkdir(parents=True)
    give(made)
    deployment, configs = manifests()
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    name, file = f"{UNIT}-pod-0-{UNIT}", tmp_path / "pod.yaml"
    file.write_text(playable(deployment, configs, made=made, ports=ports))

    with stores(tmp_path, made, ports), played(podman, file):
        await_line(podman, f"{UNIT}-pod-0-schema", "schema_awaited")
        assert state(podman, name)["Status"] == "created"

        owner = (made / "owner" / "database_url").read_text().strip()
        asyncio.run(databases.migrate(owner, databases.passwords(made / "roles")))

        paths = [container[probe]["httpGet"]["path"] for probe in PROBES]
        await_ready([f"http://127.0.0.1:{ports['ops']}{path}" for path in paths])
        seen, _ = inside.look(podman, name, modules=("services.scores", "local", "deploy"))
        assert seen == inside.CONFINED

        podman("stop", "--time=45", name)
        assert state(podman, name)["ExitCode"] == 0, podman("logs", "--tail=20", name)


def manifests() -> tuple[Any, list[Any]]:
    """The unit's Deployment and the ConfigMaps that it names."""
    found = rendered("overlays/small")
    deployment = of_kind(found, "Deployment")[UNIT]
    given = deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    configs = of_kind(found, "ConfigMap")
    return deployment, [configs[each["configMapRef"]["name"]] for each in given]


def playable(deployment: Any, configs: list[Any], *, made: Path, ports: Mapping[str, int]) -> str:
    """The same, changed where podman or the machine's network need it."""
    deployment, configs = copy.deepcopy((deployment, configs))
    pod = deployment["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    # podman restarts by the pod's policy what Kubernetes runs once, init containers among it.
    pod["restartPolicy"] = "Never"
    pod["volumes"] = [
        {"name": volume["name"], "hostPath": {"path": str(made / volume["name"] / UNIT)}}
        for volume in pod["volumes"]
    ]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["image"] == f"scoreboard/{UNIT}:dev"
        container["image"] = f"{REPOSITORY}/{UNIT}:{TAG}"
        for key in ("ports", *PROBES):
            container.pop(key, None)
    places = {"PORT": str(ports["grpc"]), "OPS_PORT": str(ports["ops"])}
    configs[-1]["data"] = {**(configs[-1].get("data") or {}), **places}
    return yaml.safe_dump_all([*configs, deployment])


@contextmanager
def played(podman: Podman, file: Path) -> Iterator[None]:
    """The pod of a file, from the start of its init container; it is removed at the end."""
    # The command returns when the init containers have ended.
    with subprocess.Popen(["podman", "play", "kube", file], env=podman.environment) as playing:
        try:
            yield
        finally:
            playing.terminate()
            playing.wait()
            podman("pod", "rm", "--force", "--ignore", "--time=0", f"{UNIT}-pod-0")


def await_line(podman: Podman, name: str, event: str) -> None:
    def logs() -> bytes:
        # That there is no container yet is a failure of the command.
        command = ["podman", "logs", name]
        run = subprocess.run(command, env=podman.environment, capture_output=True, check=False)
        return run.stdout

    async def logged() -> bool:
        return event.encode() in await asyncio.to_thread(logs)

    asyncio.run(eventually(logged, timeout_s=READY_S, pause_s=0.3))


def state(podman: Podman, name: str) -> Any:
    return json.loads(podman("inspect", name))[0]["State"]
