"""The gRPC server of a unit: who may call, deadlines, failures, one log line, health, drain."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

import asyncpg
import grpc
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.exposition import choose_encoder

from chassis import errors, lag, telemetry
from chassis.errors import Failed, Forbidden, Internal, Timeout
from chassis.postgres import DbError
from chassis.process import stop_signal
from chassis.rpc import tls
from chassis.rpc.spans import served
from chassis.settings import ProcessSettings
from chassis.telemetry import log, traces

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
_NEVER_MS = 2**31 - 1
LEAVE_S = 0.5  # for callers to see that a replica serves no more, and for their calls to arrive
HOP_S = 0.02  # kept back at each hop, so that the nearest caller can still say what was slow

# When the present request must be answered, by the monotonic clock, which is the event loop's
# too but takes no system call to find; None: whenever.
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)

Check = Callable[[], Awaitable[object]]
Register = Callable[[grpc.aio.Server], None]


class CallerRefused(Forbidden):
    """This unit may not call this method."""


async def serve(
    register: Register,
    *,
    settings: ProcessSettings,
    identity: tls.Identity,
    callers: Mapping[str, frozenset[str]],
    checks: Mapping[str, Check],
    draining: Callable[[], None] = lambda: None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal stops at once.

    `register` adds the servicers. `callers` names, by method path, the units that may
    call it. `checks` are the dependencies by name: checked every 2 s, reported by
    `grpc.health.v1` under that name. The loss of one does not end readiness.
    `draining` is called when new calls are refused, to end the streams that end by nothing else.
    """
    stop = stop_signal()
    async with (
        running(
            register, settings=settings, identity=identity, callers=callers, checks=checks
        ) as server,
        operations(settings, ready=lambda: not stop.is_set()) as ops_port,
    ):
        log.info("ready", port=server.port, ops_port=ops_port)
        await stop.wait()
        log.info("draining")
        await server.drain(settings, draining)
        log.info("requests_drained")


class Running:
    """A server that listens: its port, health and gRPC server."""

    def __init__(self, server: grpc.aio.Server, health: health.aio.HealthServicer, port: int):
        self.grpc = server
        self.health = health
        self.port = port

    async def drain(
        self, settings: ProcessSettings, draining: Callable[[], None] = lambda: None
    ) -> None:
        """Lets callers turn to other replicas, then refuses new calls; `draining` as in `serve`.

        Returns when no call is in flight; what is left after `drain_s` is cancelled.
        """
        await self.health.enter_graceful_shutdown()
        # gRPC cancels what has arrived when a server stops and was not begun yet, and a caller
        # cannot distinguish that from what was begun. So nothing more may arrive by then.
        await asyncio.sleep(max(settings.drain_pause_s, LEAVE_S))
        # The stop refuses new calls in its first step, before any stream is ended.
        stopping = asyncio.create_task(self.grpc.stop(settings.drain_s))
        await asyncio.sleep(0)
        draining()
        await stopping


@asynccontextmanager
async def running(
    register: Register,
    *,
    settings: ProcessSettings,
    identity: tls.Identity,
    callers: Mapping[str, frozenset[str]],
    checks: Mapping[str, Check],
) -> AsyncIterator[Running]:
    """The server of `serve`, listening within the context."""
    server = grpc.aio.server(
        interceptors=[_Gate(callers)],
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            # Channels look up addresses only when a connection ends, so connections do end.
            ("grpc.max_connection_age_ms", round(settings.connection_age_s * 1000) or _NEVER_MS),
            ("grpc.max_connection_age_grace_ms", 30_000),
            ("grpc.so_reuseport", 0),
        ],
    )
    register(server)
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    port = server.add_secure_port(f"{settings.host}:{settings.port}", identity.for_server())
    await server.start()
    watching = asyncio.create_task(_watch(status, checks))
    try:
        await status.set("", health_pb2.HealthCheckResponse.SERVING)
        freeze_garbage()
        yield Running(server, status, port)
    finally:
        watching.cancel()
        await server.stop(0)


