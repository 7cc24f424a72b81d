"""What the rules and the dashboards name is what a running suite serves."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from urllib.request import urlopen

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from chassis.errors import Internal, Timeout, Unavailable
from deploy.monitoring.__main__ import groups
from deploy.monitoring.cluster import EXTERNAL
from deploy.monitoring.dashboards import dashboards
from deploy.monitoring.durations import Durations
from deploy.monitoring.requests import FAULTS
from deploy.monitoring.rules import Record
from deploy.tests.promql import groupings, selectors
from deploy.units import UNITS
from tests.suite import Suite
from tests.test_docs import failures

RULES = [rule for group in groups(Durations()) for rule in group.rules]
# Of Prometheus itself.
ITS_OWN = {"up", "ALERTS"}
LE = re.compile(r'(\w+)_bucket\{[^}]*le="([\d.]+)"')
QUANTILE = re.compile(r"histogram_quantile\(.* \(rate\((\w+)_bucket.*> ([\d.]+)$")
# What the scrape adds to every series.
ADDED = {"service", "pod", "namespace"}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}


@pytest.fixture(scope="module")
def scraped(suite: Suite) -> dict[str, set[str]]:
    """The names of series that each unit serves."""
    processes = suite.processes()
    return {unit: set(names(processes[unit]["ops_port"])) for unit in UNITS}


def test_every_metric_of_a_rule_is_served(scraped: dict[str, set[str]]) -> None:
    served = set[str]().union(*scraped.values())
    recorded = {rule.name for rule in RULES if isinstance(rule, Record)}
    named = {each.metric for rule in RULES for each in selectors(rule.expression)}

    assert len(named) > 30
    assert named - served - recorded - EXTERNAL - ITS_OWN == set()


def test_every_metric_of_a_dashboard_is_served_by_the_unit_that_it_is_about(
    scraped: dict[str, set[str]],
) -> None:
    recorded = {rule.name for rule in RULES if isinstance(rule, Record)}
    for dashboard in dashboards():
        unit = dashboard.uid.removeprefix("scoreboard-").removesuffix("-unit")
        of_unit = dashboard.uid.endswith("-unit")
        served = scraped[unit] if of_unit else set[str]().union(*scraped.values())
        named = {
            each.metric for target in dashboard.targets for each in selectors(target.expression)
        }
        assert named - served - recorded - ITS_OWN == set(), dashboard.title


def test_every_label_of_a_rule_or_a_dashboard_is_one_of_its_metric() -> None:
    declared = labels()
    for rule in RULES:
        if isinstance(rule, Record):
            declared[rule.name] = {*rule.labels, *set[str]().union(*groupings(rule.expression))}
    expressions = [rule.expression for rule in RULES]
    expressions += [target.expression for each in dashboards() for target in each.targets]
    checked = 0
    for expression in expressions:
        found = [each for each in selectors(expression) if each.metric in declared]
        checked += len(found)
        for each in found:
            assert each.labels <= declared[each.metric] | ADDED, (expression, each.metric)
        if found:
            known = set[str]().union(*(declared[each.metric] for each in found))
            for by in groupings(expression):
                assert by <= known | ADDED, expression
    assert checked > 100


def test_every_limit_of_a_histogram_is_the_edge_of_one_of_its_buckets() -> None:
    checked = 0
    for rule in RULES:
        edges = [(name, float(le)) for name, le in LE.findall(rule.expression)]
        if quantile := QUANTILE.search(rule.expression):
            edges.append((quantile[1], float(quantile[2])))
        for name, edge in edges:
            assert edge in REGISTRY._names_to_collectors[name]._upper_bounds, (name, edge)  # type: ignore[attr-defined]
        checked += len(edges)
    assert checked > 5


def test_the_codes_of_our_faults_are_all_those_that_a_call_can_have() -> None:
    codes = {
        code for code, kind in failures() if issubclass(kind, Internal | Unavailable | Timeout)
    }

    assert set(FAULTS) == codes


def names(ops_port: int) -> Iterator[str]:
    with urlopen(f"http://127.0.0.1:{ops_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        # Of a family with labels no series may be there yet.
        for suffix in SUFFIXES.get(family.type, ("",)):
            yield family.name + suffix


def labels() -> dict[str, set[str]]:
    """The labels of each series that the code declares."""
    for unit in ("chassis", "services", "gateway"):
        package = importlib.import_module(unit)
        for module in pkgutil.walk_packages(package.__path__, f"{unit}."):
            if ".tests" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found = {}
    for name, collector in REGISTRY._names_to_collectors.items():
        if hasattr(collector, "_labelnames"):
            bucket = {"le"} if name.endswith("_bucket") else set[str]()
            found[name] = {*collector._labelnames, *bucket}
    return found
