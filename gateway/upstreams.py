"""The ways to the services: one channel each, and batchers for the hot calls."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import grpc

from chassis import errors
from chassis.batching import Batcher
from chassis.errors import Failed
from chassis.rpc.client import open_channel
from chassis.rpc.server import deadline
from chassis.rpc.tls import open_identity
from gateway.settings import Settings
from protos import actions_pb2, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from protos.auth_pb2_grpc import AuthStub
from protos.fraud_pb2_grpc import FraudStub
from protos.scores_pb2_grpc import ScoresStub

BUDGET_S = 5.0
UNITS = ("auth", "actions", "scores", "fraud", "realtime")

# Never tried again: that would make a second account, or a second successor of a token.
_ONCE = {
    "auth": ("scoreboard.Auth/Register", "scoreboard.Auth/Login"),
    "actions": ("scoreboard.Actions/Issue", "scoreboard.Actions/CreateType"),
}


class Upstreams:
    """What the gateway calls. The batchers take single items, the stubs whole requests."""

    issue: Batcher[actions_pb2.IssueItem, actions_pb2.Issued]
    issue_patiently: Batcher[actions_pb2.IssueItem, actions_pb2.Issued]  # awaits settlement
    complete: Batcher[actions_pb2.CompleteItem, actions_pb2.Completed]
    award: Batcher[scores_pb2.AwardItem, scores_pb2.Award]
    top: Batcher[scores_pb2.TopItem, scores_pb2.Top]
    around: Batcher[scores_pb2.AroundItem, scores_pb2.Place]
    would_be: Batcher[scores_pb2.WouldBeItem, scores_pb2.WouldBe]

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], *, batch_max: int) -> None:
        def batcher(name: str, call: Any, request: Callable[..., Any]) -> Batcher[Any, Any]:
            return Batcher(_sender(call, request), batch_max=batch_max, name=name)

        self.channels = channels
        self.auth, self.fraud = AuthStub(channels["auth"]), FraudStub(channels["fraud"])
        self.actions = actions = ActionsStub(channels["actions"])
        self.scores = scores = ScoresStub(channels["scores"])
        patient = partial(actions_pb2.IssueRequest, patient=True)
        self.issue = batcher("issue", actions.Issue, actions_pb2.IssueRequest)
        self.issue_patiently = batcher("issue_patiently", actions.Issue, patient)
        self.complete = batcher("complete", actions.Complete, actions_pb2.CompleteRequest)
        self.award = batcher("award", scores.Award, scores_pb2.AwardRequest)
        self.top = batcher("top", scores.Top, scores_pb2.TopRequest)
        self.around = batcher("around", scores.Around, scores_pb2.AroundRequest)
        self.would_be = batcher("would_be", scores.WouldBe, scores_pb2.WouldBeRequest)

    async def drain(self) -> None:
        """Returns when no write waits or flies."""
        for writes in (self.issue, self.issue_patiently, self.complete, self.award):
            await writes.drain()


@asynccontextmanager
async def open_upstreams(settings: Settings) -> AsyncIterator[Upstreams]:
    """Channels to every service, closed with the context once the batchers are empty."""
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(open_identity(settings))
        channels = {}
        for unit in UNITS:
            target = getattr(settings, f"{unit}_target")
            channel = open_channel(target, unit=unit, identity=identity, once=_ONCE.get(unit, ()))
            channels[unit] = await stack.enter_async_context(channel)
        upstreams = Upstreams(channels, batch_max=settings.batch_max)
        yield upstreams
        await upstreams.drain()


def left_s() -> float:
    """What is left of the present request's time. Raises Timeout when that is nothing."""
    until = deadline.get()
    if until is None:
        return BUDGET_S
    left = until - time.monotonic()
    if left <= 0:
        raise errors.Timeout
    return left


def _sender(call: Any, request: Callable[..., Any]) -> Callable[[list[Any], float], Any]:
    async def send(items: list[Any], timeout_s: float) -> list[Any | Failed]:
        reply = await call(request(items=items), timeout=timeout_s)
        return [_result(result) for result in reply.results]

    return send


def _result(result: Any) -> Any | Failed:
    """What stands in the `oneof result` of one item: its success, or its failure."""
    name = result.WhichOneof("result")
    if name is None:
        return errors.Internal("a result without an outcome")
    value = getattr(result, name)
    return errors.from_proto(value) if name == "failure" else value
