"""Production keeps its rules, and each rule finds the faults that it is for."""

from collections.abc import Callable
from typing import Any

import pytest

from deploy.tests import edges, production
from deploy.tests.manifests import K8S, Manifest, of_kind, rendered
from deploy.tests.test_policies import plant

Rule = Callable[[list[Manifest]], list[str]]

# By rule, faults: the place, the path, the value, and what is found.
FAULTS: dict[Rule, list[tuple[str, str, Any, str]]] = {
    production.wrong_scaling: [
        ("HorizontalPodAutoscaler/scores", "spec behavior scaleDown tolerance", "571m", "from 31"),
        ("HorizontalPodAutoscaler/auth", "spec behavior scaleDown tolerance", "586m", "from 29"),
        ("HorizontalPodAutoscaler/auth", "spec behavior scaleUp tolerance", "100m", "to 77 %"),
        (
            "HorizontalPodAutoscaler/fraud",
            "spec behavior scaleUp stabilizationWindowSeconds",
            60,
            "each 300 s",
        ),
        ("HorizontalPodAutoscaler/gateway", "spec maxReplicas", 30, "2 to 20"),
        ("Deployment/scores", "spec replicas", 2, "reset its number"),
    ],
    production.blocking_budgets: [
        ("PodDisruptionBudget/scores", "spec maxUnavailable", 0, "may block"),
        ("PodDisruptionBudget/redis", "spec unhealthyPodEvictionPolicy", "REMOVED", "may block"),
        ("PodDisruptionBudget/auth", "kind", "Nothing", "auth: has no budget"),
        ("PodDisruptionBudget/redis", "kind", "Nothing", "redis: has no budget"),
    ],
    production.overcommitted_pools: [
        (
            "Pooler/postgres-pooler-rw",
            "spec pgbouncer parameters max_client_conn",
            "700",
            "a pooler",
        ),
        ("ConfigMap/scores-config", "data DATABASE_POOL_MAX", "50", "a pooler takes"),
        ("ConfigMap/fraud-config", "data DATABASE_POOL_MAX", "50", "a pooler takes"),
        ("Pooler/postgres-pooler-rw", "spec instances", 3, "poolers open"),
        ("Pooler/postgres-pooler-ro", "spec pgbouncer parameters typo", "1", "cannot set typo"),
        (
            "Pooler/postgres-pooler-rw",
            "spec pgbouncer parameters max_prepared_statements",
            "0",
            "prepared",
        ),
        (
            "Pooler/postgres-pooler-rw",
            "spec pgbouncer parameters default_pool_size",
            "21",
            "exceed",
        ),
    ],
    production.unmade_secrets: [
        ("ExternalSecret/db-scores", "kind", "Nothing", "none makes db-scores"),
        ("ExternalSecret/auth-keys", "spec data 0 secretKey", "signing_keys", "lacks signing_key"),
        ("ExternalSecret/redis-auth", "spec target template data", {}, "has no ['redis_url']"),
        ("Certificate/gateway", "spec secretName", "tls-edge", "none makes tls-gateway"),
    ],
    production.wrong_certificates: [
        ("Certificate/auth", "spec uris 0", "spiffe://scoreboard/gateway", "auth: uris"),
        ("Certificate/auth", "spec dnsNames 0", "auth.scoreboard.svc", "auth: dnsNames"),
        ("Certificate/auth", "spec privateKey rotationPolicy", "Never", "auth: privateKey"),
    ],
    production.wrong_stores: [
        (
            "ExternalSecret/db-auth",
            "spec target template data database_url",
            "postgresql://auth:x@postgres-rw.scoreboard:5432/scoreboard",
            "is at postgres-rw",
        ),
        (
            "ExternalSecret/redis-auth",
            "spec target template data redis_url",
            "redis+cluster://gateway:x@redis-0:6379",
            "another user",
        ),
        ("StatefulSet/redis", "spec replicas", 8, "other nodes"),
    ],
    production.wrong_redis_users: [
        (
            "ExternalSecret/redis-users",
            "spec target template data users.acl",
            "user auth on nopass ~* +@all",
            "lacks: user scores",
        ),
    ],
    production.short_grace_of_redis: [
        ("StatefulSet/redis", "POD terminationGracePeriodSeconds", 30, "needs 40 s"),
        ("StatefulSet/redis", "INIT restartPolicy", "REMOVED", "ends beside"),
    ],
    production.wrong_redis: [
        ("StatefulSet/redis", "spec podManagementPolicy", "OrderedReady", "six nodes"),
        ("StatefulSet/redis", "INIT resources limits memory", "3Gi", "three quarters"),
        ("Service/redis", "spec publishNotReadyAddresses", False, "before they are ready"),
        (
            "StatefulSet/redis",
            "POD affinity podAntiAffinity requiredDuringSchedulingIgnoredDuringExecution",
            [],
            "one a machine",
        ),
    ],
    production.wrong_edge: [
        ("HTTPRoute/public", "spec rules 0 timeouts request", "30s", "no deadline"),
        ("HTTPRoute/public", "spec rules 1 backendRefs 0 name", "scores", "to the gateway"),
        ("BackendTrafficPolicy/public", "spec healthCheck panicThreshold", 0, "health"),
        (
            "BackendTrafficPolicy/public",
            "spec timeout http connectionIdleTimeout",
            "50s",
            "two pings",
        ),
        ("Gateway/public", "spec listeners 0 protocol", "HTTP", "TLS"),
        ("Gateway/public", "spec listeners 0 hostname", "other.example.com", "one name"),
    ],
    production.wrong_postgres: [
        ("Cluster/postgres", "spec instances", 1, "three instances"),
        ("Cluster/postgres", "spec postgresql synchronous failoverQuorum", False, "on two"),
        ("Cluster/postgres", "spec managed roles 0 createrole", "REMOVED", "makes roles"),
        ("Cluster/postgres", "spec plugins 0 isWALArchiver", False, "archived"),
        ("ScheduledBackup/postgres", "spec schedule", "30 2 * * *", "backed up"),
        ("Pooler/postgres-pooler-rw", "spec pgbouncer poolMode", "session", "poolers"),
    ],
    # Of what only production has: Postgres and poolers by an operator, nodes of Redis, traces.
    edges.wrong_edges: [
        (
            "NetworkPolicy/postgres",
            "spec ingress 1 from 0",
            {"podSelector": {}},
            "auth -> postgres:5432",
        ),
        (
            "NetworkPolicy/postgres",
            "spec ingress 0 from 1",
            "REMOVED",
            "not allow cnpg -> postgres:8000",
        ),
        (
            "NetworkPolicy/postgres",
            "spec egress 1 ports",
            "REMOVED",
            "postgres -> stranger:1",
        ),
        (
            "NetworkPolicy/postgres-poolers",
            "spec ingress 0 from 0",
            {},
            "-> postgres-pooler-rw:5432",
        ),
        (
            "NetworkPolicy/postgres-poolers",
            "spec egress 0",
            "REMOVED",
            "postgres-pooler-ro -> postgres",
        ),
        (
            "NetworkPolicy/redis",
            "spec ingress 1",
            "REMOVED",
            "not allow redis -> redis:16379",
        ),
        (
            "NetworkPolicy/otel-collector",
            "spec ingress 0 ports",
            "REMOVED",
            "otel-collector:4316",
        ),
        (
            "NetworkPolicy/otel-collector",
            "spec egress 1",
            "REMOVED",
            "otel-collector -> prometheus",
        ),
        (
            "NetworkPolicy/allow-otlp",
            "spec egress",
            "REMOVED",
            "auth -> otel-collector:4317",
        ),
    ],
    production.unzoned: [
        (
            "Deployment/scores",
            "POD topologySpreadConstraints 0 whenUnsatisfiable",
            "ScheduleAnyway",
            "in one zone",
        ),
        ("Deployment/auth", "POD priorityClassName", "REMOVED", "no priority"),
        ("Deployment/fraud", "FIRST resources requests cpu", "100m", "requests"),
    ],
}


