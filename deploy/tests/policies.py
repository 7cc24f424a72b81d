"""Rules of the manifests, each a function over what an overlay renders to.

A rule returns one line per violation (`Kind/name: what`), none when the manifests are right. Rules
that kube-linter, Polaris or Kubescape have too are named after theirs.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING
from typing import Any

from chassis.settings import variables
from deploy import units
from deploy.tests.manifests import Manifest, of_kind
from deploy.tests.workloads import (
    Workload,
    environment,
    is_ours,
    selects,
    unit_of,
    workloads,
)

# Who calls the API server, and so has a token of it.
WITH_TOKEN = frozenset({"secrets-dev", "secrets-dev-renewal", "otel-collector", "prometheus"})
# Their pods are not kept running, so nothing probes them.
_RUN_TO_COMPLETION = frozenset({"Job", "CronJob"})
# Whose logs are files of the node: the namespace `logging` is outside of the restricted profile.
_READS_NODES = frozenset({"log-collector"})
_CLOSING_S = 10  # what is open: connections, logs

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_SECRET_NAMES = re.compile(
    r"PASSWORD|SECRET|TOKEN_|PEPPER|_KEYS?$|DATABASE(_REPLICA)?_URL|REDIS_URL"
)
# Settings and addresses whose names look like a secret's.
_NOT_SECRET = frozenset({"WS_QUERY_TOKEN"})
_SECRET_VALUES = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@|-----BEGIN|^\d+:[A-Za-z0-9_-]{43}$", re.MULTILINE
)

_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_VOLUMES = frozenset(
    "configMap emptyDir ephemeral persistentVolumeClaim projected secret downwardAPI".split()
)


def restricted(manifests: list[Manifest]) -> list[str]:
    """Pods outside the restricted profile, with a writable root or with root's uid."""
    violations = []
    for workload in workloads(manifests):
        if workload.name in _READS_NODES and workload.namespace == "logging":
            continue
        pod, context = workload.pod, workload.pod.get("securityContext", {})
        wrong = [key for key, value in _POD.items() if context.get(key) != value]
        wrong += [key for key in ("runAsUser", "runAsGroup", "fsGroup") if not context.get(key)]
        wrong += [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
        for volume in pod.get("volumes", []):
            wrong += [f"volume {kind}" for kind in set(volume) - {"name"} - _VOLUMES]
        for container in workload.containers:
            own, name = container.get("securityContext", {}), container["name"]
            ports = container.get("ports", [])
            wrong += [f"{name} {key}" for key, value in _CONTAINER.items() if own.get(key) != value]
            wrong += [
                f"{name} {key}"
                for key in own
                if key not in _CONTAINER and own[key] != context.get(key)
            ]
            wrong += [f"{name} hostPort" for port in ports if "hostPort" in port]
        violations += [f"{workload}: {each}" for each in wrong]
    return violations


def unset_requirements(manifests: list[Manifest]) -> list[str]:
    """Containers without requests or a limit of memory, or with a limit of CPU."""
    violations = []
    for workload, container in _containers(manifests):
        given = container.get("resources", {})
        requests, limits = given.get("requests", {}), given.get("limits", {})
        missing = [f"no request of {each}" for each in ("cpu", "memory") if each not in requests]
        missing += ["no limit of memory"] * ("memory" not in limits)
        missing += ["a limit of CPU"] * ("cpu" in limits)
        violations += [f"{workload}: {container['name']} has {each}" for each in missing]
    return violations


def missing_probes(manifests: list[Manifest]) -> list[str]:
    """Containers of servers without the three probes, or with one of a port that is not there."""
    violations = []
    for workload in workloads(manifests):
        if workload.kind in _RUN_TO_COMPLETION:
            continue
        for container in workload.running:
            ports = {port.get("name") for port in container.get("ports", [])}
            # One without a port is no server: that it runs is all that can be seen from outside.
            for name in () if not ports else ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container.get(name, {})
                port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                if not probe or (port is not None and port not in ports):
                    violations.append(f"{workload}: {container['name']} has no usable {name}")
    return violations


def default_service_account(manifests: list[Manifest]) -> list[str]:
    """Pods without a ServiceAccount of their own, or with a token that they have no use for."""
    accounts = of_kind(manifests, "ServiceAccount")
    used = Counter(workload.pod.get("serviceAccountName") for workload in workloads(manifests))
    violations = []
    for workload in workloads(manifests):
        account = workload.pod.get("serviceAccountName")
        if account not in accounts or (used[account] > 1 and workload.name not in WITH_TOKEN):
            violations.append(f"{workload}: {account} is no ServiceAccount of its own")
        has_token = workload.pod.get("automountServiceAccountToken", True)
        if has_token and workload.name not in WITH_TOKEN:
            violations.append(f"{workload}: has a token of the API server")
        if workload.pod.get("enableServiceLinks", True):
            violations.append(f"{workload}: has variables of every Service")
    return violations


def unpinned_images(manifests: list[Manifest]) -> list[str]:
    """Images of others without a digest, ours without a tag, `latest`, and pulls of every start."""
    violations = []
    for workload, container in _containers(manifests):
        image = container["image"]
        tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
        if not is_ours(image) and not _DIGEST.search(image):
            violations.append(f"{workload}: {image} has no digest")
        if tag in ("", "latest"):
            violations.append(f"{workload}: {image} has no version")
        if container.get("imagePullPolicy") != "IfNotPresent":
            violations.append(f"{workload}: {image} is pulled although it is there")
    return violations


def short_grace(manifests: list[Manifest]) -> list[str]:
    """Units killed before preStop, `DRAIN_S` and closing can have ended."""
    violations = []
    for workload, unit in _units(manifests):
        hook = workload.pod["containers"][0].get("lifecycle", {}).get("preStop", {})
        pre_stop_s = hook.get("sleep", {}).get("seconds", 0)
        given = environment(manifests, workload)
        drain_s = float(given.get("DRAIN_S", 30)) + float(given.get("DRAIN_PAUSE_S", 0))
        needed_s = pre_stop_s + drain_s + _CLOSING_S
        grace_s = workload.pod.get("terminationGracePeriodSeconds", 30)
        if not pre_stop_s:
            violations.append(f"{workload}: gets SIGTERM while it is in its Service")
        if grace_s < needed_s:
            violations.append(f"{workload}: {unit} needs {needed_s:g} s to end, has {grace_s}")
    return violations


def secrets_in_plain(manifests: list[Manifest]) -> list[str]:
    """Secrets in variables, ConfigMaps or Secrets of the repository."""
    violations = [f"Secret/{name}: is in the manifests" for name in of_kind(manifests, "Secret")]
    for name, config in of_kind(manifests, "ConfigMap").items():
        violations += _plain(f"ConfigMap/{name}", config.get("data", {}))
    for workload, container in _containers(manifests):
        given = container.get("env", [])
        plain = {each["name"]: each["value"] for each in given if "value" in each}
        violations += _plain(str(workload), plain)
        violations += [
            f"{workload}: {each['name']} is read from a Secret"
            for each in given
            if "secretKeyRef" in each.get("valueFrom", {})
        ]
        violations += [
            f"{workload}: takes its variables from a Secret"
            for source in container.get("envFrom", [])
            if "secretRef" in source
        ]
    return violations


def unspread(manifests: list[Manifest]) -> list[str]:
    """Units whose pods may all be in one zone or on one node."""
    violations = []
    for workload, _ in _units(manifests):
        keys = {
            constraint["topologyKey"]
            for constraint in workload.pod.get("topologySpreadConstraints", [])
            if selects(constraint["labelSelector"], workload.labels)
            and {"app.kubernetes.io/name", "pod-template-hash"} <= set(constraint["matchLabelKeys"])
        }
        wanted = {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        violations += [f"{workload}: is not spread over {key}" for key in sorted(wanted - keys)]
    return violations


def unread_settings(manifests: list[Manifest]) -> list[str]:
    """Keys of `<unit>-config` that the unit does not read, of scoreboard-config that none reads."""
    everyone = frozenset().union(*map(units.reads, units.UNITS))
    known = {"scoreboard": everyone, **{unit: units.reads(unit) for unit in units.UNITS}}
    violations = []
    for name, config in of_kind(manifests, "ConfigMap").items():
        owner = re.fullmatch(r"(\w+)-config(-\w+)?", name)
        if owner and owner[1] in known:
            violations += [
                f"ConfigMap/{name}: {key} is no setting"
                for key in config.get("data", {})
                if key.removesuffix("_FILE") not in known[owner[1]]
            ]
    return violations


def unset_settings(manifests: list[Manifest]) -> list[str]:
    """Units that lack a setting without a default, or whose files are of another Secret."""
    violations = []
    for workload, unit in _units(manifests):
        given = environment(manifests, workload)
        files = {name.upper() for name in (*units.keys(unit), *units.stores(unit))}
        required = {
            f"{variable.name}_FILE" if variable.name in files else variable.name
            for variable in variables(units.SETTINGS[unit])
            if variable.default is MISSING
        }
        violations += [f"{workload}: lacks {name}" for name in sorted(required - set(given))]
        violations += [
            f"{workload}: {name} names no mounted file"
            for name in sorted(given)
            if name.endswith("_FILE") and given[name] not in workload.files
        ]
        violations += [
            f"{workload}: mounts {secret}"
            for secrets in workload.files.values()
            for secret in secrets
            if secret not in (f"tls-{unit}", f"{unit}-keys", f"db-{unit}", f"redis-{unit}")
        ]
        if workload.files.get(f"{given.get('TLS_DIR')}/") != [f"tls-{unit}"]:
            violations.append(f"{workload}: TLS_DIR is not tls-{unit}")
    return violations


def wrong_ports(manifests: list[Manifest]) -> list[str]:
    """Ports of containers other than the process opens, and ports of Services that lead nowhere."""
    violations = []
    for workload, unit in _units(manifests):
        given = environment(manifests, workload)
        # Of the image, where the manifests do not say otherwise.
        own, ops = int(given.get("PORT", 50051)), int(given.get("OPS_PORT", 9100))
        opened = {port["name"]: port["containerPort"] for port in workload.ports}
        wanted = {"http" if unit == "gateway" else "grpc": own, "ops": ops}
        if opened != wanted:
            violations.append(f"{workload}: opens {wanted}, not {opened}")
    for name, service in of_kind(manifests, "Service").items():
        for port in service["spec"].get("ports", []):
            names = {
                each["name"]
                for workload in workloads(manifests)
                if selects({"matchLabels": service["spec"].get("selector")}, workload.labels)
                for each in workload.ports
            }
            if port.get("targetPort") not in names:
                violations.append(f"Service/{name}: port {port['name']} leads nowhere")
    return violations


def unreachable_targets(manifests: list[Manifest]) -> list[str]:
    """`…_TARGET`s that are not the port of the unit's headless Service, under its full name."""
    services = of_kind(manifests, "Service")
    violations = []
    for workload, _ in _units(manifests):
        for name, value in environment(manifests, workload).items():
            if not name.endswith("_TARGET"):
                continue
            other = name.removesuffix("_TARGET").lower()
            namespace = workload.namespace
            spec = services.get(other, {"spec": {}})["spec"]
            ports = [port["port"] for port in spec.get("ports", []) if port["name"] == "grpc"]
            # The dot at the end saves the look-ups of a search path.
            wanted = [f"dns:///{other}.{namespace}.svc.cluster.local.:{port}" for port in ports]
            if value not in wanted or spec.get("clusterIP") != "None":
                violations.append(f"{workload}: {name} leads to no headless Service")
    return violations


def waits_for_no_schema(manifests: list[Manifest]) -> list[str]:
    """Units with a schema that would start before it is there."""
    violations = []
    for workload, unit in _units(manifests):
        waiting = [
            container
            for container in workload.pod.get("initContainers", [])
            if container["command"]
            == ["python", "-m", "chassis.postgres", f"services/{unit}/migrations"]
            and container["image"] == workload.pod["containers"][0]["image"]
        ]
        if len(waiting) != ("database_url" in units.stores(unit)):
            violations.append(f"{workload}: does not wait for its schema, or has none")
    return violations


def duplicates(manifests: list[Manifest]) -> list[str]:
    """Objects that are there twice."""
    counts = Counter(
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in manifests
    )
    return [f"{kind}/{name}: is there twice" for (kind, _, name), n in counts.items() if n > 1]


def _containers(manifests: list[Manifest]) -> Iterator[tuple[Workload, dict[str, Any]]]:
    for workload in workloads(manifests):
        for container in workload.containers:
            yield workload, container


def _units(manifests: list[Manifest]) -> Iterator[tuple[Workload, str]]:
    for workload in workloads(manifests):
        if unit := unit_of(workload):
            yield workload, unit


def _plain(owner: str, values: dict[str, str]) -> list[str]:
    return [
        f"{owner}: {name} is or looks like a secret"
        for name, value in values.items()
        if name not in _NOT_SECRET
        and not name.endswith("_FILE")
        and (_SECRET_NAMES.search(name) or _SECRET_VALUES.search(value))
    ]
