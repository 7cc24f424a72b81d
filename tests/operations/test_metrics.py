"""The metrics of a running suite are those that the operations page lists, and stay few."""

import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from chassis.testing import eventually
from scoreboard_client import ApiError, Award, Live, Personal
from tests.people import address, new_type, newcomer
from tests.scrape import Metric, Sample, Scrape, scraped
from tests.suite import UNITS, Suite
from tests.test_docs import OPERATIONS, rows_of, section
from tests.watching import watching

SERVICES = frozenset(UNITS) - {"gateway"}
OF: Mapping[str, frozenset[str]] = {
    "every process": frozenset(UNITS),
    "services": SERVICES,
    "with Postgres": SERVICES - {"realtime"},
    "with Redis": frozenset(UNITS) - {"actions"},
    **{unit: frozenset({unit}) for unit in UNITS},
}
THEIRS = re.compile(r"(python|process)_\w+")  # of the client library
NAMED = re.compile(r"(\w+)(?:\{([\w,]+)\})?")

SERIES_MAX = 100  # of one metric, but for the buckets
# What the value of a label must not hold: an id, a name of a player, a time, another address than
# one of our own servers with its port.
UNBOUNDED = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-|player-|(?<!:)\b\d{5,}|\b\d+(\.\d+){3}(?![\d:])|\s"
)


@dataclass(frozen=True, kw_only=True)
class Documented:
    """A row of the page."""

    labels: tuple[str, ...]
    units: frozenset[str]


def documented() -> dict[str, Documented]:
    """The rows by name. Raises KeyError for a word that names no units."""
    rows = {}
    for named, of, _ in rows_of(section(OPERATIONS.read_text(), "Metrics")):
        found = NAMED.fullmatch(named)
        assert found, named
        units = frozenset(unit for word in of.split(", ") for unit in OF[word])
        labels = tuple(sorted((found[2] or "").split(","))) if found[2] else ()
        assert found[1] not in rows, named
        rows[found[1]] = Documented(labels=labels, units=units)
    return rows


@pytest.fixture(scope="module")
async def scrapes(unlimited: Suite) -> dict[str, Scrape]:
    """Every unit's, after a play that was watched, awarded, and tried again."""
    name = await new_type(unlimited, points=5)
    async with AsyncExitStack() as stack:
        ada = await stack.enter_async_context(newcomer(unlimited))
        live = Live(unlimited.url, token=ada.access_token, headers=address())
        watcher = await stack.enter_async_context(watching(live))
        for again in (False, True):
            action = await ada.request_action(name)
            award = await ada.complete(action, completion_time_ms=0)
            await watcher.news(partial(_shows, award))
            if again:
                with pytest.raises(ApiError, match="TOKEN_ALREADY_USED"):
                    await ada.complete(action, completion_time_ms=1)

    async def whole() -> dict[str, Scrape]:
        """What is done off the path of an award is done a little later."""
        found = await scraped(unlimited)
        assert found["fraud"]["scoreboard_anomaly_events_total"].value(rule="replay") >= 1
        assert found["scores"]["redis_memory_used_bytes"].value() > 0
        assert found["scores"]["redis_stream_entries"].value() > 0
        return found

    return await eventually(whole, pause_s=0.2)


def each(scrapes: Mapping[str, Scrape]) -> Iterator[tuple[str, Metric]]:
    """Every metric of ours, with the unit that serves it."""
    for unit, scrape in scrapes.items():
        yield from ((unit, m) for name, m in scrape.items() if not THEIRS.fullmatch(name))


async def test_every_metric_is_documented_with_its_labels(scrapes: dict[str, Scrape]) -> None:
    rows = documented()

    assert {metric.name for _, metric in each(scrapes)} - rows.keys() == set()
    wrong = {
        (unit, metric.name, labels)
        for unit, metric in each(scrapes)
        for labels in metric.labels
        if labels != rows[metric.name].labels
    }
    assert wrong == set()


