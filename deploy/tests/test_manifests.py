"""The manifests as a whole: stable, nothing left over, and each setting reaches its process."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import NoPermissionError

from chassis.testing import eventually
from deploy import cluster_secrets, databases, redis_users, units
from deploy.tests.manifests import K8S, folders, of_kind, parsed, render, rendered, text
from deploy.tests.workloads import environment, unit_of, workloads


@pytest.mark.parametrize("path", folders("overlays"))
def test_rendering_is_stable(path: str) -> None:
    assert render(K8S / path) == text(path)


def test_every_file_is_part_of_an_overlay_or_of_a_combination_that_is_tested() -> None:
    assert left_over(K8S) == []


def test_a_file_that_nothing_names_is_noticed(tmp_path: Path) -> None:
    copy = shutil.copytree(K8S, tmp_path / "k8s")
    (copy / "base" / "spare.yaml").touch()
    shutil.copytree(copy / "jobs" / "migrate", copy / "components" / "spare")

    assert "base/spare.yaml" in left_over(copy)
    assert "components/spare/kustomization.yaml" in left_over(copy)


def left_over(root: Path) -> list[str]:
    """The files that no overlay, no combination of `tests/` and no job is made of."""
    starts = [*root.glob("overlays/*"), *root.glob("tests/*"), *root.glob("jobs/*")]
    reached: set[Path] = set()
    for start in starts:
        _reach(start.resolve(), reached)
    there = {path.resolve() for path in root.rglob("*") if path.is_file() and path.suffix != ".md"}
    return sorted(path.relative_to(root.resolve()).as_posix() for path in there - reached)


@pytest.mark.parametrize("path", folders("overlays"))
def test_namespaces_come_first(path: str) -> None:
    kinds = [each["kind"] for each in rendered(path)]

    assert kinds[: kinds.count("Namespace")] == ["Namespace"] * kinds.count("Namespace")
    assert "Namespace" in kinds


def test_no_unit_has_a_number_of_replicas_before_an_overlay_gives_it_one() -> None:
    deployments = of_kind(rendered("base"), "Deployment").values()

    assert [each["metadata"]["name"] for each in deployments if "replicas" in each["spec"]] == []


def test_a_changed_setting_replaces_the_pods_of_its_units_only(tmp_path: Path) -> None:
    before = of_kind(rendered("overlays/dev"), "Deployment")
    after = of_kind(_overlay(tmp_path, {"scores-config": {"RELAY_AFTER_S": "2"}}), "Deployment")

    changed = {name for name in after if after[name]["spec"] != before[name]["spec"]}
    assert changed == {"scores"}


def test_every_setting_of_every_unit_reaches_its_process(tmp_path: Path) -> None:
    literals = {
        f"{unit}-config": {name: f"{name}-of-{unit}" for name in units.configuration(unit)}
        for unit in units.UNITS
    }

    manifests = _overlay(tmp_path, literals)

    for workload in workloads(manifests):
        if unit := unit_of(workload):
            given = environment(manifests, workload)
            wanted = literals[f"{unit}-config"]
            assert {name: given.get(name) for name in wanted} == wanted


def test_a_setting_of_all_units_reaches_them(tmp_path: Path) -> None:
    manifests = _overlay(tmp_path, {"scoreboard-config": {"LOG_LEVEL": "debug"}})

    levels = {
        workload.name: environment(manifests, workload)["LOG_LEVEL"]
        for workload in workloads(manifests)
        if unit_of(workload)
    }
    assert levels == dict.fromkeys(units.UNITS, "debug")


def test_secrets_dev_may_use_the_secrets_that_it_makes_and_no_other() -> None:
    rules = of_kind(rendered("overlays/dev"), "Role")["secrets-dev"]["rules"]

    assert [
        (rule["resources"], rule["verbs"], set(rule.get("resourceNames", []))) for rule in rules
    ] == [
        (["secrets"], ["create"], set()),
        (["secrets"], ["get", "update"], set(cluster_secrets.paths())),
    ]


@pytest.mark.parametrize("path", ["overlays/dev", "overlays/small", "overlays/verify"])
def test_every_mounted_secret_is_one_that_secrets_dev_makes(path: str) -> None:
    made = {name: {file.name for file in files} for name, files in cluster_secrets.paths().items()}
    used = [each for workload in workloads(rendered(path)) for each in _secrets(workload.pod)]

    assert [(name, keys - made.get(name, set())) for name, keys, needed in used if needed] == [
        (name, set()) for name, _, needed in used if needed
    ]
    assert {name for name, _, needed in used if needed} == set(made) - {"tls-ca"}


def test_the_renewal_does_what_the_job_does() -> None:
    manifests = {each.name: each for each in workloads(rendered("overlays/dev"))}

    assert manifests["secrets-dev-renewal"].pod == manifests["secrets-dev"].pod


@pytest.mark.parametrize("path", ["overlays/dev", "overlays/small"])
def test_the_page_of_a_forwarded_board_may_open_the_live_channel(path: str) -> None:
    manifests = rendered(path)
    (gateway,) = (each for each in workloads(manifests) if each.name == "gateway")

    origins = environment(manifests, gateway)["ALLOWED_ORIGINS"].split(",")

    assert {"http://127.0.0.1:8080", "http://localhost:8080"} <= set(origins)


def test_migrate_is_given_the_owner_and_every_role() -> None:
    manifests = {each.name: each for each in workloads(rendered("jobs/migrate"))}
    job = manifests["migrate"]

    given = environment([], job)
    files = job.files

    assert files[given["DATABASE_URL_FILE"]] == ["postgres-owner"]
    roles = {path: secrets for path, secrets in files.items() if given["ROLES_DIR"] in path}
    assert roles == {f"{given['ROLES_DIR']}/{unit}": [f"db-{unit}"] for unit in databases.UNITS}


def test_migrate_does_not_try_again_what_cannot_succeed() -> None:
    spec = of_kind(rendered("jobs/migrate"), "Job")["migrate"]["spec"]

    assert spec["podFailurePolicy"]["rules"] == [
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "migrate", "operator": "In", "values": [42]},
        },
        # `status` is the default, which the API server fills in.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    ]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (3, 600)


@pytest.mark.parametrize("path", ["overlays/dev", "overlays/small"])
def test_migrate_waits_for_a_postgres_that_is_started_with_it(path: str) -> None:
    job = next(each for each in workloads(rendered(path)) if each.name == "migrate")

    (waiting,) = job.pod["initContainers"]
    assert "pg_isready --host=postgres" in " ".join(waiting["command"])


def _overlay(folder: Path, literals: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """overlays/dev with these values of ConfigMaps, as an operator sets them."""
    kustomization = {
        "resources": [os.path.relpath(K8S / "overlays/dev", folder)],
        "configMapGenerator": [
            {
                "name": name,
                "namespace": "scoreboard",
                "behavior": "merge",
                "literals": [f"{key}={value}" for key, value in values.items()],
            }
            for name, values in literals.items()
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return parsed(render(folder))


def _reach(folder: Path, reached: set[Path]) -> None:
    """Adds the kustomization of `folder` and all that it names."""
    file = folder / "kustomization.yaml"
    if file in reached:
        return
    reached.add(file)
    for name in _texts(yaml.safe_load(file.read_text())):
        path = (folder / name.rpartition("=")[2]).resolve()
        if len(name) < 256 and path.is_dir() and (path / "kustomization.yaml").is_file():
            _reach(path, reached)
        elif len(name) < 256 and path.is_file():
            reached.add(path)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) and "\n" not in value else []


def _secrets(pod: dict[str, Any]) -> list[tuple[str, set[str], bool]]:
    """The Secrets that a pod mounts, with the keys it picks, and whether it waits for them."""
    found = []
    for volume in pod.get("volumes", []):
        projected = volume.get("projected", {}).get("sources", [])
        sources = [each["secret"] for each in projected if "secret" in each]
        if "secret" in volume:
            sources.append({**volume["secret"], "name": volume["secret"]["secretName"]})
        for source in sources:
            keys = {item["key"] for item in source.get("items", [])}
            found.append((source["name"], keys, not source.get("optional")))
    return found


async def test_valkey_takes_the_options_of_redis_dev(tmp_path: Path, redis_binary: Path) -> None:
    (redis,) = of_kind(rendered("overlays/small"), "StatefulSet")["redis"]["spec"]["template"][
        "spec"
    ]["containers"]
    users, socket = tmp_path / "users.acl", tmp_path / "redis.sock"
    users.write_text(f"{redis_users.acl({'fraud': 'test'})}user all on nopass ~* &* +@all\n")
    given = {
        "valkey-server": str(redis_binary),
        "/data": str(tmp_path),
        "/etc/redis/users.acl": str(users),
    }
    command = [given.get(word, word) for word in redis["command"]]
    process = await asyncio.create_subprocess_exec(
        *command, "--port", "0", "--unixsocket", socket, stdout=subprocess.DEVNULL
    )

    async def started() -> bool:
        return socket.exists() or process.returncode is not None

    try:
        await eventually(started)
        with Redis(unix_socket_path=str(socket)) as probe:
            assert probe.execute_command("PING")
            with pytest.raises(NoPermissionError):
                probe.get("key")
        with Redis(unix_socket_path=str(socket), username="all", password="") as client:
            config: Any = client.config_get("maxmemory*", "appendonly")
    finally:
        process.terminate()
        await process.wait()

    assert config["maxmemory"] == str(256 * 2**20)
    assert config["maxmemory-policy"] == "noeviction"
    assert config["appendonly"] == "yes"
    assert redis["resources"]["limits"]["memory"] == "512Mi"
