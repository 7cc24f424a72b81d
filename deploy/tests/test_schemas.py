"""Every manifest against the schemas of Kubernetes and of the operators' kinds."""

import copy
import importlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from kubernetes_validate import utils

from deploy.tests.manifests import Manifest, folders, of_kind, rendered

VERSIONS = ("1.35", "1.36", "1.37")
PATHS = (*folders("overlays"), *folders("tests"), "jobs/migrate")

# It reads megabytes of schemas again for each manifest.
utils.schema_contents = cache(utils.schema_contents)

# The groups of kinds that Kubernetes itself has.
_CORE = ("", "apps", "autoscaling", "batch", "policy")
# Imported when a test needs one: each takes seconds.
_MODELS = (
    "cloudcoil.models.cert_manager.v1",
    "cloudcoil.models.prometheus_operator.v1",
    "cloudcoil.models.prometheus_operator.v1alpha1",
)
# Kinds without a package of their schemas: test_production.py holds their fields against what
# their documents say.
_BY_HAND = {
    "barmancloud.cnpg.io/v1": {"ObjectStore"},
    "external-secrets.io/v1": {"ExternalSecret"},
    "gateway.envoyproxy.io/v1alpha1": {"BackendTrafficPolicy"},
    "gateway.networking.k8s.io/v1": {"Gateway", "HTTPRoute"},
    "postgresql.cnpg.io/v1": {"Cluster", "Pooler", "ScheduledBackup"},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_kinds_of_kubernetes_fit_their_schemas(version: str) -> None:
    checked = [each for each in distinct() if is_core(each)]

    for manifest in checked:
        # The schema is of the version itself, not of an older one that the package has.
        assert kubernetes_validate.validate(manifest, version, strict=True) == version
    assert {"Deployment", "HorizontalPodAutoscaler"} < {each["kind"] for each in checked}


def test_kinds_of_operators_fit_their_schemas() -> None:
    checked = [
        each
        for each in distinct()
        if not is_core(each) and each["kind"] not in _BY_HAND.get(each["apiVersion"], ())
    ]

    for manifest in checked:
        check(manifest)
    assert {"Certificate", "PodMonitor", "PrometheusRule", "AlertmanagerConfig"} < {
        each["kind"] for each in checked
    }


@pytest.mark.parametrize(
    "path", [path for path in PATHS if path.rpartition("/")[2] in ("dev", "small", "verify")]
)
def test_what_a_bare_cluster_runs_has_no_kind_of_an_operator(path: str) -> None:
    assert [each["kind"] for each in rendered(path) if not is_core(each)] == []


def test_the_autoscalers_tolerance_is_refused_by_an_older_kubernetes() -> None:
    scaler = of_kind(rendered("overlays/production"), "HorizontalPodAutoscaler")["scores"]

    with pytest.raises(kubernetes_validate.ValidationError, match="tolerance"):
        kubernetes_validate.validate(scaler, "1.32", strict=True)


def test_a_field_that_is_misspelt_is_refused() -> None:
    deployment = of_kind(rendered("overlays/production"), "Deployment")["scores"]
    deployment["spec"]["template"]["spec"]["contaners"] = []

    with pytest.raises(kubernetes_validate.ValidationError, match="contaners"):
        kubernetes_validate.validate(deployment, "1.36", strict=True)


@pytest.mark.parametrize(
    ("kind", "name", "field"),
    [
        ("Certificate", "scores", "dnsName"),
        ("PodMonitor", "redis", "selectr"),
        ("PrometheusRule", "scoreboard", "group"),
        ("AlertmanagerConfig", "scoreboard", "routes"),
    ],
)
def test_a_misspelt_field_of_an_operators_kind_is_refused(kind: str, name: str, field: str) -> None:
    manifest = of_kind(rendered("overlays/production"), kind)[name]
    check(manifest)
    manifest["spec"][field] = ["scores"]

    with pytest.raises(jsonschema.ValidationError, match=field):
        check(manifest)


def distinct() -> list[Manifest]:
    """The manifests of every overlay and combination, each once."""
    return list({repr(each): each for path in PATHS for each in rendered(path)}.values())


def is_core(manifest: Manifest) -> bool:
    """Whether every Kubernetes has the kind."""
    group, slash, _ = manifest["apiVersion"].partition("/")
    core = not slash or group in _CORE
    return core or (group.endswith(".k8s.io") and not group.startswith("gateway."))


def check(manifest: Manifest) -> None:
    """Raises ValidationError, and KeyError for a kind that no schema is there for."""
    validator(manifest["apiVersion"], manifest["kind"]).validate(manifest)


@cache
def validator(version: str, kind: str) -> jsonschema.Draft202012Validator:
    """Of the schema of a kind, with fields that it does not name refused."""
    for models in _MODELS:
        model = getattr(importlib.import_module(models), kind, None)
        if model is not None and model.model_fields["api_version"].default == version:
            found: dict[str, Any] = copy.deepcopy(model.model_json_schema())
            for inner in objects(found):
                inner.setdefault("additionalProperties", False)
                for field in inner["properties"].values():
                    _without_patterns(field)
            return jsonschema.Draft202012Validator(found)
    raise KeyError(f"{version} {kind}")


def _without_patterns(field: dict[str, Any]) -> None:
    """Drops those with a flag in their middle, which Python's expressions have not."""
    for each in (field, *field.get("anyOf", [])):
        if "(?i)" in each.get("pattern", ""):
            del each["pattern"]


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object with properties, at any depth."""
    if isinstance(value, dict):
        if "properties" in value and value.get("type") == "object":
            yield value
        for inner in value.values():
            yield from objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner)
