"""Spans: who decides that there are any, how they hang together, what they show and what never."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import asyncpg
import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from chassis.batching import BATCH_MAX, Batcher
from chassis.errors import Conflict, Failed, Invalid, Unavailable
from chassis.postgres import open_database
from chassis.postgres.traced import statement
from chassis.redis import Redis, Script
from chassis.telemetry import traces
from chassis.telemetry.traces import Described
from chassis.testing import Certificates, served

ECHO = "/scoreboard.Echo/Say"
OUTSIDE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"

Spans = list[ReadableSpan]


def _request(name: str = "request") -> Described:
    return Described(name, SpanKind.SERVER, {})


def _shown(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def _error(span: ReadableSpan) -> tuple[Any, str | None]:
    """The code of the failure, and the status where it is an error's."""
    is_error = span.status.status_code is StatusCode.ERROR
    return _shown(span).get("error.type"), span.status.description if is_error else None


def test_a_callers_traceparent_begins_no_trace_and_joins_none(spans: Spans) -> None:
    with traces.root({"traceparent": OUTSIDE}, _request):
        pass

    (span,) = spans
    (link,) = span.links
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != "ab" * 16
    assert f"{link.context.trace_id:032x}" == "ab" * 16


@pytest.mark.parametrize(
    "header", ["", "x", "00-" + "0" * 32 + "-" + "cd" * 8 + "-01", OUTSIDE[:-2]]
)
def test_a_traceparent_that_is_none_is_left_out(spans: Spans, header: str) -> None:
    with traces.root({"traceparent": header}, _request):
        pass

    assert [span.links for span in spans] == [()]


@pytest.mark.parametrize("spans", [0], indirect=True)
def test_at_ratio_0_no_caller_can_have_anything_sampled(spans: Spans) -> None:
    with traces.root({"traceparent": OUTSIDE}, _request) as span, traces.span(_request) as inner:
        assert (span, inner, traces.trace_id()) == (None, None, None)

    assert spans == []


@pytest.mark.parametrize("spans", [0.25], indirect=True)
def test_the_ratio_is_the_share_of_requests_that_are_sampled(spans: Spans) -> None:
    for _ in range(2000):
        with traces.root({}, _request):
            pass

    assert 350 < len(spans) < 650  # within seven deviations of 500


@pytest.mark.parametrize(("header", "count"), [(OUTSIDE, 1), (OUTSIDE[:-2] + "00", 0), (None, 0)])
def test_the_calling_unit_decides_whether_a_call_is_sampled(
    spans: Spans, header: str | None, count: int
) -> None:
    with traces.continued(lambda: header, _request), traces.span(_request, "inner"):
        pass

    assert len(spans) == 2 * count
    assert {f"{span.context.trace_id:032x}" for span in spans} == {"ab" * 16} & {"ab" * 16 * count}


@pytest.mark.parametrize(
    ("kind", "error", "code", "status"),
    [
        (SpanKind.SERVER, Conflict("of ulf"), "CONFLICT", None),
        (SpanKind.CLIENT, Conflict("of ulf"), "CONFLICT", "CONFLICT"),
        (SpanKind.SERVER, Unavailable("of ulf"), "UNAVAILABLE", "UNAVAILABLE"),
        (SpanKind.SERVER, KeyError("ulf"), "KeyError", "KeyError"),
        (SpanKind.SERVER, TimeoutError(), "TIMEOUT", "TIMEOUT"),
    ],
)
def test_a_failure_is_shown_by_its_code_and_blamed_on_its_side(
    spans: Spans, kind: SpanKind, error: Exception, code: str, status: str | None
) -> None:
    with (
        pytest.raises(type(error)),
        traces.root({}, lambda: Described("request", kind, {})),
    ):
        raise error

    assert _error(spans[0]) == (code, status)
    assert not spans[0].events  # an exception's text may hold a name


class _Echo:
    async def say(self, request: bytes, context: Any) -> bytes:
        if request == b"taken":
            raise Conflict(code="NAME_TAKEN")
        with traces.span(_request, "inside"):
            return request

    def register(self, target: grpc.aio.Server) -> None:
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.say)
        target.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("scoreboard.Echo", {"Say": handler})]
        )