@pytest.mark.parametrize("rule", FAULTS, ids=lambda rule: rule.__name__)
def test_production_keeps(rule: Rule) -> None:
    assert rule(rendered("overlays/production")) == []


@pytest.mark.parametrize(
    ("rule", "fault"),
    [(rule, fault) for rule, faults in FAULTS.items() for fault in faults],
    ids=lambda value: value.__name__ if callable(value) else value[3],
)
def test_the_rule_finds(rule: Rule, fault: tuple[str, str, Any, str]) -> None:
    place, path, value, found = fault
    manifests = rendered("overlays/production")

    plant(manifests, place, path, value)

    assert any(found in violation for violation in rule(manifests))


@pytest.mark.parametrize(
    "rule", [production.wrong_scaling, production.unzoned], ids=lambda r: r.__name__
)
def test_verify_keeps(rule: Rule) -> None:
    assert rule(rendered("overlays/verify")) == []


def test_production_waits_for_migrations_that_are_applied_before_it() -> None:
    jobs = set(of_kind(rendered("overlays/production"), "Job"))

    assert jobs == {"redis-form"}
    assert set(of_kind(rendered("jobs/migrate"), "Job")) == {"migrate"}


def test_the_gateway_also_grows_by_its_sockets_where_that_is_switched_on() -> None:
    spec = of_kind(rendered("tests/connections"), "HorizontalPodAutoscaler")["gateway"]["spec"]

    assert [each["type"] for each in spec["metrics"]] == ["ContainerResource", "Pods"]
    assert spec["metrics"][1]["pods"] == {
        "metric": {"name": "live_sockets"},
        "target": {"type": "AverageValue", "averageValue": "5000"},
    }
    assert 'Gauge("live_sockets"' in (K8S.parents[1] / "gateway/live/handler.py").read_text()
