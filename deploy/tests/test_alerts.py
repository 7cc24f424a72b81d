"""Tests of the rules by Prometheus' own tools: each alert fires, and not at its edge."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from deploy.monitoring.__main__ import groups
from deploy.monitoring.durations import Duration, Durations
from deploy.monitoring.rules import Alert, Group, Record, file_of
from deploy.tests.alert_cases import HOURS_6, Case, Series, cases
from deploy.tests.promql import groupings

DURATIONS = Durations()
GROUPS = groups(DURATIONS)
ALERTS = [rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert)]
CASES = list(cases())


@pytest.fixture(scope="module")
def promtool(missing: Callable[[str], NoReturn]) -> str:
    return shutil.which("promtool") or missing("promtool")


def test_every_rule_can_be_read_by_prometheus(promtool: str, tmp_path: Path) -> None:
    assert _checked(promtool, tmp_path, GROUPS) == (0, "")

    broken = Group(name="broken", rules=(Record(name="a", expression="sum by (x"),))
    assert _checked(promtool, tmp_path, (broken,))[0] != 0


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group.name))
def test_every_alert_fires_and_does_not_at_its_edge(
    promtool: str, tmp_path: Path, group: Group
) -> None:
    assert _tested(promtool, tmp_path, group, _cases_of(group)) == ""


def test_a_case_that_does_not_hold_is_noticed(promtool: str, tmp_path: Path) -> None:
    group = GROUPS[0]
    (case,) = (each for each in CASES if each.alert == "HighErrorRate")
    turned = Case(alert=case.alert, fires=case.quiet, quiet=case.fires)

    said = _tested(promtool, tmp_path, group, [turned])

    assert said.count("exp:") == 2, said


def test_every_alert_has_a_case() -> None:
    assert [alert.name for alert in ALERTS if not any(map(_of(alert), CASES))] == []
    assert [case for case in CASES if not any(_of(alert)(case) for alert in ALERTS)] == []


def test_an_alert_names_only_labels_that_its_result_has() -> None:
    for alert in ALERTS:
        texts = alert.summary + alert.description
        # The label that kube-state-metrics' series have, and those that `by` and the rule give.
        given = (
            {"container", "horizontalpodautoscaler", "pod"}
            if "kube_" in alert.expression
            else set()
        )
        given |= {"pod"} if alert.expression.startswith("up{") else set()
        given |= {"rule"} if "rule:" in alert.expression else set()
        given |= {"service", *alert.labels}.union(*groupings(alert.expression))
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= given, alert.name


def test_durations_are_written_as_prometheus_does_and_divided_alike() -> None:
    assert [str(Duration(ms)) for ms in (0, 750, 22_500, 90_000, 12_960_000, 259_200_000)] == [
        *("0s", "750ms", "22s500ms", "1m30s", "3h36m", "3d")
    ]
    short, long = Durations(20), Durations()
    assert str(short.window) == "15s"
    for name, value in vars(long).items():
        if isinstance(value, Duration):
            assert value.ms == 20 * getattr(short, name).ms, name


def test_every_duration_of_the_rules_is_one_of_durations() -> None:
    """So that dividing those divides all: no rule writes one by itself."""
    divided = yaml.safe_dump(file_of(groups(Durations(20)), Durations(20)))
    written = set(re.findall(r"\[([\dhms]+)\]|offset (\w+)|for: (\w+)|interval: (\w+)", divided))
    spans = {str(value) for value in vars(Durations(20)).values()}
    spans |= {str(span) for burn in Durations(20).burns for span in (burn.long, burn.short)}

    assert {next(filter(None, each)) for each in written} <= spans


def _of(alert: Alert) -> Callable[[Case], bool]:
    labels = {"severity": alert.severity, **alert.labels}
    return lambda case: case.alert == alert.name and case.labels.items() <= labels.items()


def _cases_of(group: Group) -> list[Case]:
    names = {rule.name for rule in group.rules}
    return [case for case in CASES if case.alert in names]


def _checked(promtool: str, folder: Path, checked: tuple[Group, ...]) -> tuple[int, str]:
    rules = folder / "rules.yaml"
    rules.write_text(yaml.safe_dump(file_of(checked, DURATIONS)))
    ran = subprocess.run(
        [promtool, "check", "rules", "--lint=all", rules],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stderr


def _tested(promtool: str, folder: Path, group: Group, tested: list[Case]) -> str:
    """What promtool complains of; empty where every case holds."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(file_of([group], DURATIONS)))
    tests = [
        _test(case, series, fires=fires)
        for case in tested
        for fires, series in ((True, case.fires), (False, case.quiet))
    ]
    # Windows of hours need no evaluation each minute, which takes long.
    interval = "30m" if all(case.at_min == HOURS_6 for case in tested) else "1m"
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": interval, "tests": tests}
    (folder / "tests.yaml").write_text(yaml.safe_dump(document))
    ran = subprocess.run(
        [promtool, "test", "rules", folder / "tests.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def _test(case: Case, series: Series, *, fires: bool) -> dict[str, object]:
    labels = {"alertname": case.alert, "alertstate": "firing", **case.labels}
    matchers = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    # Routes and inhibition go by these two.
    where = f'{{{matchers}, namespace="scoreboard", service!=""}}'
    return {
        "name": f"{case.alert} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": series[name]} for name in series],
        "promql_expr_test": [
            {
                "expr": f"count(ALERTS{where}) > bool 0",
                "eval_time": f"{case.at_min}m",
                "exp_samples": [{"value": 1}] if fires else [],
            }
        ],
    }