@asynccontextmanager
async def operations(settings: ProcessSettings, *, ready: Callable[[], bool]) -> AsyncIterator[int]:
    """The operations port within the context: /livez, /readyz, /metrics, plain HTTP.

    Returns its port. Liveness is that the event loop turns; readiness is `ready()`.
    """

    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        if ready():
            return web.Response(text="ready\n")
        return web.Response(text="no\n", status=503, headers={"Retry-After": "1"})

    async def metrics(request: web.Request) -> web.Response:
        # OpenMetrics where it is requested, since it alone has exemplars.
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})

    app = web.Application()
    for path, handler in (("/livez", livez), ("/readyz", readyz), ("/metrics", metrics)):
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, settings.ops_host, settings.ops_port).start()
    try:
        async with lag.measured():
            yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def freeze_garbage() -> None:
    """Takes what start-up made out of the collector's sight and lets it look less often.

    The collector was 9 % of a loaded process before.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


async def _watch(status: health.aio.HealthServicer, checks: Mapping[str, Check]) -> None:
    """Checks every dependency every 2 s and reports its state under its name."""

    async def ask(name: str, check: Check) -> None:
        try:
            async with asyncio.timeout(1.5):
                await check()
        except Exception as error:
            log.warning("dependency_unavailable", dependency=name, error=repr(error))
            await status.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        else:
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)

    while True:
        await asyncio.gather(*(ask(name, check) for name, check in checks.items()))
        await asyncio.sleep(2)


class _Gate(grpc.aio.ServerInterceptor):
    """Stands before every method: the caller, the deadline, failures, the log line."""

    def __init__(self, callers: Mapping[str, frozenset[str]]) -> None:
        self._callers = callers
        self._handlers: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        known = self._handlers.get(details.method)
        if known is not None:
            return known
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc.health.v1."):
            return handler
        # Made once for each method that there is.
        return self._handlers.setdefault(details.method, self._made(details.method, handler))

    def _made(self, method: str, handler: Any) -> Any:
        allowed = self._callers.get(method, frozenset())
        codec = handler.request_deserializer, handler.response_serializer
        if handler.request_streaming and handler.response_streaming:
            guarded = _guarded_stream(handler.stream_stream, method, allowed)
            return grpc.stream_stream_rpc_method_handler(guarded, *codec)
        guarded = _guarded(handler.unary_unary, method, allowed)
        return grpc.unary_unary_rpc_method_handler(guarded, *codec)


def _guarded(call: Any, method: str, allowed: frozenset[str]) -> Any:
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        started = time.perf_counter()
        failed: Failed | None = None
        left_s = context.time_remaining()
        reply = None
        try:
            _admit(context, method, allowed)
            if left_s is not None:
                deadline.set(time.monotonic() + left_s)
            with traces.continued(partial(_traceparent, context), served, method):
                async with asyncio.timeout(left_s):
                    reply = await call(request, context)
        except TimeoutError:
            failed = Timeout()
        except Failed as error:
            failed = error
        except Exception as error:
            failed = DbError() if isinstance(error, asyncpg.PostgresError) else Internal()
            log.exception("call_crashed", method=method)
        _record(method, failed, time.perf_counter() - started)
        if failed is not None:
            await _abort(context, failed)
        return reply

    return answer


def _guarded_stream(call: Any, method: str, allowed: frozenset[str]) -> Any:
    async def answer(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        failed: Failed | None = None
        started = time.perf_counter()
        try:
            _admit(context, method, allowed)
            async for reply in call(requests, context):
                yield reply
        except Failed as error:
            failed = error
        except Exception as error:
            failed = DbError() if isinstance(error, asyncpg.PostgresError) else Internal()
            log.exception("call_crashed", method=method)
        finally:
            _record(method, failed, time.perf_counter() - started)
        if failed is not None:
            await _abort(context, failed)

    return answer


def _admit(
    context: grpc.aio.ServicerContext[Any, Any], method: str, allowed: frozenset[str]
) -> None:
    caller = tls.caller(context)
    if caller not in allowed:
        log.warning("caller_refused", stream="security", caller=caller, method=method)
        raise CallerRefused


async def _abort(context: grpc.aio.ServicerContext[Any, Any], failed: Failed) -> None:
    trailer = errors.to_proto(failed).SerializeToString()
    await context.abort(failed.status, failed.detail, ((errors.TRAILER, trailer),))


def _traceparent(context: grpc.aio.ServicerContext[Any, Any]) -> str | None:
    metadata: Sequence[tuple[str, Any]] = context.invocation_metadata() or ()  # type: ignore[assignment]
    return next((value for key, value in metadata if key == traces.TRACEPARENT), None)


@cache
def _meters(method: str, code: str) -> tuple[Counter, Histogram]:
    # Kept, since finding them by their labels costs more than counting does.
    return telemetry.grpc_requests.labels(method, code), telemetry.grpc_duration.labels(method)


def _record(method: str, failed: Failed | None, took_s: float) -> None:
    code = failed.code if failed else "OK"
    count, duration = _meters(method, code)
    count.inc()
    duration.observe(took_s)
    log.debug("call_answered", method=method, code=code, took_ms=round(took_s * 1000, 1))
