"""The manifests keep every rule, and each rule finds the faults that it is for."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.tests import edges, policies, selectors
from deploy.tests.manifests import K8S, Manifest, folders, rendered

Rule = Callable[[list[Manifest]], list[str]]

RULES: tuple[Rule, ...] = (
    policies.restricted,
    policies.unset_requirements,
    policies.missing_probes,
    policies.default_service_account,
    policies.unpinned_images,
    policies.short_grace,
    policies.secrets_in_plain,
    policies.unspread,
    policies.unread_settings,
    policies.unset_settings,
    policies.wrong_ports,
    policies.unreachable_targets,
    policies.waits_for_no_schema,
    policies.duplicates,
    selectors.dangling_selectors,
)
# Of the overlays, where nothing connects but what is drawn.
EDGE_RULES: tuple[Rule, ...] = (edges.wrong_edges, edges.undrawn_targets)

OVERLAYS = folders("overlays")
COMBINATIONS = folders("tests")


def test_the_overlays_are_those_of_the_readme() -> None:
    table = re.findall(r"^\| `(overlays/\w+)` \|", (K8S / "README.md").read_text(), re.MULTILINE)

    assert sorted(table) == OVERLAYS


@pytest.mark.parametrize("path", [*OVERLAYS, *COMBINATIONS])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_manifests_keep(rule: Rule, path: str) -> None:
    assert rule(rendered(path)) == []


@pytest.mark.parametrize("path", OVERLAYS)
@pytest.mark.parametrize("rule", EDGE_RULES, ids=lambda rule: rule.__name__)
def test_exactly_the_drawn_edges_connect(rule: Rule, path: str) -> None:
    assert rule(rendered(path)) == []


# Each is one change of overlays/dev; a rule without any fails here, by its name.
FAULTS = [
    (rule, fault)
    for rule in (*RULES, *EDGE_RULES)
    for fault in yaml.safe_load((Path(__file__).parent / "faults.yaml").read_text())[rule.__name__]
]


@pytest.mark.parametrize(
    ("rule", "fault"), FAULTS, ids=[f"{rule.__name__}: {fault[:2]}" for rule, fault in FAULTS]
)
def test_the_rule_finds(rule: Rule, fault: tuple[str, str, Any, str]) -> None:
    place, path, value, found = fault
    manifests = rendered("overlays/dev")

    plant(manifests, place, path, value)

    assert any(found in violation for violation in rule(manifests))


def plant(manifests: list[Manifest], place: str, path: str, value: Any) -> None:
    """Puts a value into a manifest, or with REMOVED takes one out."""
    for short, long in _SHORT.items():
        path = path.replace(short, long)
    inner: Any = next(each for each in manifests if _place(each) == place)
    *keys, last = (int(key) if key.isdigit() else key for key in path.split())
    for key in keys:
        inner = inner[key]
    if value == "REMOVED":
        del inner[last]
    elif last == "-":
        inner.append(value)
    else:
        inner[last] = value


_SHORT = {
    "POD": "spec template spec",
    "FIRST": "spec template spec containers 0",
    "INIT": "spec template spec initContainers 0",
}


def _place(manifest: Manifest) -> str:
    name = manifest["metadata"]["name"]
    if manifest["kind"] == "ConfigMap":
        name = name.rpartition("-")[0]
    place = f"{manifest['kind']}/{name}"
    namespace = manifest["metadata"].get("namespace", "scoreboard")
    return place if namespace == "scoreboard" else f"{namespace}/{place}"
