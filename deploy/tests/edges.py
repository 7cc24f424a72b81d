"""What may connect to what: an evaluator of NetworkPolicies, and the edges that are drawn.

A connection is allowed where the source's egress and the target's ingress both allow it. A pod that
no policy selects for a direction is open in it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy import units
from deploy.tests.manifests import Manifest
from deploy.tests.policies import WITH_TOKEN
from deploy.tests.workloads import by_operator, environment, selects, unit_of, workloads
from protos.arrows import CALLERS

GRPC, HTTP, OPS, OTLP, DNS, HTTPS = 50051, 8080, 9100, 4317, 53, 443
POSTGRES, REDIS, REDIS_BUS, CNPG_STATUS = 5432, 6379, 16379, 8000
OTLP_PEERS, OTLP_METRICS = 4316, 8888
PROMETHEUS, ALERTMANAGER, SMTP = 9090, 9093, 587
EXPORTERS = {"redis": 9121, "instance": 9187, "pooler": 9127}
API_SERVER = (443, 6443, 8443)

OURS, MONITORING = "scoreboard", "monitoring"


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One end of a connection."""

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def of_namespace(self) -> Mapping[str, str]:
        """The namespace's labels; none of what is no pod."""
        if not self.namespace:
            return {}
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


@dataclass(frozen=True, order=True)
class Edge:
    """A TCP connection (UDP for 53) that is possible."""

    source: str
    target: str
    port: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}:{self.port}"


# What stands around our namespaces in every cluster, one of each kind.
OUTSIDERS = (
    Pod(name="dns", namespace="kube-system", labels={"k8s-app": "kube-dns"}),
    Pod(name="system", namespace="kube-system"),
    Pod(name="cnpg", namespace="cnpg-system"),
    Pod(name="prometheus", namespace=MONITORING),
    Pod(name="stranger", namespace="default"),
    # With every label of a pod of ours, in another namespace.
    Pod(
        name="double",
        namespace="other",
        labels={"app.kubernetes.io/name": "gateway", "app.kubernetes.io/component": "gateway"},
    ),
    Pod(name="edge", namespace="edge", namespace_labels={"scoreboard/edge": "true"}),
    # The API server is an address and no pod.
    Pod(name="api-server", namespace=""),
)


def allowed(manifests: list[Manifest], side: str) -> set[Edge]:
    """The edges that one side alone (Egress or Ingress) lets exist, over all pods and ports."""
    inside, outside = pods(manifests), _outsiders(manifests)
    ports = _ports(manifests)
    direction = ("ingress", "from") if side == "Ingress" else ("egress", "to")
    edges = set()
    for pod in inside:
        mine = [
            manifest["spec"]
            for manifest in manifests
            if manifest["kind"] == "NetworkPolicy"
            and manifest["metadata"]["namespace"] == pod.namespace
            and side in manifest["spec"]["policyTypes"]
            and selects(manifest["spec"]["podSelector"], pod.labels)
        ]
        rules = [rule for policy in mine for rule in policy.get(direction[0], [])]
        # A pod is its own peer too: another one of its workload.
        for peer in (*inside, *outside):
            matching = [rule for rule in rules if _matches(rule.get(direction[1]), peer, pod)]
            source, target = (pod, peer) if side == "Egress" else (peer, pod)
            edges |= {
                Edge(source.name, target.name, port)
                for port in ports
                if not mine or any(_opens(rule, port) for rule in matching)
            }
    return edges


def drawn(manifests: list[Manifest], side: str) -> set[Edge]:
    """The edges that one side has to allow: arrows, stores, DNS, traces, the control room."""
    inside = {pod.name: pod for pod in pods(manifests)}
    serving = [unit for unit in units.UNITS if unit in inside]
    edges = {
        Edge(caller, unit, GRPC)
        for unit, methods in CALLERS.items()
        for caller in frozenset[str]().union(*methods.values())
        if unit in serving
    }
    edges |= {Edge("edge", "gateway", HTTP) for unit in serving if unit == "gateway"}
    edges |= {Edge(name, "dns", DNS) for name in inside}
    edges |= _of_postgres(inside) | _of_redis(inside)
    edges |= _of_traces(manifests) if "otel-collector" in inside else set()
    edges |= _of_monitoring(manifests, side)
    return edges | _of_addresses(manifests) if side == "Egress" else edges


def wrong_edges(manifests: list[Manifest]) -> list[str]:
    """Edges that a side allows and that are not drawn, or the reverse."""
    here = {pod.name for pod in pods(manifests)}
    violations = []
    for side, end in (("Egress", "source"), ("Ingress", "target")):
        possible = allowed(manifests, side)
        wanted = {edge for edge in drawn(manifests, side) if getattr(edge, end) in here}
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


