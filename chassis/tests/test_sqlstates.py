"""What a caller gets for an error of Postgres: by SQLSTATE, from a real one, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import asyncpg
import grpc
import pytest

from chassis.errors import Failed, Internal, Timeout, Unavailable, from_call
from chassis.postgres import Database, open_pool
from chassis.testing import Certificates, served

NewDatabase = Callable[[], Awaitable[str]]
RUN = "/scoreboard.Statements/Run"

UNAVAILABLE = (Unavailable, "DB_UNAVAILABLE", 1)
REFUSED = (Internal, "DB_ERROR", 0)
Expected = tuple[type[Failed], str, int]


class Row(NamedTuple):
    """An error, and the failure's kind, code and Retry-After."""

    sqlstate: str
    is_: str
    expected: Expected


ROWS = (
    Row("08000", "connection exception", UNAVAILABLE),
    Row("08003", "connection does not exist", UNAVAILABLE),
    Row("08006", "connection failure", UNAVAILABLE),
    Row("25006", "read-only transaction", UNAVAILABLE),
    Row("25P03", "idle in transaction for too long", UNAVAILABLE),
    Row("25P04", "transaction timeout", UNAVAILABLE),
    Row("40001", "serialization failure", UNAVAILABLE),
    Row("40003", "statement completion unknown", UNAVAILABLE),
    Row("40P01", "deadlock", UNAVAILABLE),
    Row("53000", "insufficient resources", UNAVAILABLE),
    Row("53100", "disk full", UNAVAILABLE),
    Row("53200", "out of memory", UNAVAILABLE),
    Row("53300", "too many connections", UNAVAILABLE),
    Row("53400", "configuration limit exceeded", UNAVAILABLE),
    Row("55P03", "lock not available", UNAVAILABLE),
    Row("57014", "query canceled", UNAVAILABLE),
    Row("57P01", "admin shutdown", UNAVAILABLE),
    Row("57P02", "crash shutdown", UNAVAILABLE),
    Row("57P03", "cannot connect now", UNAVAILABLE),
    Row("57P04", "database dropped", UNAVAILABLE),
    Row("57P05", "idle session timeout", UNAVAILABLE),
    Row("58030", "I/O error", UNAVAILABLE),
    Row("22003", "numeric value out of range", REFUSED),
    Row("23505", "unique violation", REFUSED),
    Row("23514", "check violation", REFUSED),
    Row("25P02", "in failed transaction", REFUSED),
    Row("42501", "insufficient privilege", REFUSED),
    Row("42601", "syntax error", REFUSED),
    Row("42P01", "undefined table", REFUSED),
    Row("P0001", "raise exception", REFUSED),
    Row("XX000", "internal error", REFUSED),
    Row("XX001", "data corrupted", REFUSED),
    Row("ZZ123", "one of our own that is not handled", REFUSED),
)


class Statements:
    """Runs the SQL that it is sent, by the way that most stores take, and by a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, request: bytes, context: Any) -> bytes:
        way, sql = request.decode().split(" ", 1)
        if way == "fetch":
            await self._database.fetch(sql)
        else:
            async with self._database.transaction() as connection:
                await connection.execute(sql)
        return b""

    async def stream(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await self.run(request, context)

    def register(self, target: grpc.aio.Server) -> None:
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Run": grpc.unary_unary_rpc_method_handler(self.run),
            "Stream": grpc.stream_stream_rpc_method_handler(self.stream),
        }
        target.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("scoreboard.Statements", methods)]
        )


@pytest.fixture(scope="module")
async def url(new_database: NewDatabase) -> str:
    url = await new_database()
    admin = await asyncpg.connect(url)
    await admin.execute(
        "CREATE FUNCTION fail(code text) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'secret detail' USING ERRCODE = code; END $$;"
        "CREATE TABLE notes (value int)"
    )
    await admin.close()
    return url


@pytest.fixture(scope="module")
async def channel(url: str, certificates: Certificates) -> AsyncIterator[grpc.aio.Channel]:
    stream = RUN.replace("Run", "Stream")
    who = dict.fromkeys((RUN, stream), frozenset({"gateway"}))
    async with (
        open_pool(url, size_max=2) as pool,
        served(
            "auth",
            Statements(Database(pool)).register,
            certificates=certificates,
            callers=who,
            caller="gateway",
        ) as opened,
    ):
        yield opened


async def failure(
    channel: grpc.aio.Channel, request: str, *, timeout_s: float = 10.0
) -> tuple[Expected, str]:
    """Kind, code and Retry-After of the failure, and what else it says."""
    call: Any = channel.unary_unary(RUN)
    with pytest.raises(Failed) as raised:
        await call(request.encode(), timeout=timeout_s)
    failed = raised.value
    return (type(failed), failed.code, failed.retry_after_s), failed.detail


@pytest.mark.parametrize("way", ["fetch", "transaction"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.sqlstate} {row.is_}")
async def test_an_error_of_postgres_is_unavailability_or_a_fault_of_ours(
    channel: grpc.aio.Channel, way: str, row: Row
) -> None:
    found, detail = await failure(channel, f"{way} SELECT fail('{row.sqlstate}')")

    assert found == row.expected
    assert "secret" not in detail


async def test_a_stream_ends_with_the_same_failure(channel: grpc.aio.Channel) -> None:
    call: Any = channel.stream_stream(RUN.replace("Run", "Stream"))

    async def requests() -> AsyncIterator[bytes]:
        yield b"fetch SELECT fail('23505')"
        await asyncio.Event().wait()

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in call(requests()):
            pass
    failed = from_call(raised.value)
    assert (type(failed), failed.code, failed.retry_after_s) == REFUSED


async def test_a_statement_that_outlives_its_request_is_a_timeout(
    channel: grpc.aio.Channel,
) -> None:
    (kind, code, _), _ = await failure(channel, "fetch SELECT pg_sleep(10)", timeout_s=0.3)

    assert (kind, code) == (Timeout, "TIMEOUT")


@pytest.mark.parametrize(
    ("setting", "statement"),
    [
        ("statement_timeout", "SELECT pg_sleep(10)"),
        ("lock_timeout", "LOCK TABLE notes"),
        ("transaction_timeout", "SELECT pg_sleep(10)"),
    ],
)
async def test_a_limit_that_the_server_has_of_its_own_is_unavailability(
    channel: grpc.aio.Channel, url: str, setting: str, statement: str
) -> None:
    blocker = await asyncpg.connect(url)
    held = blocker.transaction()
    await held.start()
    await blocker.execute("LOCK TABLE notes")

    found, _ = await failure(channel, f"transaction SET LOCAL {setting} = '50ms'; {statement}")

    await held.rollback()
    await blocker.close()
    assert found == UNAVAILABLE
