"""What may connect to what: an evaluator of NetworkPolicies, and the edges that are drawn.

A connection is allowed where the source's egress and the target's ingress both allow it. A pod that
no policy selects for a direction is open in it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy import units
from deploy.tests.manifests import Manifest
from deploy.tests.workloads import environment, selects, unit_of, workloads
from protos.arrows import CALLERS

GRPC, HTTP, OPS, OTLP, EXPORTER = 50051, 8080, 9100, 4317, 9121
API_SERVER = (443, 6443, 8443)
STORES = {"postgres": ("database_url", 5432), "redis": ("redis_url", 6379)}


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One end of a connection."""

    name: str
    namespace: Mapping[str, str]  # the namespace's labels
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Edge:
    """A TCP connection (UDP for 53) that is possible."""

    source: str
    target: str
    port: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}:{self.port}"


def _outsider(name: str, *, namespace: str, **labels: str) -> Pod:
    return Pod(
        name=name,
        namespace={"kubernetes.io/metadata.name": namespace},
        labels={key.replace("_", "-"): value for key, value in labels.items()},
    )


# What stands around the namespace in every cluster, one of each kind.
OUTSIDERS = (
    _outsider("dns", namespace="kube-system", k8s_app="kube-dns"),
    _outsider("system", namespace="kube-system"),
    _outsider("prometheus", namespace="monitoring"),
    _outsider("stranger", namespace="default"),
    # With every label of a pod of ours, in another namespace.
    Pod(
        name="double",
        namespace={"kubernetes.io/metadata.name": "other"},
        labels={"app.kubernetes.io/name": "gateway", "app.kubernetes.io/component": "gateway"},
    ),
    Pod(name="edge", namespace={"kubernetes.io/metadata.name": "edge", "scoreboard/edge": "true"}),
)
# A pod that someone starts in the namespace and that no rule was written for.
NEWCOMER = Pod(name="newcomer", namespace={"kubernetes.io/metadata.name": "scoreboard"})
# The API server is an address and no pod.
API = Pod(name="api-server", namespace={})


def allowed(manifests: list[Manifest], side: str, namespace: str = "scoreboard") -> set[Edge]:
    """The edges that one side alone (Egress or Ingress) lets exist, over all pods and ports."""
    policies = [
        each["spec"]
        for each in manifests
        if each["kind"] == "NetworkPolicy" and each["metadata"].get("namespace") == namespace
    ]
    inside, ports = pods(manifests, namespace), _ports(manifests)
    direction = ("ingress", "from") if side == "Ingress" else ("egress", "to")
    edges = set()
    for pod in inside:
        mine = [
            policy
            for policy in policies
            if side in policy["policyTypes"] and selects(policy["podSelector"], pod.labels)
        ]
        rules = [rule for policy in mine for rule in policy.get(direction[0], [])]
        for peer in (*inside, *OUTSIDERS, API):
            if peer == pod:
                continue
            matching = [rule for rule in rules if _matches(rule.get(direction[1]), peer, pod)]
            source, target = (pod, peer) if side == "Egress" else (peer, pod)
            edges |= {
                Edge(source.name, target.name, port)
                for port in ports
                if not mine or any(_opens(rule, port) for rule in matching)
            }
    return edges


def drawn(manifests: list[Manifest], namespace: str = "scoreboard") -> set[Edge]:
    """The edges that there have to be: arrows, stores, probes of Prometheus, DNS, the edge."""
    inside = {pod.name: pod for pod in pods(manifests, namespace)}
    serving = [unit for unit in units.UNITS if unit in inside]
    edges = {
        Edge(caller, unit, GRPC)
        for unit, methods in CALLERS.items()
        for caller in frozenset[str]().union(*methods.values())
    }
    for store, (file, port) in STORES.items():
        clients = [unit for unit in serving if file in units.stores(unit)]
        clients += [name for name in inside if name == "migrate" and store == "postgres"]
        holding = [
            pod.name for pod in inside.values() if pod.labels.get("scoreboard/store") == store
        ]
        clients += [name for name in inside if name == "redis-form" and store == "redis"]
        edges |= {Edge(client, name, port) for client in clients for name in holding}
        # Its exporter, where it has one.
        edges |= {Edge("prometheus", name, EXPORTER) for name in holding if "redis-form" in inside}
    edges |= {Edge("edge", "gateway", HTTP)}
    edges |= {Edge("prometheus", unit, OPS) for unit in serving}
    edges |= {Edge(name, "dns", 53) for name in inside}
    edges |= {Edge(unit, "otel-collector", OTLP) for unit in serving if "otel-collector" in inside}
    # An address of the API server may be any, so those outside are reached on its ports too.
    edges |= {
        Edge(name, outside.name, port)
        for name in inside
        if name.startswith("secrets-dev")
        for outside in (*OUTSIDERS, API)
        for port in API_SERVER
    }
    return edges


