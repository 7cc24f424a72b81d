"""What manifests run: pods, their labels, what their processes get."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy import units
from deploy.tests.manifests import Manifest, of_kind

_KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One object that makes pods."""

    kind: str
    name: str
    namespace: str
    labels: Mapping[str, str]  # of its pods
    pod: dict[str, Any]  # the pods' specification

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All of them, the initial ones first."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def running(self) -> list[dict[str, Any]]:
        """Those that run as long as the pod does, sidecars among them."""
        initial = self.pod.get("initContainers", [])
        sidecars = [each for each in initial if each.get("restartPolicy") == "Always"]
        return [*self.pod["containers"], *sidecars]

    @property
    def ports(self) -> list[dict[str, Any]]:
        """Those that the containers open."""
        return [port for each in self.running for port in each.get("ports", [])]

    @property
    def files(self) -> dict[str, list[str]]:
        """The Secrets behind each mounted path of the first container.

        A path that ends in `/` is a folder with all keys of its Secret, another one a file.
        """
        volumes = {volume["name"]: volume for volume in self.pod.get("volumes", [])}
        found: dict[str, list[str]] = {}
        for mount in self.pod["containers"][0].get("volumeMounts", []):
            volume, path = volumes.get(mount["name"], {}), mount["mountPath"]
            projected = volume.get("projected", {}).get("sources", [])
            sources = [each["secret"] for each in projected if "secret" in each]
            if "secret" in volume:
                sources.append({**volume["secret"], "name": volume["secret"]["secretName"]})
            for source in sources:
                items = source.get("items")
                for name in [item["path"] for item in items] if items else self._keys(source):
                    found.setdefault(f"{path}/{name}", []).append(source["name"])
        return found

    def _keys(self, source: Mapping[str, Any]) -> list[str]:
        """The keys that a Secret mounted whole brings; `""` is the folder itself."""
        keys = units.keys(self.name) if source["name"] == f"{self.name}-keys" else ()
        return ["", *keys]


def workloads(manifests: list[Manifest]) -> list[Workload]:
    """All that make pods."""
    found = []
    for manifest in manifests:
        if manifest["kind"] not in _KINDS:
            continue
        spec = manifest["spec"]
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        found.append(
            Workload(
                kind=manifest["kind"],
                name=manifest["metadata"]["name"],
                namespace=manifest["metadata"].get("namespace", "default"),
                labels=spec["template"]["metadata"].get("labels", {}),
                pod=spec["template"]["spec"],
            )
        )
    return found


def by_operator(manifests: list[Manifest]) -> list[Workload]:
    """What CloudNativePG makes pods of, with the labels that these get."""
    found = []
    for manifest in manifests:
        name, spec = manifest["metadata"]["name"], manifest.get("spec", {})
        match manifest["kind"]:
            case "Cluster":
                labels = {"cnpg.io/cluster": name, "cnpg.io/podRole": "instance"}
            case "Pooler":
                labels = {"cnpg.io/poolerName": name, **spec["template"]["metadata"]["labels"]}
            case _:
                continue
        found.append(
            Workload(
                kind=manifest["kind"],
                name=name,
                namespace=manifest["metadata"]["namespace"],
                labels=labels,
                pod={"containers": []},
            )
        )
    return found


def is_ours(image: str) -> bool:
    """Whether we build the image, wherever it is pushed to."""
    return "scoreboard/" in image


def unit_of(workload: Workload) -> str | None:
    """The unit that it runs, if any."""
    named = workload.labels.get("app.kubernetes.io/name")
    return named if workload.kind == "Deployment" and named in units.UNITS else None


def configuration(manifests: list[Manifest], name: str) -> dict[str, str]:
    """The values of the ConfigMap, which is none where the name is of none."""
    return of_kind(manifests, "ConfigMap").get(name, {}).get("data", {}) or {}


def environment(manifests: list[Manifest], workload: Workload) -> dict[str, str]:
    """The variables of the first container, as far as the manifests give them."""
    container = workload.pod["containers"][0]
    given: dict[str, str] = {}
    for source in container.get("envFrom", []):
        given |= configuration(manifests, source["configMapRef"]["name"])
    return given | {each["name"]: each.get("value", "") for each in container.get("env", [])}


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels; the empty one selects all.

    Raises ValueError for an operator that is not In.
    """
    selector = selector or {}
    for expression in selector.get("matchExpressions", []):
        if expression["operator"] != "In":
            raise ValueError(f"cannot evaluate {expression}")
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())
