"""Channels to other units: deadlines, retries, traces, and failures as they were raised."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any, Self
from weakref import WeakSet

import grpc
from prometheus_client import Counter

from chassis import errors, telemetry
from chassis.errors import Timeout, Unavailable
from chassis.rpc import tls
from chassis.rpc.server import HOP_S, MESSAGE_BYTES_MAX, deadline
from chassis.rpc.spans import called
from chassis.telemetry import traces

# Only UNAVAILABLE is tried again, and only where a peer says that asking twice does no
# harm: every method drawn between our units is such a one, by attempt and incident ids.
_RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def open_channel(
    target: str,
    *,
    unit: str,
    identity: tls.Identity,
    timeout_s: float = 5.0,
    once: tuple[str, ...] = (),
) -> grpc.aio.Channel:
    """A channel to `unit` at `target` (`host:port`, or `dns:///…` for several replicas).

    A call's deadline is `timeout_s` unless it names its own, and never later than the
    present request's own deadline less 20 ms. Calls of the methods `once`
    (`package.Service/Method`) are never tried again. Failures are raised as
    `chassis.errors` classes that keep the peer's code.

    Within its context the channel follows `identity`: after a change it connects again, uses
    the new connections once they are ready, and lets the calls in flight end on the old ones.
    A stream still open after `identity.drain_s` returns EOF; its reader calls again.
    """
    options = [
        ("grpc.ssl_target_name_override", unit),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.service_config", _service_config(once)),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]

    def connect(files: tls.Files) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, tls.for_client(files), options=options)

    return _Channel(connect, identity, unit, timeout_s)


def _service_config(once: tuple[str, ...]) -> str:
    names = [dict(zip(("service", "method"), path.split("/"), strict=True)) for path in once]
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            # A replica that drains reports itself as not serving, and gets no more calls.
            "healthCheckConfig": {"serviceName": ""},
            # The budget: when more than one call in ten needs a retry, none gets one.
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
            "methodConfig": [{"name": names}] * bool(names)
            + [{"name": [{}], "retryPolicy": _RETRY}],
        }
    )


class _Channel(grpc.aio.Channel):
    """A channel whose unary calls have deadlines and traces, and fail as `chassis.errors`.

    gRPC's own interceptors would do, at a task for each call and a quarter of its cost. What
    connects is the inner channel, replaced by another one when the identity changes.
    """

    def __init__(
        self,
        connect: Callable[[tls.Files], grpc.aio.Channel],
        identity: tls.Identity,
        unit: str,
        timeout_s: float,
    ) -> None:
        self._connect = connect
        self._identity = identity
        self._files = identity.files
        self._inner = connect(self._files)
        self._unit = unit
        self._timeout_s = timeout_s
        self._methods: WeakSet[_Method] = WeakSet()
        self._following: asyncio.Task[None] | None = None
        self._draining: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        ending = [*self._draining, *([self._following] if self._following else [])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    def unary_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        bound = self._method("unary_unary", method, *arguments, **named)
        unit = self._unit

        async def call_traced(request: Any, *, timeout: float | None = None) -> Any:
            left_s = _left_s(self._timeout_s if timeout is None else timeout)
            with traces.span(called, method) as span:
                metadata = span and ((traces.TRACEPARENT, traces.header(span)),)
                try:
                    reply = await bound.call(request, timeout=left_s, metadata=metadata)
                except grpc.aio.AioRpcError as error:
                    if span:
                        span.set_attribute("rpc.response.status_code", error.code().name)
                    failed = errors.from_call(error)
                    _counter(unit, method, failed.code).inc()
                    raise failed from None
                except asyncio.CancelledError:
                    if _is_cancelled():
                        raise
                    failed = Unavailable()
                    _counter(unit, method, failed.code).inc()
                    raise failed from None
            _counter(unit, method, "OK").inc()
            return reply

        return call_traced

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._stream("unary_stream", *arguments, **named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        raise NotImplementedError

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._stream("stream_stream", *arguments, **named)

    def _stream(self, *arguments: Any, **named: Any) -> Any:
        method = self._method(*arguments, **named)
        return lambda *request, **options: _Stream(method.call(*request, **options))

    def _method(self, kind: str, *arguments: Any, **named: Any) -> "_Method":
        method = _Method(lambda inner: getattr(inner, kind)(*arguments, **named))
        method.use(self._inner)
        self._methods.add(method)
        return method

    # ---- after a change of the identity ----

    async def _follow(self) -> None:
        while True:
            await self._identity.until_other_than(self._files)
            await self._replace()

    async def _replace(self) -> None:
        """Connects with the identity's files, and uses that once it is no worse than before."""
        files = self._identity.files
        new = self._connect(files)
        waits = [
            asyncio.create_task(new.channel_ready()),
            asyncio.create_task(_failing(self._inner)),
            asyncio.create_task(self._identity.until_other_than(files)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await new.close()
            raise
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if files is not self._identity.files:
            await new.close()  # the next round takes the newest
            return
        old, self._inner, self._files = self._inner, new, files
        for method in self._methods:
            method.use(new)
        draining = asyncio.create_task(_drain(old, grace_s=self._identity.drain_s))
        self._draining.add(draining)
        draining.add_done_callback(self._draining.discard)


class _Method:
    """A method as the present inner channel calls it."""

    def __init__(self, bind: Callable[[grpc.aio.Channel], Any]) -> None:
        self._bind = bind

    def use(self, inner: grpc.aio.Channel) -> None:
        self.call = self._bind(inner)


class _Stream:
    """A call of a stream that ends with EOF when its channel is closed."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def read(self) -> Any:
        try:
            return await self._call.read()
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return grpc.aio.EOF

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def write(self, message: Any) -> None:
        await self._call.write(message)

    def cancel(self) -> bool:
        return bool(self._call.cancel())


async def _failing(inner: grpc.aio.Channel) -> None:
    """Returns when the channel cannot connect."""
    while (state := inner.get_state()) is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
        await inner.wait_for_state_change(state)


async def _drain(inner: grpc.aio.Channel, *, grace_s: float) -> None:
    """Closes the channel when its calls have ended, at the latest after `grace_s`."""
    try:
        await inner.close(grace_s)
    finally:
        await inner.close()  # at once, where this task is cancelled


def _is_cancelled() -> bool:
    """Whether the task is; else a CancelledError is gRPC's, of a call on a closed channel."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


@cache
def _counter(unit: str, method: str, code: str) -> Counter:
    # Kept, since finding it by its labels costs more than counting does. The failure that alerts
    # are about is there with the first call, since one that appears with its first event has no
    # rate for it.
    telemetry.grpc_client_requests.labels(unit, method, Unavailable().code)
    return telemetry.grpc_client_requests.labels(unit, method, code)


def _left_s(timeout_s: float) -> float:
    """What a call may take. Raises Timeout where that is nothing."""
    until = deadline.get()
    if until is not None:
        timeout_s = min(timeout_s, until - time.monotonic() - HOP_S)
    if timeout_s <= 0:
        raise Timeout
    return timeout_s