def wrong_edges(manifests: list[Manifest]) -> list[str]:
    """Edges that a side allows and that are not drawn, or the reverse, of the pods drawn here."""
    here = {*units.UNITS, "migrate", "postgres", "redis", "redis-form"}
    here |= {"secrets-dev", "secrets-dev-renewal"}
    inside = {pod.name for pod in pods(manifests, "scoreboard")}
    here = here & inside | {NEWCOMER.name}
    violations = []
    for side, end in (("Egress", "source"), ("Ingress", "target")):
        possible = {edge for edge in allowed(manifests, side) if getattr(edge, end) in here}
        wanted = {edge for edge in drawn(manifests) if getattr(edge, end) in here}
        violations += [f"{side} allows {edge}" for edge in sorted(possible - wanted)]
        violations += [f"{side} does not allow {edge}" for edge in sorted(wanted - possible)]
    return violations


def undrawn_targets(manifests: list[Manifest]) -> list[str]:
    """`…_TARGET`s without an edge that both sides allow, and edges between units without one."""
    targets = {
        Edge(unit, name.removesuffix("_TARGET").lower(), GRPC)
        for workload in workloads(manifests)
        if (unit := unit_of(workload))
        for name in environment(manifests, workload)
        if name.endswith("_TARGET")
    }
    edges = {
        edge
        for edge in allowed(manifests, "Egress") & allowed(manifests, "Ingress")
        if {edge.source, edge.target} <= set(units.UNITS) and edge.port == GRPC
    }
    return [
        *(f"no policy allows {edge}" for edge in sorted(targets - edges)),
        *(f"no target is set for {edge}" for edge in sorted(edges - targets)),
    ]


def pods(manifests: list[Manifest], namespace: str) -> list[Pod]:
    """One pod of each workload of the namespace, and NEWCOMER."""
    return [
        NEWCOMER,
        *(
            Pod(
                name=each.name,
                namespace=NEWCOMER.namespace,
                labels=each.labels,
            )
            for each in workloads(manifests)
            if each.namespace == namespace
        ),
    ]


def _ports(manifests: list[Manifest]) -> list[int]:
    """All that a policy or a container names, and one that none names."""
    named = {port["containerPort"] for each in workloads(manifests) for port in each.ports}
    for manifest in manifests:
        if manifest["kind"] == "NetworkPolicy":
            named |= set(_named(manifest["spec"]))
    return sorted(named | {1})


def _named(spec: Mapping[str, Any]) -> Iterator[int]:
    for side in ("ingress", "egress"):
        for rule in spec.get(side, []):
            for port in rule.get("ports", []):
                if not isinstance(port["port"], int) or "endPort" in port:
                    raise ValueError(f"cannot evaluate {port}")
                yield port["port"]


def _opens(rule: Mapping[str, Any], port: int) -> bool:
    return "ports" not in rule or port in {each["port"] for each in rule["ports"]}


def _matches(peers: list[Any] | None, peer: Pod, own: Pod) -> bool:
    """Whether a rule of `own` is about the peer; one without peers is about everyone."""
    return not peers or any(_is(each, peer, own) for each in peers)


def _is(wanted: Mapping[str, Any], peer: Pod, own: Pod) -> bool:
    if "ipBlock" in wanted:
        # Policies of addresses are made for what is outside of the cluster's namespace.
        return peer.namespace != own.namespace
    if not peer.namespace:
        return False
    if "namespaceSelector" not in wanted:
        is_near = peer.namespace == own.namespace
    else:
        is_near = selects(wanted["namespaceSelector"], peer.namespace)
    return is_near and selects(wanted.get("podSelector"), peer.labels)
