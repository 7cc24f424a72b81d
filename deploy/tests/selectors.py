"""The rule of selectors: each selects what its author meant, and never nothing."""

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.tests.manifests import Manifest, of_kind
from deploy.tests.workloads import Workload, by_operator, selects, workloads

# The label that names one workload; other labels name a group.
NAME = "app.kubernetes.io/name"
# Pods that are a peer of others wherever they run, and in a rendering only where it includes them.
_ELSEWHERE = frozenset({"otel-collector", "migrate"})


def dangling_selectors(manifests: list[Manifest]) -> list[str]:
    """Selectors of Services, budgets, scalers, network policies and monitors that miss.

    One by name has to select exactly one workload, another one at least one. A NetworkPolicy may
    name several workloads; each has to be there.
    """
    running = workloads(manifests)
    violations = []
    for manifest in manifests:
        place = f"{manifest['kind']}/{manifest['metadata']['name']}"
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Service" if spec.get("selector"):
                found = _selected(running, {"matchLabels": spec["selector"]})
                violations += _unless(len(found) == 1, place, f"selects {found}")
            case "PodDisruptionBudget":
                found = _selected(running, spec["selector"])
                violations += _unless(len(found) == 1, place, f"selects {found}")
            case "HorizontalPodAutoscaler":
                violations += [f"{place}: {each}" for each in _unscaled(running, spec)]
            case "NetworkPolicy":
                violations += [f"{place}: {each}" for each in _unknown_pods(manifests, spec)]
            case "ServiceMonitor":
                services = of_kind(manifests, "Service").values()
                labelled = [each for each in services if selects(spec["selector"], _labels(each))]
                ports = {port["name"] for each in labelled for port in each["spec"]["ports"]}
                wanted = {endpoint["port"] for endpoint in spec["endpoints"]}
                violations += _unless(wanted <= ports, place, "selects no Service with its port")
            case "PodMonitor":
                found = _labelled(manifests, spec["selector"])
                violations += _unless(bool(found), place, "selects no pod")
    return violations


def _unscaled(running: list[Workload], spec: Mapping[str, Any]) -> list[str]:
    target = f"{spec['scaleTargetRef']['kind']}/{spec['scaleTargetRef']['name']}"
    named = [each for each in running if str(each) == target]
    if len(named) != 1:
        return [f"scales {target}, which is not there"]
    containers = {container["name"] for container in named[0].pod["containers"]}
    measured = {
        metric["containerResource"]["container"]
        for metric in spec["metrics"]
        if metric["type"] == "ContainerResource"
    }
    return [f"measures no container {each}" for each in sorted(measured - containers)]


def _unknown_pods(manifests: list[Manifest], spec: Mapping[str, Any]) -> Iterator[str]:
    peers = [
        peer["podSelector"]
        for side, of in (("ingress", "from"), ("egress", "to"))
        for rule in spec.get(side, [])
        for peer in rule.get(of, [])
        if "podSelector" in peer and "namespaceSelector" not in peer
    ]
    for selector in (spec["podSelector"], *peers):
        names = _names(selector)
        for name in names:
            found = _selected(workloads(manifests), {"matchLabels": {NAME: name}})
            if len(found) != 1 and name not in _ELSEWHERE:
                yield f"names {name}, which is {found}"
        if not names and selector and not _labelled(manifests, selector):
            yield f"selects nothing by {selector}"


def _names(selector: Mapping[str, Any]) -> list[str]:
    """The workloads that the selector names."""
    named = [selector["matchLabels"][NAME]] if NAME in selector.get("matchLabels", {}) else []
    for expression in selector.get("matchExpressions", []):
        if expression["key"] == NAME:
            named += expression["values"]
    return named


def _labelled(manifests: list[Manifest], selector: Mapping[str, Any]) -> list[str]:
    """What makes pods with such labels: workloads, and objects of an operator."""
    return _selected([*workloads(manifests), *by_operator(manifests)], selector)


def _selected(running: list[Workload], selector: Mapping[str, Any]) -> list[str]:
    return [str(each) for each in running if selects(selector, each.labels)]


def _labels(manifest: Manifest) -> Mapping[str, str]:
    labels: Mapping[str, str] = manifest["metadata"].get("labels", {})
    return labels


def _unless(right: bool, place: str, what: str) -> list[str]:
    return [] if right else [f"{place}: {what}"]
