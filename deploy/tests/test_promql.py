"""Tests of what finds the metrics of an expression."""

import pytest

from deploy.tests.promql import Selector, groupings, selectors


def found(expression: str) -> set[tuple[str, tuple[str, ...]]]:
    return {(each.metric, tuple(sorted(each.labels))) for each in selectors(expression)}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up", {("up", ())}),
        ('up{a="x", b!~"y{2}"} == 0', {("up", ("a", "b"))}),
        ("sum by (service) (rate(x_total[5m])) / sum(y)", {("x_total", ()), ("y", ())}),
        ("sum(rate(x{a=\"up()\"}[5m])) by (le)", {("x", ("a",))}),
        ("a > 0 unless b offset 5m", {("a", ()), ("b", ())}),
        ("avg_over_time(a:b:rate[1h] offset 10m) * 3", {("a:b:rate", ())}),
        ("min(t) - time() < 14.5", {("t", ())}),
        ('a{w="1"} and ignoring (w) b', {("a", ("w",)), ("b", ())}),
        ("histogram_quantile(0.95, sum by (le) (rate(h_bucket[$__rate_interval])))",
         {("h_bucket", ())}),
        ('label_replace(a, "x", "$1", "y", "(.*)") or vector(0)', {("a", ())}),
    ],
)  # fmt: skip
def test_the_metrics_of_an_expression_are_found_with_their_labels(
    expression: str, expected: set[tuple[str, tuple[str, ...]]]
) -> None:
    assert found(expression) == expected


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="at 2"):
        list(selectors("a ?"))


def test_the_labels_of_groupings_are_found() -> None:
    assert list(groupings("sum by (a, b) (x) + max by (c) (y)")) == [{"a", "b"}, {"c"}]
    assert list(selectors("x")) == [Selector("x", frozenset())]
