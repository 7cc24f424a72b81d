"""The manifests as a whole: they render the same each time, nothing is left over, settings arrive."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import databases, units
from deploy.tests.manifests import K8S, OVERLAYS, folders, of_kind, render, rendered, text
from deploy.tests.workloads import environment, unit_of, workloads


@pytest.mark.parametrize("path", [*folders("overlays"), *folders("tests"), "base", "jobs/migrate"])
def test_rendering_is_stable(path: str) -> None:
    assert render(K8S / path) == text(path)


def test_there_is_every_overlay_and_no_other() -> None:
    assert folders("overlays") == sorted(f"overlays/{name}" for name in OVERLAYS)


def test_every_file_is_part_of_an_overlay_or_of_a_combination_that_is_tested() -> None:
    reached: set[Path] = set()
    for path in (*folders("overlays"), *folders("tests"), "jobs/migrate"):
        _reach(K8S / path, reached)

    there = {path for path in K8S.rglob("*") if path.is_file() and path.suffix != ".md"}
    assert there - reached == set()


@pytest.mark.parametrize("path", folders("overlays"))
def test_the_namespace_comes_first(path: str) -> None:
    assert rendered(path)[0]["kind"] == "Namespace"


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


def test_secrets_dev_may_use_the_secrets_that_pods_mount_and_no_other() -> None:
    manifests = rendered("overlays/dev")
    rules = of_kind(manifests, "Role")["secrets-dev"]["rules"]
    mounted = {
        secret
        for workload in workloads(manifests)
        for volume in workload.pod.get("volumes", [])
        for secret in _secrets(volume)
    }

    allowed = {name for rule in rules for name in rule.get("resourceNames", [])}

    # The CA's own key is mounted nowhere.
    assert allowed == mounted | {"tls-ca"}
    assert [(rule["verbs"], "resourceNames" in rule) for rule in rules] == [
        (["create"], False),
        (["get", "update"], True),
    ]


def test_the_renewal_does_what_the_job_does() -> None:
    manifests = {each.name: each for each in workloads(rendered("overlays/dev"))}

    assert manifests["secrets-dev-renewal"].pod == manifests["secrets-dev"].pod


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
        "namespace": "scoreboard",
        "configMapGenerator": [
            {
                "name": name,
                "behavior": "merge",
                "literals": [f"{key}={value}" for key, value in values.items()],
            }
            for name, values in literals.items()
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return list(yaml.safe_load_all(render(folder)))


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


def _secrets(volume: dict[str, Any]) -> list[str]:
    sources = [
        source["secret"]["name"] for source in volume.get("projected", {}).get("sources", [])
    ]
    return sources + ([volume["secret"]["secretName"]] if "secret" in volume else [])