async def test_a_call_is_a_span_of_both_its_units(spans: Spans, certificates: Certificates) -> None:
    callers = {ECHO: frozenset({"gateway"})}
    async with served(
        "auth", _Echo().register, certificates=certificates, callers=callers, caller="gateway"
    ) as channel:
        say: Any = channel.unary_unary(ECHO)
        await say(b"not sampled")
        assert spans == []
        with traces.root({}, _request):
            assert await say(b"x") == b"x"
            with pytest.raises(Conflict):
                await say(b"taken")

    inside, answered, made, refused, failed, root = spans
    assert [span.kind for span in (answered, made)] == [SpanKind.SERVER, SpanKind.CLIENT]
    family = [root, made, answered, inside]
    for parent, child in pairwise(family):
        assert child.parent is not None
        assert child.parent.span_id == parent.context.span_id
        assert child.context.trace_id == root.context.trace_id
    assert _shown(made) == {"rpc.system.name": "grpc", "rpc.method": "scoreboard.Echo/Say"}
    assert (_error(refused), _error(failed)) == (("NAME_TAKEN", None), ("NAME_TAKEN", "NAME_TAKEN"))
    assert _shown(failed)["rpc.response.status_code"] == "FAILED_PRECONDITION"


async def test_a_flight_is_linked_with_every_sampled_item_and_carries_on(spans: Spans) -> None:
    gate = asyncio.Event()

    async def send(items: list[int], timeout_s: float) -> Sequence[int | Failed]:
        with traces.span(_request, "callee"):
            await gate.wait()
        return [Invalid(code="ODD") if item % 2 else item for item in items]

    batcher = Batcher(send, name="test")

    async def request(item: int, *, sampled: bool = True) -> None:
        if sampled:
            with traces.root({}, _request):
                await batcher.submit(item, timeout_s=10)
        else:
            await batcher.submit(item, timeout_s=10)

    alone = asyncio.create_task(request(0, sampled=False))
    await asyncio.sleep(0)  # It flies, so that all others gather.
    count = BATCH_MAX - 1
    others = [asyncio.create_task(request(item)) for item in range(count)]
    others.append(asyncio.create_task(request(0, sampled=False)))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(alone, *others, return_exceptions=True)

    items = [span for span in spans if span.name == "batch test"]
    requests = {span.context.span_id: span for span in spans if span.name == "request"}
    (flight,) = [span for span in spans if span.name == "flight test"]
    (callee,) = [span for span in spans if span.name == "callee"]
    assert len(items) == len(requests) == count
    assert _shown(flight) == {"batch.name": "test", "batch.items": BATCH_MAX}
    assert {link.context.span_id for link in flight.links} == {i.context.span_id for i in items}
    assert callee.parent == flight.context
    for item in items:
        assert [link.context for link in item.links] == [flight.context]
        assert item.parent is not None
        assert requests[item.parent.span_id].context.trace_id == item.context.trace_id
        assert _shown(item)["batch.wait_s"] >= 0
    assert [_error(item) for item in items].count(("ODD", "ODD")) == count // 2


async def test_a_flight_without_a_sampled_item_is_no_span(spans: Spans) -> None:
    present: list[str | None] = []

    async def send(items: list[int], timeout_s: float) -> Sequence[int | Failed]:
        present.append(traces.trace_id())
        return items

    batcher = Batcher(send, name="test")
    with traces.root({}, _request):
        first = asyncio.create_task(batcher.submit(1, timeout_s=10))
        await asyncio.sleep(0)
    # Carried by the same task, which the sampled request began.
    await asyncio.gather(first, batcher.submit(2, timeout_s=10))

    assert [trace is None for trace in present] == [False, True]
    assert sorted(span.name for span in spans) == ["batch test", "flight test", "request"]


