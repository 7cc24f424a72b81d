"""The ways to the services: one channel each, and batchers for the hot calls."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import grpc

from chassis import errors
from chassis.batching import Batcher
from chassis.errors import Failed
from chassis.rpc import tls
from chassis.rpc.client import open_channel
from chassis.rpc.server import deadline
from gateway.settings import Settings
from protos.actions_pb2 import (
    Completed,
    CompleteItem,
    CompleteRequest,
    Issued,
    IssueItem,
    IssueRequest,
)
from protos.actions_pb2_grpc import ActionsStub
from protos.auth_pb2_grpc import AuthStub
from protos.fraud_pb2_grpc import FraudStub
from protos.scores_pb2 import (
    AroundItem,
    AroundRequest,
    Award,
    AwardItem,
    AwardRequest,
    Place,
    Top,
    TopItem,
    TopRequest,
    WouldBe,
    WouldBeItem,
    WouldBeRequest,
)
from protos.scores_pb2_grpc import ScoresStub

Item = TypeVar("Item")
Result = TypeVar("Result")

BUDGET_S = 5.0
UNITS = ("auth", "actions", "scores", "fraud", "realtime")

# Asking twice would make a second account, or a second successor of a token.
_ONCE = {
    "auth": ("scoreboard.Auth/Register", "scoreboard.Auth/Login"),
    "actions": ("scoreboard.Actions/Issue", "scoreboard.Actions/CreateType"),
}


@dataclass(frozen=True)
class Upstreams:
    """What the gateway calls. The batchers take single items, the stubs whole requests."""

    channels: dict[str, grpc.aio.Channel]
    auth: AuthStub
    actions: ActionsStub
    scores: ScoresStub
    fraud: FraudStub
    issue: Batcher[IssueItem, Issued]
    issue_patiently: Batcher[IssueItem, Issued]  # may wait for an award to be settled
    complete: Batcher[CompleteItem, Completed]
    award: Batcher[AwardItem, Award]
    top: Batcher[TopItem, Top]
    around: Batcher[AroundItem, Place]
    would_be: Batcher[WouldBeItem, WouldBe]


@asynccontextmanager
async def open_upstreams(settings: Settings) -> AsyncIterator[Upstreams]:
    """Channels to every service, closed with the context once the batchers are empty."""
    identity = tls.Identity.read(settings.tls_dir)
    async with AsyncExitStack() as stack:
        channels = {}
        for unit in UNITS:
            target = getattr(settings, f"{unit}_target")
            channel = open_channel(target, unit=unit, identity=identity, once=_ONCE.get(unit, ()))
            channels[unit] = await stack.enter_async_context(channel)
        actions = ActionsStub(channels["actions"])
        scores = ScoresStub(channels["scores"])

        def batcher(name: str, call: Any, request: Callable[..., Any]) -> Batcher[Any, Any]:
            return Batcher(_sender(call, request), batch_max=settings.batch_max, name=name)

        upstreams = Upstreams(
            channels=channels,
            auth=AuthStub(channels["auth"]),
            actions=actions,
            scores=scores,
            fraud=FraudStub(channels["fraud"]),
            issue=batcher("issue", actions.Issue, IssueRequest),
            issue_patiently=batcher(
                "issue_patiently", actions.Issue, partial(IssueRequest, patient=True)
            ),
            complete=batcher("complete", actions.Complete, CompleteRequest),
            award=batcher("award", scores.Award, AwardRequest),
            top=batcher("top", scores.Top, TopRequest),
            around=batcher("around", scores.Around, AroundRequest),
            would_be=batcher("would_be", scores.WouldBe, WouldBeRequest),
        )
        yield upstreams
        for waiting in (
            upstreams.issue,
            upstreams.issue_patiently,
            upstreams.complete,
            upstreams.award,
        ):
            await waiting.drain()


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
    """What stands in the `oneof result` of one item: its success, or its failure raised here."""
    name = result.WhichOneof("result")
    if name is None:
        return errors.Internal("a result without an outcome")
    value = getattr(result, name)
    return errors.from_proto(value) if name == "failure" else value
