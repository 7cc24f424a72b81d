"""Rules of what production adds: scaling, budgets, pools, secrets, kinds without a schema.

As in policies.py, a rule returns one line per violation.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from chassis.settings import variables
from deploy import databases, redis_cluster, redis_users, units
from deploy.tests.manifests import Manifest, of_kind
from deploy.tests.workloads import environment, unit_of, workloads

_UP, _DOWN = 71, 29  # per cent: what is more than 70, and less than 30
_PODS = (2, 20)
_SURGE = 5  # a quarter of 20, while they are replaced
_OTHERS = 20  # connections beside the poolers': migrations, the operator, its exporter, a person
_SERVER_STOP_S, _CLOSING_S = 10, 10

# What the operator lets a Pooler set, of https://cloudnative-pg.io/docs/current/connection_pooling.
_PGBOUNCER = frozenset(
    "max_client_conn default_pool_size max_db_connections max_prepared_statements"
    " query_wait_timeout".split()
)


def wrong_scaling(manifests: list[Manifest]) -> list[str]:
    """Units without an autoscaler that acts from 71 % up and from 29 % down, and nowhere else."""
    scalers = of_kind(manifests, "HorizontalPodAutoscaler")
    deployments = of_kind(manifests, "Deployment")
    violations = [f"{unit}: has no autoscaler" for unit in units.UNITS if unit not in scalers]
    for name, scaler in scalers.items():
        spec = scaler["spec"]
        resource = spec["metrics"][0]["containerResource"]
        behavior, target = spec["behavior"], resource["target"]["averageUtilization"]
        acts = [
            per_cent
            for per_cent in range(201)
            if per_cent > target * (1 + _number(behavior["scaleUp"]["tolerance"]))
            or per_cent < target * (1 - _number(behavior["scaleDown"]["tolerance"]))
        ]
        if acts != [*range(_DOWN + 1), *range(_UP, 201)]:
            quiet = sorted(set(range(201)) - set(acts))
            violations.append(f"{name}: does nothing from {quiet[0]} to {quiet[-1]} %")
        for way, window_s in (("scaleUp", 300), ("scaleDown", 600)):
            wanted = {
                "tolerance": behavior[way]["tolerance"],
                "stabilizationWindowSeconds": window_s,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": window_s}],
            }
            if behavior[way] != wanted:
                violations.append(f"{name}: {way} is not one pod each {window_s} s")
        if resource["name"] != "cpu" or (spec["minReplicas"], spec["maxReplicas"]) != _PODS:
            violations.append(f"{name}: is not 2 to 20 pods by CPU")
        if "replicas" in deployments.get(name, {}).get("spec", {}):
            violations.append(f"{name}: an apply would reset its number of pods")
    return violations


def blocking_budgets(manifests: list[Manifest]) -> list[str]:
    """Units and stores of several pods without a budget, and budgets that may block a drain."""
    budgets = of_kind(manifests, "PodDisruptionBudget")
    many = set(units.UNITS) | {
        each["metadata"]["name"]
        for each in of_kind(manifests, "StatefulSet", "Deployment").values()
        if each["spec"].get("replicas", 1) > 1
    }
    violations = [f"{name}: has no budget" for name in sorted(many - set(budgets))]
    for name, budget in budgets.items():
        spec = {key: value for key, value in budget["spec"].items() if key != "selector"}
        if spec != {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}:
            violations.append(f"{name}: may block a drain")
    return violations


def overcommitted_pools(manifests: list[Manifest]) -> list[str]:
    """More connections than a pooler takes of units, or than Postgres takes of poolers."""
    poolers = of_kind(manifests, "Pooler")
    pools = {name: pooler["spec"]["pgbouncer"]["parameters"] for name, pooler in poolers.items()}
    most = {each.name: _connections(manifests, each) for each in workloads(manifests)}
    wanted = sum(most.values())
    violations = []
    # One of the instances has to do for all, should it be the only one left.
    room = int(pools["postgres-pooler-rw"]["max_client_conn"])
    if wanted > room:
        violations.append(f"units open {wanted} connections, a pooler takes {room}")
    for name, pool in pools.items():
        roles = len(databases.UNITS) if name.endswith("-rw") else 1
        if int(pool["default_pool_size"]) * roles > int(pool["max_db_connections"]):
            violations.append(f"{name}: pools of its roles exceed max_db_connections")
        if int(pool["max_prepared_statements"]) <= 0:
            violations.append(f"{name}: has no prepared statements, which asyncpg makes")
        violations += [f"{name}: cannot set {each}" for each in pool if each not in _PGBOUNCER]
    made = sum(
        pooler["spec"]["instances"] * int(pools[name]["max_db_connections"])
        for name, pooler in poolers.items()
    )
    cluster = of_kind(manifests, "Cluster")["postgres"]["spec"]
    room = int(cluster["postgresql"]["parameters"]["max_connections"])
    if made + _OTHERS > room:
        violations.append(f"poolers open {made} connections, and {_OTHERS} more: of {room}")
    return violations


def unmade_secrets(manifests: list[Manifest]) -> list[str]:
    """Secrets and keys of them that a pod mounts and nothing makes."""
    made = dict(_made(manifests))
    violations = []
    for workload in workloads(manifests):
        for volume in workload.pod.get("volumes", []):
            sources = [
                each.get("secret") for each in volume.get("projected", {}).get("sources", [])
            ]
            if "secret" in volume:
                sources.append({**volume["secret"], "name": volume["secret"]["secretName"]})
            for source in filter(None, sources):
                keys = {item["key"] for item in source.get("items", [])}
                missing = keys - made.get(source["name"], set())
                if source["name"] not in made:
                    violations.append(f"{workload}: none makes {source['name']}")
                elif missing and not source.get("optional"):
                    violations.append(f"{workload}: {source['name']} has no {sorted(missing)}")
    for unit in units.UNITS:
        lacking = set(units.keys(unit)) - made.get(f"{unit}-keys", set())
        violations += [f"{unit}-keys: lacks {key}" for key in sorted(lacking)]
    return violations


def wrong_certificates(manifests: list[Manifest]) -> list[str]:
    """Units without a certificate of their own identity, renewed with a new key."""
    certificates = of_kind(manifests, "Certificate")
    violations = []
    for unit in units.UNITS:
        spec = certificates.get(unit, {}).get("spec", {})
        wanted = {
            "secretName": f"tls-{unit}",
            "uris": [f"spiffe://scoreboard/{unit}"],
            "dnsNames": [unit],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "usages": ["digital signature", "server auth", "client auth"],
            "issuerRef": {"kind": "Issuer", "name": "scoreboard"},
        }
        wrong = [key for key, value in wanted.items() if spec.get(key) != value]
        violations += [f"{unit}: {key} of its certificate" for key in wrong]
    return violations


def wrong_stores(manifests: list[Manifest]) -> list[str]:
    """URLs that name another user or server than the unit's."""
    poolers, nodes = of_kind(manifests, "Pooler"), _redis_nodes(manifests)
    hosts = {"rw": "postgres-pooler-rw", "ro": "postgres-pooler-ro"}
    violations = []
    for name, secret in of_kind(manifests, "ExternalSecret").items():
        template = secret["spec"].get("target", {}).get("template", {}).get("data", {})
        kind, _, user = name.partition("-")
        for key, url in template.items():
            user_of = {"owner": "scoreboard"}.get(user, user)
            if key == "redis_url" and url.partition("@")[2].split(",") != nodes:
                violations.append(f"{name}: names other nodes than there are")
            if key.endswith("_url") and f"//{user_of}:" not in url:
                violations.append(f"{name}: {key} is of another user")
            if kind == "db":
                host = url.partition("@")[2].partition(".")[0]
                wanted = hosts["ro" if key == "database_replica_url" else "rw"]
                if host != wanted or host not in poolers:
                    violations.append(f"{name}: {key} is at {host}")
    return violations