async def test_statements_are_spans_without_their_parameters(
    spans: Spans, new_database: Callable[[], Awaitable[str]]
) -> None:
    async with open_database(await new_database()) as database:
        await database.fetch("SELECT $1::text", "unsampled")
        assert spans == []
        with traces.root({}, _request):
            async with database.transaction() as connection:
                await connection.execute("CREATE SCHEMA thing")
                await connection.execute("CREATE TABLE thing.names (name text PRIMARY KEY)")
                insert = "INSERT INTO thing.names VALUES ($1)"
                await connection.execute(insert, "ulf")
                await connection.executemany(insert, [("bob",)])
                await connection.fetchval("SELECT name FROM thing.names WHERE name = $1", "ulf")
                await connection.fetchrow("SELECT name FROM thing.names WHERE name = $1", "ulf")
            with pytest.raises(asyncpg.UniqueViolationError):
                await database.fetch(insert, "ulf")

    assert [span.name for span in spans[:-1]] == [
        "BEGIN;",
        "CREATE SCHEMA thing",
        "CREATE TABLE thing.names",
        "INSERT INTO thing.names",
        "INSERT INTO thing.names",
        "SELECT thing.names",
        "SELECT thing.names",
        "COMMIT;",
        "INSERT INTO thing.names",
    ]
    assert _error(spans[-2]) == ("23505", "23505")
    assert _shown(spans[3]) == {
        "db.system.name": "postgresql",
        "db.operation.name": "INSERT",
        "db.query.summary": "INSERT INTO thing.names",
        "db.collection.name": "thing.names",
    }
    assert not any(name in str([span.to_json() for span in spans]) for name in ("ulf", "bob"))


@pytest.mark.parametrize(
    ("sql", "summary"),
    [
        ("WITH a AS (SELECT 1 FROM x.read) INSERT\n INTO x.t SELECT 1", "INSERT INTO x.t"),
        ("select n from x.t where n in (select n from x.u)", "SELECT x.t"),
        ("UPDATE x.t SET n = 1", "UPDATE x.t"),
        ("DELETE FROM x.t USING x.u", "DELETE FROM x.t"),
        ("SELECT * FROM x.made($1)", "SELECT x.made"),
        ("  SET LOCAL lock_timeout = '5s'", "SET LOCAL lock_timeout"),
    ],
)
def test_a_statement_is_named_by_what_it_writes_else_reads(sql: str, summary: str) -> None:
    assert statement(sql).name == summary


async def test_commands_are_spans_by_their_names_alone(spans: Spans, redis: Redis) -> None:
    script = Script(redis, "return redis.call('SET', KEYS[1], ARGV[1])", name="keep")
    await redis.set("key-ulf", "value-ulf")
    assert spans == []
    with traces.root({}, _request):
        await redis.set("key-ulf", "value-ulf")
        await script.many([(["key-ulf"], ["value-ulf"])] * 2)
        await redis.execute_many([("GET", "key-ulf"), ("GET", "key-bob")], atomic=True)
        await redis.execute_many([("GET", "key-ulf"), ("DEL", "key-ulf")])
        async with redis.pipeline(transaction=False) as pipe:
            pipe.get("key-ulf")
            await pipe.execute()
        with pytest.raises(Exception, match="not an integer"):
            await redis.execute_many([("SET", "key-ulf", "x"), ("INCR", "key-ulf")])
        with pytest.raises(Exception, match="not an integer"):
            await redis.incr("key-ulf")

    names = [span.name for span in spans]
    assert names[0] == "SET"
    # The first call finds no script there, and sends it.
    assert names[1:3] == ["EVALSHA keep", "EVAL keep"]
    assert names[3:] == ["GET", "PIPELINE", "GET", "PIPELINE", "INCRBY", "request"]
    assert _shown(spans[2]) == {
        "db.system.name": "redis",
        "db.operation.name": "EVAL",
        "db.stored_procedure.name": "keep",
        "db.operation.batch.size": 2,
    }
    assert _shown(spans[4])["db.query.summary"] == "GET DEL"
    assert _error(spans[6]) == _error(spans[7]) == ("ResponseError", "ResponseError")
    assert "ulf" not in str([span.to_json() for span in spans])
