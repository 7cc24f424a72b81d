"""Dashboards of Grafana as values: a dashboard has rows, a row panels, a panel targets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# What Grafana calls its units.
SECONDS, PER_SECOND, RATIO, BYTES, COUNT = "s", "ops", "percentunit", "bytes", "short"

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
_HEIGHT = 8


@dataclass(frozen=True)
class Target:
    """One query, and what its lines are called: `{{label}}` is replaced."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines over time. Above `limit`, which is an alert's, they are on red."""

    title: str
    unit: str
    targets: tuple[Target, ...]
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """`uid` stays the same forever: links and bookmarks name it."""

    uid: str
    title: str
    rows: tuple[Row, ...]

    @property
    def targets(self) -> Iterator[Target]:
        for row in self.rows:
            for panel in row.panels:
                yield from panel.targets


def panel(
    title: str, unit: str, *targets: Target | tuple[str, str], limit: float | None = None
) -> Panel:
    """A panel; a target may be given as its expression and its legend."""
    made = tuple(each if isinstance(each, Target) else Target(*each) for each in targets)
    return Panel(title=title, unit=unit, targets=made, limit=limit)


def row(title: str, *panels: Panel) -> Row:
    return Row(title=title, panels=panels)


def model(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["scoreboard"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": list(_laid_out(dashboard.rows)),
    }


def _laid_out(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The panels with their places: a row's share its width, at most three in a line."""
    top, number = 0, 0
    for each in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": each.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1},
            "panels": [],
        }
        top += 1
        in_line = min(3, len(each.panels))
        width = _COLUMNS // in_line
        for index, shown in enumerate(each.panels):
            number += 1
            place = {
                "x": index % in_line * width,
                "y": top + index // in_line * _HEIGHT,
                "w": width,
                "h": _HEIGHT,
            }
            yield {"id": number, "gridPos": place, **_panel(shown)}
        top += -(-len(each.panels) // in_line) * _HEIGHT


def _panel(shown: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if shown.limit is not None:
        steps.append({"color": "red", "value": shown.limit})
    style = "line" if shown.limit is not None else "off"
    return {
        "type": "timeseries",
        "title": shown.title,
        "datasource": _DATASOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": shown.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {"fillOpacity": 10, "thresholdsStyle": {"mode": style}},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "expr": target.expression,
                "legendFormat": target.legend or "__auto",
            }
            for index, target in enumerate(shown.targets)
        ],
    }