def wrong_redis_users(manifests: list[Manifest]) -> list[str]:
    """Users of Redis with other rights than deploy/redis_users.py gives the units."""
    template = of_kind(manifests, "ExternalSecret")["redis-users"]["spec"]["target"]["template"]
    passwords = {unit: f"password-of-{unit}" for unit in redis_users.UNITS}
    lines = filled(template["data"]["users.acl"], passwords).splitlines()
    wanted = redis_users.acl(passwords).splitlines()
    return [f"lacks: {line}" for line in wanted if line not in lines]


def short_grace_of_redis(manifests: list[Manifest]) -> list[str]:
    """Nodes of Redis that are killed before they have handed over and ended."""
    pod = of_kind(manifests, "StatefulSet")["redis"]["spec"]["template"]["spec"]
    conf = _redis_conf(manifests)
    stop_s = int(conf["shutdown-timeout"])
    needed_s = redis_cluster.HAND_OVER_S + stop_s + _CLOSING_S
    violations = []
    if pod["terminationGracePeriodSeconds"] < needed_s:
        violations.append(f"redis: needs {needed_s:g} s to end")
    # As a sidecar the server gets SIGTERM when the others have ended.
    if [each.get("restartPolicy") for each in pod["initContainers"]] != ["Always"]:
        violations.append("redis: the server ends beside the one that hands over")
    return violations


