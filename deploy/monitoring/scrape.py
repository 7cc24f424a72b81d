"""What Prometheus scrapes: every pod's operations port; the label `service` is its unit."""

from collections.abc import Mapping
from typing import Any

from deploy.monitoring.durations import Durations
from deploy.monitoring.rules import NAMESPACE

_POD = "__meta_kubernetes_pod"


def of_cluster(durations: Durations) -> dict[str, Any]:
    """The configuration file of a Prometheus in the namespace `monitoring`."""
    job = {
        "job_name": "scoreboard",
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [NAMESPACE]}}],
        "relabel_configs": [
            {
                "action": "keep",
                "source_labels": [f"{_POD}_label_app_kubernetes_io_part_of"],
                "regex": "scoreboard",
            },
            {
                "action": "keep",
                "source_labels": [f"{_POD}_container_port_name"],
                "regex": "ops",
            },
            # Pods that have ended stay listed for a while.
            {
                "action": "drop",
                "source_labels": [f"{_POD}_phase"],
                "regex": "Succeeded|Failed",
            },
            {
                "source_labels": [f"{_POD}_label_app_kubernetes_io_name"],
                "target_label": "service",
            },
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": [f"{_POD}_name"], "target_label": "pod"},
        ],
    }
    return {
        **_frame(durations, rules="/etc/prometheus/rules.yaml", job=job),
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": ["alertmanager:9093"]}]}],
        },
    }


def of_addresses(
    durations: Durations, addresses: Mapping[str, str], *, rules: str
) -> dict[str, Any]:
    """The same of processes at known addresses, `host:port` by unit."""
    job = {
        "job_name": "scoreboard",
        "static_configs": [
            {
                "targets": [address],
                "labels": {"namespace": NAMESPACE, "service": unit, "pod": f"{unit}-0"},
            }
            for unit, address in addresses.items()
        ],
    }
    return _frame(durations, rules=rules, job=job)


def _frame(durations: Durations, *, rules: str, job: dict[str, Any]) -> dict[str, Any]:
    return {
        "global": {
            "scrape_interval": str(durations.scrape),
            "scrape_timeout": str(durations.scrape_timeout),
            "evaluation_interval": str(durations.evaluation),
        },
        "rule_files": [rules],
        "scrape_configs": [job],
    }
