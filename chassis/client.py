"""Channels to other units: deadlines, retries, traces, and failures as they were raised."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc

from chassis import errors, telemetry, tls
from chassis.errors import Timeout
from chassis.server import HOP_S, MESSAGE_BYTES_MAX, deadline

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
    return grpc.aio.secure_channel(
        target,
        identity.for_client(),
        interceptors=[_Caller(timeout_s)],
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


class _Caller(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        timeout_s = details.timeout if details.timeout is not None else self._timeout_s
        until = deadline.get()
        if until is not None:
            timeout_s = min(timeout_s, until - asyncio.get_running_loop().time() - HOP_S)
        if timeout_s <= 0:
            raise Timeout
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *telemetry.trace_headers().items())
        call = await continuation(
            grpc.aio.ClientCallDetails(
                method=details.method,
                timeout=timeout_s,
                metadata=metadata,
                credentials=details.credentials,
                wait_for_ready=details.wait_for_ready,
            ),
            request,
        )
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise errors.from_call(error) from None