def wrong_redis(manifests: list[Manifest]) -> list[str]:
    """A cluster that loses what it has, drops keys, or has two nodes on one machine."""
    stateful = of_kind(manifests, "StatefulSet")["redis"]["spec"]
    service = of_kind(manifests, "Service")["redis"]["spec"]
    pod, conf = stateful["template"]["spec"], _redis_conf(manifests)
    limit = _bytes(pod["initContainers"][0]["resources"]["limits"]["memory"])
    anti = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    right = {
        "six nodes at once": (stateful["replicas"], stateful["podManagementPolicy"])
        == (6, "Parallel"),
        "names before they are ready": service.get("publishNotReadyAddresses") is True
        and service["clusterIP"] == "None",
        "names for clients": conf["cluster-preferred-endpoint-type"] == "hostname",
        "three quarters of the memory": _bytes(conf["maxmemory"].upper()) * 4 == limit * 3,
        "no key dropped": conf["maxmemory-policy"] == "noeviction",
        "a second of writes at most": (conf["appendonly"], conf["appendfsync"])
        == ("yes", "everysec"),
        "served without full coverage": conf["cluster-require-full-coverage"] == "no",
        "one a machine": [each["topologyKey"] for each in anti] == ["kubernetes.io/hostname"],
    }
    return [f"redis: {what}" for what, holds in right.items() if not holds]


def wrong_edge(manifests: list[Manifest]) -> list[str]:
    """Sockets with a deadline, a way around the gateway, a health check that takes all out.

    Fields: https://gateway-api.sigs.k8s.io/reference/spec (HTTPRouteTimeouts: 0s disables) and
    https://gateway.envoyproxy.io/docs/api/extension_types (HealthCheck, ActiveHealthCheck).
    """
    route = of_kind(manifests, "HTTPRoute")["public"]["spec"]
    policy = of_kind(manifests, "BackendTrafficPolicy")["public"]["spec"]
    gateway = of_kind(manifests, "Gateway")["public"]["spec"]
    secrets = {each["spec"]["secretName"] for each in of_kind(manifests, "Certificate").values()}
    rules = {rule["matches"][0]["path"]["value"]: rule for rule in route["rules"]}
    check, listeners = policy["healthCheck"], gateway["listeners"]
    idle_s = int(policy["timeout"]["http"]["connectionIdleTimeout"].removesuffix("s"))
    settings = {each.name: each.default for each in variables(units.SETTINGS["gateway"])}
    active = {**check["active"], "http": check["active"]["http"]["path"]}
    wanted = {"type": "HTTP", "http": "/health", "interval": "5s", "unhealthyThreshold": 3}
    right = {
        "sockets have no deadline": rules["/ws"]["timeouts"]
        == {"request": "0s", "backendRequest": "0s"},
        "requests have one": rules["/"]["timeouts"].get("request") not in (None, "0s"),
        "all goes to the gateway": [r["backendRefs"] for r in route["rules"]]
        == [[{"name": "gateway", "port": 80}]] * len(route["rules"]),
        "idle for two pings": idle_s > 2 * settings["LIVE_PING_S"],
        "health": wanted.items() <= active.items() and check["panicThreshold"] == 50,
        "TLS": all(
            each["protocol"] == "HTTPS" and each["tls"]["certificateRefs"][0]["name"] in secrets
            for each in listeners
        ),
        "one name": {each["hostname"] for each in listeners} == set(route["hostnames"]),
        "of this route": policy["targetRefs"][0]["name"] == "public",
    }
    return [f"edge: {what}" for what, holds in right.items() if not holds]


