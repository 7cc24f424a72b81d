"""Tests of the control room's files: routes, dashboards, runbooks, the manifests around them."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from deploy.monitoring import alertmanager, scrape
from deploy.monitoring.__main__ import COMPONENTS, files, groups
from deploy.monitoring.cluster import EXTERNAL
from deploy.monitoring.dashboards import dashboards
from deploy.monitoring.durations import Durations
from deploy.monitoring.grafana import model
from deploy.monitoring.rules import Alert, file_of
from deploy.tests.manifests import of_kind, rendered
from deploy.tests.promql import selectors
from deploy.tests.workloads import workloads
from deploy.units import UNITS

DURATIONS = Durations()
RULES = [rule for group in groups(DURATIONS) for rule in group.rules]
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
RUNBOOKS = "## Runbooks"


@pytest.fixture(scope="module")
def amtool(missing: Callable[[str], NoReturn]) -> str:
    return shutil.which("amtool") or missing("amtool")


def test_the_committed_files_are_what_the_code_makes() -> None:
    made = dict(files(DURATIONS))

    assert {path: (COMPONENTS / path).read_text() for path in made} == made
    written = {f"dashboards/{path.name}" for path in (COMPONENTS / "dashboards").iterdir()}
    assert written <= made.keys()


def test_the_operator_gets_the_rules_and_the_routes_of_the_plain_files() -> None:
    manifests = rendered("overlays/production")
    (rules,) = of_kind(manifests, "PrometheusRule").values()

    assert rules["spec"] == yaml.safe_load((COMPONENTS / "monitoring-dev/rules.yaml").read_text())
    # The same words, as the operator writes them, and secrets by name instead of by file.
    plain, resource = alertmanager.plain(DURATIONS), alertmanager.resource(DURATIONS)
    assert _shape(plain) == _shape(resource)


def test_the_operators_prometheus_and_alertmanager_find_what_is_theirs() -> None:
    manifests = rendered("overlays/production")
    theirs = [each for each in manifests if "monitoring.coreos.com" in each["apiVersion"]]

    # The monitors of stores among them.
    assert {each["kind"] for each in theirs} == {
        "AlertmanagerConfig",
        "PodMonitor",
        "PrometheusRule",
        "ServiceMonitor",
    }
    assert {each["metadata"]["labels"].get("release") for each in theirs} == {"prometheus"}


def test_the_service_monitor_scrapes_as_the_plain_prometheus_does() -> None:
    (monitor,) = of_kind(rendered("overlays/production"), "ServiceMonitor").values()
    (endpoint,) = monitor["spec"]["endpoints"]
    plain = scrape.of_cluster(DURATIONS)

    assert endpoint["interval"] == plain["global"]["scrape_interval"]
    assert endpoint["scrapeTimeout"] == plain["global"]["scrape_timeout"]
    assert endpoint["port"] == "ops"


def test_prometheus_can_read_what_it_is_given(
    missing: Callable[[str], NoReturn], tmp_path: Path
) -> None:
    promtool = shutil.which("promtool") or missing("promtool")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(file_of(groups(DURATIONS), DURATIONS)))
    static = scrape.of_addresses(
        DURATIONS, dict.fromkeys(UNITS, "127.0.0.1:1"), rules=str(tmp_path / "rules.yaml")
    )
    # Debian's promtool has no service discovery, so the rest of the job stands on known addresses.
    cluster = scrape.of_cluster(DURATIONS)
    (job,) = cluster["scrape_configs"]
    (job["static_configs"],) = ([{"targets": ["127.0.0.1:1"]}],)
    del job["kubernetes_sd_configs"]
    for configuration in (static, {**cluster, "rule_files": static["rule_files"]}):
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
        subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yaml"], check=True)


def test_alertmanager_can_read_what_it_is_given(amtool: str) -> None:
    path = COMPONENTS / "monitoring-dev" / "alertmanager.yaml"

    subprocess.run([amtool, "check-config", path], check=True)


@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "critical"), ("warning", "warning")]
)
def test_an_alert_goes_where_its_severity_says(amtool: str, severity: str, receiver: str) -> None:
    path = COMPONENTS / "monitoring-dev" / "alertmanager.yaml"
    command = [amtool, "config", "routes", "test", f"--config.file={path}"]
    labels = ["namespace=scoreboard", "service=scores", f"severity={severity}"]

    # The receivers are called as the severities are.
    subprocess.run([*command, f"--verify.receivers={severity}", *labels], check=True)
    other = "critical" if severity == "warning" else "warning"
    refused = subprocess.run([*command, f"--verify.receivers={other}", *labels], check=False)
    assert refused.returncode != 0


def test_critical_alerts_page_and_warnings_are_written() -> None:
    receivers = {each["name"]: each for each in alertmanager.plain(DURATIONS)["receivers"]}

    assert receivers["critical"].keys() == {"name", "pagerduty_configs"}
    assert receivers["warning"].keys() == {"name", "slack_configs", "email_configs"}
    (rule,) = alertmanager.plain(DURATIONS)["inhibit_rules"]
    assert rule["source_matchers"] == ['severity="critical"']
    assert rule["target_matchers"] == ['severity="warning"']
    assert "service" in rule["equal"]


def test_no_secret_stands_in_what_is_committed() -> None:
    text = (COMPONENTS / "monitoring-dev" / "alertmanager.yaml").read_text()

    assert re.findall(r"^\s*(?:- )?(\w*(?:key|url|password)\w*):", text, re.MULTILINE) == [
        "routing_key_file",
        "api_url_file",
        "auth_password_file",
    ]


def test_every_alert_says_what_it_is_and_has_a_runbook_and_every_runbook_an_alert() -> None:
    alerts = [rule for rule in RULES if isinstance(rule, Alert)]
    _, _, text = OPERATIONS.read_text().partition(f"\n{RUNBOOKS}\n")
    text = re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]
    pages = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    made = file_of(groups(DURATIONS), DURATIONS)
    links = {
        rule["annotations"]["runbook"]
        for group in made["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }

    assert sorted(pages) == sorted({alert.name for alert in alerts})
    assert {f"docs/operations.md#{page.lower()}" for page in pages} == links
    for page in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        for part in ("Players", "Look at", "Do", "Ends"):
            assert f"- **{part}**" in page, page


def test_every_dashboard_has_its_place_and_every_panel_a_unit_and_a_query() -> None:
    made = dashboards()

    assert {each.uid for each in made} >= {f"scoreboard-{unit}-unit" for unit in UNITS}
    assert len({each.uid for each in made}) == len(made)
    for dashboard in made:
        shown = model(dashboard)
        assert len(dashboard.uid) <= 40  # Grafana's bound
        panels = [each for each in shown["panels"] if each["type"] != "row"]
        assert len({each["id"] for each in shown["panels"]}) == len(shown["panels"])
        assert all(each["fieldConfig"]["defaults"]["unit"] for each in panels)
        assert all(target["expr"] for each in panels for target in each["targets"])
        assert all(each["datasource"]["uid"] == "${datasource}" for each in panels)
        places = [
            (each["gridPos"]["x"], each["gridPos"]["y"], each["gridPos"]["w"]) for each in panels
        ]
        assert all(x + width <= 24 for x, _, width in places)
        assert len({place[:2] for place in places}) == len(places)


def test_each_limit_of_a_panel_is_one_of_the_rules() -> None:
    numbers = {
        float(number)
        for rule in RULES
        for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", rule.expression)
    }
    limits = {
        panel.limit
        for dashboard in dashboards()
        for row in dashboard.rows
        for panel in row.panels
        if panel.limit is not None
    }

    assert limits <= numbers


def test_grafana_gets_every_dashboard() -> None:
    manifests = rendered("overlays/dev")
    maps = {
        name: each
        for name, each in of_kind(manifests, "ConfigMap").items()
        if each["metadata"].get("labels") == {"grafana_dashboard": "1"}
    }
    grafana = of_kind(manifests, "Deployment")["grafana"]["spec"]["template"]["spec"]
    (mounted,) = (each["projected"] for each in grafana["volumes"] if each["name"] == "dashboards")
    shown = {key: json.loads(text) for each in maps.values() for key, text in each["data"].items()}

    assert {source["configMap"]["name"] for source in mounted["sources"]} == maps.keys()
    assert shown == {f"{each.uid}.json": model(each) for each in dashboards()}
    # What `kubectl apply` writes beside it, an annotation, must not exceed 256 KiB.
    assert max(len(json.dumps(each)) for each in maps.values()) < 200_000


def test_prometheus_alone_has_a_token_and_may_only_look_at_pods() -> None:
    manifests = rendered("overlays/dev")
    role, binding = (of_kind(manifests, kind)["prometheus"] for kind in ("Role", "RoleBinding"))
    tokens = [
        each.name
        for each in workloads(manifests)
        if each.namespace == "monitoring" and each.pod["automountServiceAccountToken"]
    ]

    assert tokens == ["prometheus"]
    assert role["metadata"]["namespace"] == "scoreboard"
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}
    ]
    for name in ("ClusterRole", "ClusterRoleBinding"):
        assert of_kind(manifests, name) == {}


def test_rules_and_dashboards_name_no_metric_that_only_the_cluster_has_unless_listed() -> None:
    named = {each.metric for rule in RULES for each in selectors(rule.expression)}

    assert {name for name in named if name.startswith("kube_")} == EXTERNAL


def _shape(value: Any) -> Any:
    """Without the spelling: keys in one case, secrets as one word, matchers as one form."""
    if isinstance(value, dict):
        if value.keys() == {"name", "key"}:
            return value["key"]
        if value.keys() == {"name", "value"}:
            return f'{value["name"]}="{value["value"]}"'
        return {
            re.sub(
                r"_|s?Match(ers)?$|file$|match(ers)?$", "", key, flags=re.IGNORECASE
            ).lower(): _shape(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_shape(each) for each in value]
    return value.removeprefix(f"{alertmanager.SECRETS}/") if isinstance(value, str) else value
