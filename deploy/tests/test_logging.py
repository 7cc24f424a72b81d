"""The collector's rules for logs, run on lines that our processes write."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from deploy.tests.collector import wrong_pipelines
from deploy.tests.manifests import K8S

LOGGING = K8S / "components" / "logging"
DAYS = {"app": 7, "security": 90, "audit": 365, "error": 30}
# What each line has, docs/operations.md *Logs*.
FIELDS = {"event", "level", "unit", "stream", "@timestamp"}

_WRITES = """
from chassis import telemetry
telemetry.configure("scores", level="info", otlp_endpoint="", sample_ratio=0)
telemetry.log.info("lease_taken", board="all_time")
for stream in ("security", "audit", "error"):
    telemetry.log.warning("something_happened", stream=stream)
telemetry.write(telemetry.Line(event="request_answered"))
print("Traceback (most recent call last):")
"""


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What a process of ours writes on stdout."""
    run = subprocess.run(
        [sys.executable, "-c", _WRITES], check=True, capture_output=True, text=True
    )
    return run.stdout.splitlines()


@pytest.fixture(scope="module")
def collector() -> Any:
    return yaml.safe_load((LOGGING / "collector-config.yaml").read_text())


def test_every_line_goes_to_the_data_stream_of_its_stream(lines: list[str], collector: Any) -> None:
    operators = collector["receivers"]["filelog"]["operators"]

    documents = [found for line in lines if (found := parsed(operators, line)) is not None]

    assert [dataset for dataset, _ in documents] == [
        f"scoreboard.{stream}" for stream in ("app", "security", "audit", "error", "app")
    ]
    for _, document in documents:
        assert set(document) >= FIELDS
        assert "timestamp" not in document


def test_the_collector_names_components_that_it_has(collector: Any) -> None:
    assert wrong_pipelines(collector) == []
    assert collector["exporters"]["elasticsearch"]["mapping"] == {"mode": "bodymap"}


def test_every_stream_is_kept_for_its_days() -> None:
    texts = (LOGGING / "elasticsearch.ndjson").read_text().splitlines()
    put = dict(zip(texts[::2], map(json.loads, texts[1::2]), strict=True))

    kept = {}
    for path, template in put.items():
        if path.startswith("/_index_template/"):
            (pattern,) = template["index_patterns"]
            policy = template["template"]["settings"]["index.lifecycle.name"]
            phases = put[f"/_ilm/policy/{policy}"]["policy"]["phases"]
            stream = pattern.removeprefix("logs-scoreboard.").removesuffix("-*")
            kept[stream] = phases["delete"]["min_age"]
            assert "data_stream" in template
    assert kept == {stream: f"{days}d" for stream, days in DAYS.items()}


def test_kibana_has_a_view_of_every_stream_and_no_search_of_a_missing_one() -> None:
    objects = [json.loads(line) for line in (LOGGING / "kibana.ndjson").read_text().splitlines()]
    views = {each["id"]: each["attributes"] for each in objects if each["type"] == "index-pattern"}

    assert {view["title"] for view in views.values()} == {f"logs-scoreboard.{s}-*" for s in DAYS}
    assert {reference["id"] for each in objects for reference in each["references"]} <= set(views)


def parsed(operators: list[dict[str, Any]], line: str) -> tuple[str, dict[str, Any]] | None:
    """Dataset and document of a line, None where it is left out; fails on what it cannot run."""
    # `container` takes the runtime's frame off, which is not ours to test.
    body: Any = line
    attributes: dict[str, str] = {}
    for operator in operators[1:]:
        match operator["type"]:
            case "filter":
                assert operator["expr"] == 'not (body matches "^{")'
                if not re.match("^{", body):
                    return None
            case "json_parser":
                assert (operator["parse_from"], operator["parse_to"]) == ("body", "body")
                body = json.loads(body)
                assert operator["timestamp"]["parse_from"] == "body.timestamp"
                # Go's layout: as many digits as there are, then the zone.
                form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z"
                assert re.fullmatch(form, body["timestamp"])
            case "move":
                places = operator["from"], operator["to"]
                assert places == ("body.timestamp", 'body["@timestamp"]')
                body["@timestamp"] = body.pop("timestamp")
            case "add":
                assert operator["field"] == 'attributes["data_stream.dataset"]'
                value = re.fullmatch(r'EXPR\("(.*)" \+ body\.(\w+)\)', operator["value"])
                assert value
                attributes["data_stream.dataset"] = value[1] + body[value[2]]
            case other:
                pytest.fail(f"cannot run {other}")
    return attributes["data_stream.dataset"], body
