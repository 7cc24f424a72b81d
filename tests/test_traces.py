"""Traces across the units, as a collector gets them from a running suite; and its logs."""

import asyncio
import json
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chassis.tests.collector import Collector, Span, collecting
from scoreboard_client import ApiError, Client
from tests.people import PASSWORD, new_type, newcomer
from tests.suite import UNITS, Suite, started

SECRET = re.compile(r"eyJ|bearer|password|secret|token=|\$2[aby]\$", re.IGNORECASE)
TOGETHER = 24  # awards at once
POSTGRES, REDIS = {"db.system.name": "postgresql"}, {"db.system.name": "redis"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


async def test_an_award_is_one_trace_from_http_to_sql_and_redis(
    tmp_path: Path, collector: Collector
) -> None:
    with started(tmp_path, otlp_endpoint=collector.url, otlp_sample_ratio=1, limits="off") as suite:
        action_type = await new_type(suite, points=3, max_open=TOGETHER)
        async with newcomer(suite) as player:
            await _play(player, action_type, times=1)
            await _play(player, action_type, times=TOGETHER)
            private = [PASSWORD, player.username or "", player.user_id or ""]
    # The suite has ended, so that everything was sent.
    completions = [s for s in collector.spans if s.name == "POST /api/v1/actions/complete"]
    assert len(completions) == 1 + TOGETHER
    _expect_chain(collector, min(completions, key=lambda span: span.began_ns))
    _expect_links(collector, completions)
    _expect_nothing_private(collector.spans, private)


@pytest.fixture(scope="module")
def unheard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a suite that sampled everything, for a collector that is absent, and ended."""
    folder = tmp_path_factory.mktemp("unheard")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def play(suite: Suite) -> None:
        action_type = await new_type(suite, points=3)
        async with newcomer(suite) as player:
            await _play(player, action_type, times=1)
            with pytest.raises(ApiError):
                await player.login(str(player.username), "not the password")

    # It raises where an award fails, or where a process does not end in time with code 0.
    with started(folder, otlp_endpoint=url, otlp_sample_ratio=1) as suite:
        asyncio.run(play(suite))
    return folder / "data" / "logs"


@pytest.mark.parametrize("unit", UNITS)
def test_an_absent_collector_costs_a_unit_one_line_and_no_award(unheard: Path, unit: str) -> None:
    events = [line["event"] for line in _lines(unheard, unit)]

    assert events.count("spans_dropped") == (unit != "realtime")  # which serves no request
    assert events[-1] in ("stopped", "spans_dropped", "spans_left")


@pytest.mark.parametrize("unit", UNITS)
def test_every_line_of_a_unit_is_of_a_stream(unheard: Path, unit: str) -> None:
    lines = _lines(unheard, unit)

    assert {line["stream"] for line in lines} <= {"app", "security", "audit", "error"}
    assert {line["unit"] for line in lines} == {unit}


def test_failed_logins_and_changes_are_in_their_streams(unheard: Path) -> None:
    lines = [line for unit in UNITS for line in _lines(unheard, unit)]
    found = {(line["unit"], line["stream"], line["event"], line.get("code")) for line in lines}

    assert found >= {
        ("auth", "security", "login_failed", None),
        ("gateway", "security", "request_answered", "INVALID_CREDENTIALS"),
        ("actions", "audit", "action_type_created", None),
    }


def _lines(folder: Path, unit: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{unit}.log").read_text().splitlines()]


def _expect_chain(collector: Collector, http: Span) -> None:
    """The award by itself: each span is the one before's child, in one trace."""
    assert (http.service, http.parent_id, http.links) == ("gateway", "", [])
    assert http.attributes["http.route"] == "/api/v1/actions/complete"
    assert http.attributes["http.response.status_code"] == 200
    limits = _down(collector, http, ("gateway", "batch limits"), ("gateway", "flight limits"))
    _expect_below(collector, limits, REDIS | {"db.stored_procedure.name": "limits"})
    item = _down(collector, http, ("gateway", "batch award"))
    flight = _down(collector, item, ("gateway", "flight award"))
    assert (flight.links, item.links) == ([item.place], [flight.place])
    assert 0 <= item.attributes["batch.wait_s"] <= (item.ended_ns - item.began_ns) / 1e9
    award = _called(collector, flight, "scores", "scoreboard.Scores/Award")
    verify = _called(collector, award, "actions", "scoreboard.Actions/Verify")
    judge = _called(collector, award, "fraud", "scoreboard.Fraud/Judge")
    _expect_below(collector, verify, POSTGRES)
    _expect_below(collector, judge, REDIS | {"db.stored_procedure.name": "judge"})
    _expect_below(collector, award, POSTGRES)
    _expect_below(collector, award, REDIS | {"db.stored_procedure.name": "apply"})


def _expect_links(collector: Collector, completions: Iterable[Span]) -> None:
    """Each award's item is linked with one flight, which is linked with all of its items."""
    flights = {s.place: s for s in collector.spans if s.name == "flight award"}
    for completion in completions:
        item = collector.child(completion, "gateway", "batch award")
        (place,) = item.links
        assert item.place in flights[place].links
    sizes = [flight.attributes["batch.items"] for flight in flights.values()]
    assert [len(flight.links) for flight in flights.values()] == sizes
    assert sum(sizes) == 1 + TOGETHER
    assert max(sizes) > 1


def _expect_nothing_private(spans: Iterable[Span], private: Iterable[str]) -> None:
    for span in spans:
        said = f"{span.name} {span.error} {span.attributes}"
        assert not SECRET.search(said), said
        assert not any(text in said for text in private), said
        assert not span.events


def _called(collector: Collector, caller: Span, unit: str, method: str) -> Span:
    """The call as `unit` served it, which `caller` made."""
    made = _down(collector, caller, (caller.service, method))
    served = _down(collector, made, (unit, method))
    assert served.attributes == {"rpc.system.name": "grpc", "rpc.method": method}
    return served


def _down(collector: Collector, span: Span, *path: tuple[str, str]) -> Span:
    for service, name in path:
        span = collector.child(span, service, name)
    return span


def _expect_below(collector: Collector, span: Span, attributes: Mapping[str, str]) -> None:
    found = [s for s in collector.below(span) if attributes.items() <= s.attributes.items()]
    assert found, [(s.name, s.attributes) for s in collector.below(span)]


async def _play(player: Client, action_type: str, *, times: int) -> None:
    """Has `times` actions awarded at once."""
    actions = [await player.request_action(action_type) for _ in range(times)]
    await asyncio.gather(*(player.complete(a, completion_time_ms=0) for a in actions))
