"""The collector of traces takes what the units send, and each rule finds the faults it is for."""

from typing import Any

import pytest
import yaml

from chassis.telemetry import export
from deploy.tests.collector import Config, wrong_pipelines, wrong_traces
from deploy.tests.manifests import Manifest, of_kind, rendered

OVERLAYS = ("overlays/production", "overlays/verify")


def config(manifests: list[Manifest]) -> Config:
    """What the collector is started with."""
    (found,) = (
        each["data"]["collector-config.yaml"]
        for name, each in of_kind(manifests, "ConfigMap").items()
        if name.startswith("otel-collector-config-")
    )
    loaded: Config = yaml.safe_load(found)
    return loaded


@pytest.mark.parametrize("path", OVERLAYS)
def test_its_pipelines_name_what_it_has(path: str) -> None:
    assert wrong_pipelines(config(rendered(path))) == []


@pytest.mark.parametrize("path", OVERLAYS)
def test_what_units_and_peers_send_is_received_and_judged_whole(path: str) -> None:
    manifests = rendered(path)

    assert wrong_traces(config(manifests), manifests) == []
    # The rule is of gRPC, which is what units send.
    assert ".otlp.proto.grpc." in vars(export)["OTLPSpanExporter"].__module__


@pytest.mark.parametrize(
    ("place", "value", "found"),
    [
        ("service pipelines traces/judge exporters", ["debug"], "debug is used and not defined"),
        ("service pipelines traces/judge processors", ["tail_sampling"], "batch is not used"),
        ("service extensions", ["pprof"], "pprof is used and not defined"),
        ("receivers otlp protocols", {"http": {"endpoint": "0.0.0.0:4317"}}, "units reach no"),
        ("receivers otlp protocols grpc endpoint", "127.0.0.1:4317", "units reach no"),
        ("receivers otlp protocols grpc tls", {"cert_file": "x"}, "units reach no"),
        ("exporters loadbalancing resolver dns port", "4318", "collectors reach no"),
        ("exporters loadbalancing protocol otlp tls insecure", False, "collectors send by TLS"),
        ("exporters loadbalancing routing_key", "service", "judged in parts"),
        ("service pipelines traces/judge processors", ["memory_limiter"], "are not judged"),
        ("service pipelines traces/spread processors", ["k8sattributes"], "not limited first"),
    ],
)
def test_a_fault_of_its_configuration_is_found(place: str, value: Any, found: str) -> None:
    manifests = rendered("overlays/production")
    changed = config(manifests)
    *folders, last = place.split()
    inner: Any = changed
    for folder in folders:
        inner = inner[folder]
    inner[last] = value

    violations = wrong_pipelines(changed) + wrong_traces(changed, manifests)

    assert any(found in each for each in violations), violations


def test_an_endpoint_without_a_service_is_found() -> None:
    manifests = rendered("overlays/production")
    del of_kind(manifests, "Service")["otel-collector"]["spec"]["ports"][0]

    assert wrong_traces(config(manifests), manifests) == ["units reach no receiver"]
