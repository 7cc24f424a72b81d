"""Channels to other units: deadlines, retries, traces, and failures as they were raised."""

import json
import time
from functools import cache
from typing import Any, Self

import grpc
from prometheus_client import Counter

from chassis import errors, telemetry
from chassis.errors import Timeout, Unavailable
from chassis.rpc import tls
from chassis.rpc.server import HOP_S, MESSAGE_BYTES_MAX, deadline

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
    """
    inner = grpc.aio.secure_channel(
        target,
        identity.for_client(),
        options=[
            ("grpc.ssl_target_name_override", unit),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.service_config", _service_config(once)),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.dns_min_time_between_resolutions_ms", 5_000),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ],
    )
    return _Channel(inner, unit, timeout_s)


def _service_config(once: tuple[str, ...]) -> str:
    names = [dict(zip(("service", "method"), path.split("/"), strict=True)) for path in once]
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            # The budget: when more than one call in ten needs a retry, none gets one.
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
            "methodConfig": [{"name": names}] * bool(names)
            + [{"name": [{}], "retryPolicy": _RETRY}],
        }
    )


class _Channel(grpc.aio.Channel):
    """A channel whose unary calls have deadlines and traces, and fail as `chassis.errors`.

    gRPC's own interceptors would do, at a task for each call and a quarter of its cost.
    """

    def __init__(self, inner: grpc.aio.Channel, unit: str, timeout_s: float) -> None:
        self._inner = inner
        self._unit = unit
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    def unary_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        call: Any = self._inner.unary_unary(method, *arguments, **named)
        unit = self._unit

        async def call_traced(request: Any, *, timeout: float | None = None) -> Any:
            metadata = grpc.aio.Metadata(*telemetry.trace_headers().items())
            left_s = _left_s(self._timeout_s if timeout is None else timeout)
            try:
                reply = await call(request, timeout=left_s, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                failed = errors.from_call(error)
                _counter(unit, method, failed.code).inc()
                raise failed from None
            _counter(unit, method, "OK").inc()
            return reply

        return call_traced

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._inner.unary_stream(*arguments, **named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._inner.stream_unary(*arguments, **named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._inner.stream_stream(*arguments, **named)


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
