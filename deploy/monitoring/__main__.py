"""Writes what is made of this package: `python -m deploy.monitoring`. Start reading here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.monitoring import (
    alertmanager,
    awards,
    cluster,
    objectives,
    requests,
    scrape,
    stores,
)
from deploy.monitoring.dashboards import dashboards
from deploy.monitoring.durations import Durations
from deploy.monitoring.grafana import model
from deploy.monitoring.rules import NAMESPACE, Group, file_of

COMPONENTS = Path(__file__).parents[1] / "k8s" / "components"

_MADE = "# Made by `make monitoring`; change deploy/monitoring instead.\n"


def groups(durations: Durations) -> tuple[Group, ...]:
    """All rules."""
    return (
        requests.group(durations),
        *awards.groups(durations),
        stores.group(durations),
        cluster.group(durations),
        objectives.group(durations),
    )


def files(durations: Durations) -> Iterator[tuple[str, str]]:
    """Path below `deploy/k8s/components`, and text, of each file that is made."""
    rules = file_of(groups(durations), durations)
    yield "monitoring-dev/rules.yaml", _yaml(rules)
    yield "monitoring-dev/prometheus.yaml", _yaml(scrape.of_cluster(durations))
    yield "monitoring-dev/alertmanager.yaml", _yaml(alertmanager.plain(durations))
    yield (
        "monitoring/rules.yaml",
        _resource("monitoring.coreos.com/v1", "PrometheusRule", rules),
    )
    yield (
        "monitoring/alertmanager.yaml",
        _resource(
            "monitoring.coreos.com/v1alpha1",
            "AlertmanagerConfig",
            alertmanager.resource(durations),
        ),
    )
    for dashboard in dashboards():
        text = json.dumps(model(dashboard), indent=1, ensure_ascii=False)
        yield f"dashboards/{dashboard.uid}.json", text + "\n"
    yield "dashboards/kustomization.yaml", _yaml(_dashboards())


def main() -> None:
    for path, text in files(Durations()):
        (COMPONENTS / path).parent.mkdir(parents=True, exist_ok=True)
        (COMPONENTS / path).write_text(text)


def _dashboards() -> dict[str, Any]:
    """A ConfigMap for each, since `kubectl apply` takes no more than 256 KiB in one."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "configMapGenerator": [
            {
                "name": dashboard.uid,
                "namespace": "monitoring",
                "files": [f"{dashboard.uid}.json"],
                # Grafana's sidecar finds it by its label; a new name would leave the old one there.
                "options": {"disableNameSuffixHash": True, "labels": {"grafana_dashboard": "1"}},
            }
            for dashboard in dashboards()
        ],
    }


def _resource(version: str, kind: str, spec: dict[str, Any]) -> str:
    return _yaml(
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": "scoreboard", "namespace": NAMESPACE},
            "spec": spec,
        }
    )


class _Dumper(yaml.SafeDumper):
    """Repeats what is repeated: no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(value: dict[str, Any]) -> str:
    return _MADE + yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


if __name__ == "__main__":
    main()