def pods(manifests: list[Manifest]) -> list[Pod]:
    """One pod of each workload, those of operators among them, and a newcomer of each namespace.

    A newcomer is a pod that someone starts there and that no rule was written for.
    """
    found = [
        Pod(name=each.name, namespace=each.namespace, labels=each.labels)
        for each in (*workloads(manifests), *by_operator(manifests))
    ]
    return found + [
        Pod(name="newcomer" if name == OURS else f"newcomer-{name}", namespace=name)
        for name in sorted({pod.namespace for pod in found})
    ]


def _outsiders(manifests: list[Manifest]) -> list[Pod]:
    """Those of OUTSIDERS that are no pod of the manifests themselves."""
    names = {pod.name for pod in pods(manifests)}
    return [pod for pod in OUTSIDERS if pod.name not in names]


def _using(inside: Mapping[str, Pod], url: str) -> list[str]:
    return [unit for unit in units.UNITS if unit in inside and url in units.stores(unit)]


def _storing(inside: Mapping[str, Pod], store: str) -> list[str]:
    return [pod.name for pod in inside.values() if pod.labels.get("scoreboard/store") == store]


def _of_postgres(inside: Mapping[str, Pod]) -> set[Edge]:
    """Units reach what has the label of the store; behind poolers, only these reach Postgres."""
    clients, stores = _using(inside, "database_url"), _storing(inside, "postgres")
    poolers = [name for name, pod in inside.items() if "cnpg.io/poolerName" in pod.labels]
    if not poolers:
        clients += [name for name in inside if name == "migrate"]
    edges = {Edge(client, store, POSTGRES) for client in clients for store in stores}
    for pooler in poolers:
        edges |= {
            Edge(pooler, "postgres", POSTGRES),
            Edge("postgres", "postgres", POSTGRES),
            Edge("postgres", "postgres", CNPG_STATUS),
            Edge("cnpg", "postgres", POSTGRES),
            Edge("cnpg", "postgres", CNPG_STATUS),
            Edge("prometheus", "postgres", EXPORTERS["instance"]),
            Edge("prometheus", pooler, EXPORTERS["pooler"]),
        }
    return edges


def _of_redis(inside: Mapping[str, Pod]) -> set[Edge]:
    clients = _using(inside, "redis_url")
    if "redis-form" not in inside:
        return {Edge(unit, each, REDIS) for unit in clients for each in _storing(inside, "redis")}
    edges = {Edge(name, "redis", REDIS) for name in (*clients, "redis-form", "redis")}
    return edges | {
        Edge("redis", "redis", REDIS_BUS),
        Edge("prometheus", "redis", EXPORTERS["redis"]),
    }


def _of_traces(manifests: list[Manifest]) -> set[Edge]:
    """From the units, among the collectors, and on to what stands in the namespace monitoring."""
    collector = "otel-collector"
    return {
        Edge(collector, collector, OTLP_PEERS),
        Edge("prometheus", collector, OTLP_METRICS),
        *(Edge(unit, collector, OTLP) for unit in units.UNITS),
        *(Edge(collector, name, OTLP) for name in _monitoring(manifests)),
    }


def _of_monitoring(manifests: list[Manifest], side: str) -> set[Edge]:
    """Prometheus to every unit, and what the control room's pods do among themselves."""
    inside = [pod.name for pod in pods(manifests)]
    # The units let in the whole namespace, in which only Prometheus gets out.
    scraping = _monitoring(manifests) if side == "Ingress" else ["prometheus"]
    edges = {Edge(name, unit, OPS) for name in scraping for unit in units.UNITS if unit in inside}
    if "grafana" in inside:
        edges |= {Edge("prometheus", "alertmanager", ALERTMANAGER)}
        edges |= {Edge("grafana", "prometheus", PROMETHEUS)}
    return edges


def _of_addresses(manifests: list[Manifest]) -> set[Edge]:
    """To what has an address alone: it may be anywhere, so all other namespaces are reached."""
    edges = set()
    for pod in pods(manifests):
        outside = [
            peer.name
            for peer in (*pods(manifests), *_outsiders(manifests))
            if peer.namespace != pod.namespace
        ]
        calls_api = pod.name in WITH_TOKEN or any(key.startswith("cnpg.io/") for key in pod.labels)
        ports: tuple[int, ...] = API_SERVER if calls_api else ()
        if pod.name == "alertmanager":
            ports = (HTTPS, SMTP)  # Of its receivers.
        edges |= {Edge(pod.name, name, port) for name in outside for port in ports}
    return edges


def _monitoring(manifests: list[Manifest]) -> list[str]:
    there = (*pods(manifests), *_outsiders(manifests))
    return [pod.name for pod in there if pod.namespace == MONITORING]


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
        is_near = selects(wanted["namespaceSelector"], peer.of_namespace)
    return is_near and selects(wanted.get("podSelector"), peer.labels)