async def test_every_documented_metric_is_served_by_the_units_it_is_of(
    scrapes: dict[str, Scrape],
) -> None:
    rows = documented()

    missing = {(u, name) for name, row in rows.items() for u in row.units if name not in scrapes[u]}
    assert missing == set()
    # A unit may have no series of a metric yet, but not all of them.
    unseen = {name for name, r in rows.items() if not any(scrapes[u][name].labels for u in r.units)}
    assert unseen == set()


async def test_no_unit_has_anything_in_a_metric_that_is_of_others(
    scrapes: dict[str, Scrape],
) -> None:
    """What one imports comes with it: its metrics are there, without series or 0."""
    rows = documented()

    foreign = {
        (unit, sample.name)
        for unit, metric in each(scrapes)
        for sample in metric.samples
        if sample.value and unit not in rows[metric.name].units
    }
    assert foreign == set()


async def test_labels_are_bounded(scrapes: dict[str, Scrape]) -> None:
    found = {(m.name, v) for _, m in each(scrapes) for s in m.samples for v in s.labels.values()}

    assert {(name, value) for name, value in found if UNBOUNDED.search(value)} == set()
    sizes = {
        (unit, metric.name): len({tuple(sorted(_but_le(sample))) for sample in metric.samples})
        for unit, metric in each(scrapes)
    }
    assert {key: size for key, size in sizes.items() if size >= SERIES_MAX} == {}


@pytest.mark.parametrize(
    "value",
    [
        "01a1fd01-c252-7cc2-abbe-32c3e171334b",
        "/api/v1/actions/01a1fd01-c252-7cc2-abbe-32c3e171334b",
        "player-0123456789",
        "192.0.2.7",
        "2026-11-30 14:43",
        "1796049813000",
    ],
)
def test_a_label_that_is_not_bounded_is_noticed(value: str) -> None:
    assert UNBOUNDED.search(value)


@pytest.mark.parametrize("value", ["/api/v1/actions/{action_id}", "4504", "127.0.0.12:26379"])
def test_a_label_that_is_bounded_is_not(value: str) -> None:
    assert not UNBOUNDED.search(value)


async def test_a_play_moves_what_it_should(scrapes: dict[str, Scrape]) -> None:
    gateway, scores, fraud = (scrapes[unit] for unit in ("gateway", "scores", "fraud"))

    assert scores["scoreboard_awards_total"].value(outcome="awarded") >= 2
    assert scores["scoreboard_awards_total"].value(outcome="TOKEN_ALREADY_USED") >= 1
    lag = gateway["scoreboard_award_to_frame_seconds"]
    assert lag.value("_count") >= 2
    assert lag.value("_sum") / lag.value("_count") < 5
    award = "/scoreboard.Scores/Award"
    calls = gateway["grpc_client_requests_total"]
    assert calls.value(unit="scores", method=award, code="OK") >= 2
    assert gateway["feed_behind_seconds"].value(feed="sanctions") == 0
    assert scores["feed_behind_seconds"].value(feed="sanctions") == 0
    for scrape in (scores, fraud):
        assert scrape["postgres_pool_wait_seconds"].value("_count", pool="primary") > 0
        assert scrape["postgres_pool_connections_max"].value(pool="primary") >= 1
    for scrape in scrapes.values():
        assert scrape["event_loop_lag_seconds"].value("_count") > 0
    for unit in OF["with Redis"]:
        assert scrapes[unit]["redis_command_seconds"].value("_count") > 0


async def test_outcomes_that_are_known_are_there_before_their_first_event(
    scrapes: dict[str, Scrape],
) -> None:
    """On every board too, whichever replica looks after it."""

    def values(unit: str, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in scrapes[unit][name].samples}

    boards = {"all_time", "daily", "weekly", "monthly"}
    for name in ("drift_repaired", "boards_rebuilt", "periods_closed"):
        assert values("scores", f"scoreboard_{name}_total", "board") >= boards
    assert values("scores", "postgres_errors_total", "class") >= {"connection", "53", "57"}
    assert values("gateway", "live_closes_total", "code") >= {"4001", "4008", "4504"}
    assert values("gateway", "requests_shed_total", "reason") >= {"queue_full"}


def _shows(award: Award, event: Personal) -> bool:
    return event.data.get("newScore") == award.new_score


def _but_le(sample: Sample) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in sample.labels.items() if name != "le")