def wrong_postgres(manifests: list[Manifest]) -> list[str]:
    """A cluster that may lose a commit, or has no backup.

    Fields: https://cloudnative-pg.io/docs/current/replication (synchronous, failoverQuorum),
    …/declarative_role_management, https://cloudnative-pg.io/plugin-barman-cloud/docs/usage.
    """
    spec = of_kind(manifests, "Cluster")["postgres"]["spec"]
    stores = of_kind(manifests, "ObjectStore")
    backup = of_kind(manifests, "ScheduledBackup")["postgres"]["spec"]
    owner = spec["bootstrap"]["initdb"]
    (plugin,) = [each for each in spec["plugins"] if each.get("isWALArchiver")] or [{}]
    role = {"name": owner["owner"], "ensure": "present", "login": True, "createrole": True}
    right = {
        "three instances": spec["instances"] == 3 and spec["enablePDB"],
        "a commit is on two": spec["postgresql"]["synchronous"]
        == {"method": "any", "number": 1, "dataDurability": "required", "failoverQuorum": True},
        "in other zones": (
            spec["affinity"]["podAntiAffinityType"],
            spec["affinity"]["topologyKey"],
        )
        == ("required", "topology.kubernetes.io/zone"),
        "the owner makes roles": [
            {**role, "passwordSecret": owner["secret"]},
        ]
        == spec["managed"]["roles"],
        "its log is archived": plugin.get("parameters", {}).get("barmanObjectName") in stores,
        "it is backed up": backup["method"] == "plugin"
        and backup["pluginConfiguration"]["name"] == plugin.get("name")
        and backup["cluster"]["name"] == "postgres"
        and len(backup["schedule"].split()) == 6,
        "poolers of it": {
            (name, each["spec"]["type"], each["spec"]["pgbouncer"]["poolMode"])
            for name, each in of_kind(manifests, "Pooler").items()
        }
        == {(f"postgres-pooler-{way}", way, "transaction") for way in ("rw", "ro")},
    }
    return [f"postgres: {what}" for what, holds in right.items() if not holds]


def unzoned(manifests: list[Manifest]) -> list[str]:
    """Units that may stand in one zone, before others' pods, or with less than a CPU each."""
    classes = of_kind(manifests, "PriorityClass")
    violations = []
    for workload in workloads(manifests):
        if unit := unit_of(workload):
            memory = "512Mi" if unit == "gateway" else "384Mi"
            given = workload.pod["containers"][0]["resources"]
            hard = {
                each["topologyKey"]
                for each in workload.pod["topologySpreadConstraints"]
                if each["whenUnsatisfiable"] == "DoNotSchedule" and each["maxSkew"] == 1
            }
            if hard != {"topology.kubernetes.io/zone"}:
                violations.append(f"{unit}: its pods may be in one zone")
            if workload.pod.get("priorityClassName") not in classes:
                violations.append(f"{unit}: has no priority")
            if given["requests"] != {"cpu": "1", "memory": memory}:
                violations.append(f"{unit}: requests {given['requests']}")
            if _bytes(given["limits"]["memory"]) != 2 * _bytes(memory):
                violations.append(f"{unit}: its limit is not twice its request")
    return violations


def filled(template: str, values: Mapping[str, str]) -> str:
    """What External Secrets makes of a template, as far as ours go."""
    digests = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in values.items()}
    for name, value in values.items():
        template = template.replace(f"{{{{ .{name} | sha256sum }}}}", digests[name])
        template = re.sub(rf"{{{{ \.{name}( \| urlquery)? }}}}", value, template)
    return template


def _connections(manifests: list[Manifest], workload: Any) -> int:
    """The most that all pods of a unit open to the primary."""
    unit = unit_of(workload)
    if unit not in databases.UNITS:
        return 0
    default = next(
        each.default for each in variables(units.SETTINGS[unit]) if each.name == "DATABASE_POOL_MAX"
    )
    given = environment(manifests, workload).get("DATABASE_POOL_MAX", default)
    return (_PODS[1] + _SURGE) * int(given)


def _made(manifests: list[Manifest]) -> Iterator[tuple[str, set[str]]]:
    for name, secret in of_kind(manifests, "ExternalSecret").items():
        spec = secret["spec"]
        template = spec.get("target", {}).get("template", {}).get("data", {})
        yield name, {each["secretKey"] for each in spec.get("data", [])} | set(template)
    for certificate in of_kind(manifests, "Certificate").values():
        yield certificate["spec"]["secretName"], {"tls.crt", "tls.key", "ca.crt"}


def _redis_nodes(manifests: list[Manifest]) -> list[str]:
    spec = of_kind(manifests, "StatefulSet")["redis"]["spec"]
    return [
        f"redis-{n}.{spec['serviceName']}.scoreboard.svc.cluster.local:6379"
        for n in range(spec["replicas"])
    ]


def _redis_conf(manifests: list[Manifest]) -> dict[str, str]:
    configs = of_kind(manifests, "ConfigMap")
    text = next(each["data"] for name, each in configs.items() if name.startswith("redis-conf"))
    lines = [line.split(maxsplit=1) for line in text["redis.conf"].splitlines()]
    return {words[0]: words[1] for words in lines if words and not words[0].startswith("#")}


def _number(quantity: str) -> Fraction:
    if quantity.endswith("m"):
        return Fraction(int(quantity[:-1]), 1000)
    return Fraction(quantity)


def _bytes(quantity: str) -> int:
    units_ = {"Mi": 2**20, "Gi": 2**30, "MB": 2**20, "GB": 2**30}
    return math.floor(int(quantity[:-2]) * units_[quantity[-2:]])
