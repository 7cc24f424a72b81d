"""Recording fakes of the five services, served over gRPC, and a signer of access tokens."""

import asyncio
import base64
import json
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from grpc_health.v1 import health_pb2

from chassis import clock, errors
from chassis.errors import Failed
from chassis.rpc import server
from chassis.settings import ProcessSettings
from chassis.testing import Certificates
from protos import (
    actions_pb2,
    actions_pb2_grpc,
    auth_pb2,
    auth_pb2_grpc,
    fraud_pb2,
    fraud_pb2_grpc,
    realtime_pb2,
    realtime_pb2_grpc,
    scores_pb2,
    scores_pb2_grpc,
)
from protos.arrows import callers

ISSUER, AUDIENCE = "https://scoreboard.test", "scoreboard"
ADA, BOB = "0190a000-0000-7000-8000-00000000000a", "0190a000-0000-7000-8000-00000000000b"
ACTION = "0190a000-0000-7000-8000-0000000000aa"
PLAYER = "actions:write scores:read realtime:subscribe profile:write"
MODERATOR = f"{PLAYER} cases:read cases:decide players:read players:sanction scores:void"
ADMIN = f"{MODERATOR} catalogue:write boards:write rules:publish audit:read"
ARENA = "0190a000-0000-7000-8000-0000000000c1"  # a game server
AT_MS = 1_800_000_000_123
AT = "2027-01-15T08:00:00.123Z"


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def part(value: Any) -> str:
    return encoded(json.dumps(value).encode())


class Signer:
    """Signs access tokens as auth does, and otherwise where a test says so."""

    def __init__(self, kid: str = "key-1") -> None:
        self.kid = kid
        self.key: RSAPrivateKey = generate_private_key(65537, 2048)

    def public(self, **changed: str) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        n, e = (
            encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))
            for value in (numbers.n, numbers.e)
        )
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": n, "e": e}
        return {**key, **changed}

    def claims(self, user_id: str = ADA, scope: str = PLAYER, **changed: Any) -> dict[str, Any]:
        now_s = clock.now_ms() // 1000
        claims = {
            "iss": ISSUER,
            "sub": user_id,
            "aud": AUDIENCE,
            "exp": now_s + 600,
            "iat": now_s,
            "nbf": now_s,
            "jti": secrets.token_hex(8),
            "client_id": "web",
            "scope": scope,
            "roles": ["player"],
            "sid": "0190a000-0000-7000-8000-00000000c0de",
            "ver": 1,
            "name_ver": 3,
            "preferred_username": "ada",
        }
        return {name: value for name, value in {**claims, **changed}.items() if value is not None}

    def signed(self, header: Any, claims: Any) -> str:
        signing = f"{part(header)}.{part(claims)}"
        return f"{signing}.{encoded(self.key.sign(signing.encode(), PKCS1v15(), SHA256()))}"

    def client_token(self, **changed: Any) -> str:
        """A game server's token."""
        left_out = dict.fromkeys(("roles", "sid", "ver", "name_ver", "preferred_username"))
        own = {"client_id": ARENA, "scope": "scores:award", "action_types": ["WIN_GAME"]}
        return self.token(ARENA, **{**left_out, **own, **changed})

    def token(self, user_id: str = ADA, scope: str = PLAYER, **changed: Any) -> str:
        header = {"alg": "RS256", "typ": "at+jwt", "kid": self.kid}
        return self.signed(header, self.claims(user_id, scope, **changed))


@dataclass
class Fakes:
    """The five services: `calls` records every request by method, `answers` overrides one.

    An answer is a value, a failure to raise (or, of a batch, to answer per item), or a
    function of the request or item that gives either.
    """

    signer: Signer
    calls: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    running: dict[str, server.Running] = field(default_factory=dict)
    sanctions: list[fraud_pb2.Sanction] = field(default_factory=list)

    def reset(self) -> None:
        self.calls.clear()
        self.answers.clear()

    async def unary(self, method: str, request: Any, usual: Any) -> Any:
        self.calls[method].append(request)
        answer = self.answers.get(method, usual)
        if callable(answer):
            answer = answer(request)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, Failed):
            raise answer
        return answer

    async def batch(self, method: str, items: Any, result: Any, name: str, usual: Any) -> list[Any]:
        results = []
        for item in items:
            try:
                answer = await self.unary(method, item, usual)
                results.append(result(**{name: answer}))
            except Failed as failed:
                results.append(result(failure=errors.to_proto(failed)))
        return results

    def received(self, method: str) -> Any:
        """The one request of `method`."""
        (request,) = self.calls[method]
        return request


SESSION = auth_pb2.Session(
    user_id=ADA, username="ada", access_token="at", refresh_token="rt", expires_in_s=600
)
AWARD = scores_pb2.Award(
    action_id=ACTION,
    user_id=ADA,
    old_score=50,
    new_score=100,
    score_increment=50,
    old_rank=4,
    rank=2,
    version=2,
    at_ms=AT_MS,
)
ISSUED = actions_pb2.Issued(
    action_id=ACTION,
    action_type="WIN_GAME",
    action_token="v1.token",
    signing_key="key",
    nonce="nonce",
    issued_at_ms=AT_MS,
    expires_at_ms=AT_MS + 330_000,
    score_increment=50,
    min_duration_ms=1000,
    max_duration_ms=300_000,
)
COMPLETED = actions_pb2.Completed(
    action_id=ACTION, action_token="v1.fresh", expires_in_s=300, score_increment=50
)
TYPE = actions_pb2.ActionType(
    action_type="WIN_GAME",
    title="Win a game",
    points=50,
    min_duration_ms=1000,
    max_duration_ms=300_000,
    token_ttl_s=330,
    max_open=5,
)
ENTRIES = [
    scores_pb2.Entry(
        position=position,
        rank=position,
        user_id=user_id,
        username=name,
        score=score,
        reached_at_ms=AT_MS,
    )
    for position, user_id, name, score in ((1, BOB, "bob", 150), (2, ADA, "ada", 100))
]
TOP = scores_pb2.Top(
    board="all_time", period="all", entries=ENTRIES, total=7, updated_at_ms=AT_MS, version=9
)
WOULD_BE = scores_pb2.WouldBe(rank=3, total=7, period="all", board_version=9)
PLACE = scores_pb2.Place(
    board="all_time",
    period="all",
    user_id=ADA,
    rank=2,
    score=100,
    total=7,
    behind=5,
    points_to_next=50,
    neighbours=ENTRIES,
    board_version=9,
)
BOARD = scores_pb2.Board(
    board="daily",
    title="Today",
    operator="sum",
    order="descending",
    ties="first_to_reach",
    reset="day",
    reset_at="00:00",
    zone="UTC",
    window=10,
    public=True,
    resets_at_ms=AT_MS,
)
HIDDEN_BOARD = scores_pb2.Board(
    board="staff",
    title="Staff",
    operator="best",
    order="ascending",
    ties="dense",
    reset="none",
    reset_at="00:00",
    zone="Europe/Berlin",
    window=50,
    action_types=["WIN_GAME"],
)
ROW = scores_pb2.LedgerRow(
    action_id=ACTION,
    kind="award",
    action_type="WIN_GAME",
    points=50,
    old_score=50,
    new_score=100,
    version=2,
    at_ms=AT_MS,
)
VOIDED = scores_pb2.LedgerRow(
    action_id="0190a000-0000-7000-8000-0000000000ab",
    kind="void",
    origin_id=ACTION,
    action_type="WIN_GAME",
    points=-50,
    old_score=100,
    new_score=50,
    version=3,
    at_ms=AT_MS,
)
CLIENT_TOKEN = auth_pb2.ClientTokenReply(access_token="at", expires_in_s=300, scope="scores:award")
ACCOUNTS = [
    auth_pb2.Account(user_id=ADA, username="ada", name_version=3),
    auth_pb2.Account(user_id=BOB, username="bob", name_version=1),
]


class _Auth(auth_pb2_grpc.AuthServicer):
    def __init__(self, fakes: Fakes) -> None:
        self._fakes = fakes

    async def Register(self, request: Any, context: Any) -> Any:
        return await self._fakes.unary("Register", request, SESSION)

    async def Login(self, request: Any, context: Any) -> Any:
        return await self._fakes.unary("Login", request, SESSION)

    async def Refresh(self, request: Any, context: Any) -> Any:
        return await self._fakes.unary("Refresh", request, SESSION)

    async def Keys(self, request: Any, context: Any) -> Any:
        document = json.dumps({"keys": [self._fakes.signer.public()]}).encode()
        return await self._fakes.unary("Keys", request, auth_pb2.KeysReply(jwks=document))

    async def ClientToken(self, request: Any, context: Any) -> Any:
        return await self._fakes.unary("ClientToken", request, CLIENT_TOKEN)

    async def Names(self, request: Any, context: Any) -> Any:
        found = [account for account in ACCOUNTS if account.user_id in request.user_ids]
        return await self._fakes.unary("Names", request, auth_pb2.NamesReply(accounts=found))


class _Actions(actions_pb2_grpc.ActionsServicer):
    def __init__(self, fakes: Fakes) -> None:
        self._fakes = fakes

    async def Catalogue(self, request: Any, context: Any) -> Any:
        usual = actions_pb2.CatalogueReply(types=[TYPE])
        return await self._fakes.unary("Catalogue", request, usual)

    async def CreateType(self, request: Any, context: Any) -> Any:
        return await self._fakes.unary("CreateType", request, request)

    async def UpdateType(self, request: Any, context: Any) -> Any:
        changed = actions_pb2.ActionType()
        changed.CopyFrom(TYPE)
        for name in request.fields:
            changed.ClearField(name)
        changed.MergeFrom(request.type)
        return await self._fakes.unary("UpdateType", request, changed)

    async def Issue(self, request: Any, context: Any) -> Any:
        method = "IssuePatiently" if request.patient else "Issue"
        results = await self._fakes.batch(
            method, request.items, actions_pb2.IssueResult, "issued", ISSUED
        )
        return actions_pb2.IssueReply(results=results)

    async def Complete(self, request: Any, context: Any) -> Any:
        results = await self._fakes.batch(
            "Complete", request.items, actions_pb2.CompleteResult, "completed", COMPLETED
        )
        return actions_pb2.CompleteReply(results=results)

    async def Get(self, request: Any, context: Any) -> Any:
        usual = actions_pb2.Action(
            action_id=ACTION,
            action_type="WIN_GAME",
            state="requested",
            issued_at_ms=AT_MS,
            expires_at_ms=AT_MS,
        )
        return await self._fakes.unary("Get", request, usual)


class _Scores(scores_pb2_grpc.ScoresServicer):
    def __init__(self, fakes: Fakes) -> None:
        self._fakes = fakes

    async def Award(self, request: Any, context: Any) -> Any:
        results = await self._fakes.batch(
            "Award", request.items, scores_pb2.AwardResult, "award", AWARD
        )
        return scores_pb2.AwardReply(results=results)

    async def GiveUp(self, request: Any, context: Any) -> Any:
        return await self._fakes.unary("GiveUp", request, scores_pb2.GiveUpReply())

    async def Receipt(self, request: Any, context: Any) -> Any:
        return await self._fakes.unary("Receipt", request, AWARD)

    async def Boards(self, request: Any, context: Any) -> Any:
        usual = scores_pb2.BoardsReply(boards=[BOARD, HIDDEN_BOARD])
        return await self._fakes.unary("Boards", request, usual)

    async def CreateBoard(self, request: Any, context: Any) -> Any:
        return await self._fakes.unary("CreateBoard", request, request)

    async def CheckBoard(self, request: Any, context: Any) -> Any:
        return await self._fakes.unary("CheckBoard", request, scores_pb2.CheckBoardReply())

    async def History(self, request: Any, context: Any) -> Any:
        usual = scores_pb2.HistoryReply(rows=[VOIDED, ROW], next_cursor="older")
        return await self._fakes.unary("History", request, usual)

    async def Reverse(self, request: Any, context: Any) -> Any:
        usual = scores_pb2.ReverseReply(
            rows=[VOIDED], old_score=100, new_score=50, dry_run=request.dry_run
        )
        return await self._fakes.unary("Reverse", request, usual)

    async def WouldBe(self, request: Any, context: Any) -> Any:
        results = await self._fakes.batch(
            "WouldBe", request.items, scores_pb2.WouldBeResult, "would_be", WOULD_BE
        )
        return scores_pb2.WouldBeReply(results=results)

    async def Top(self, request: Any, context: Any) -> Any:
        results = await self._fakes.batch("Top", request.items, scores_pb2.TopResult, "top", TOP)
        return scores_pb2.TopReply(results=results)

    async def Around(self, request: Any, context: Any) -> Any:
        results = await self._fakes.batch(
            "Around", request.items, scores_pb2.AroundResult, "place", PLACE
        )
        return scores_pb2.AroundReply(results=results)

    async def Ranks(self, request: Any, context: Any) -> Any:
        usual = scores_pb2.RanksReply(entries=ENTRIES, period="all", board_version=9)
        return await self._fakes.unary("Ranks", request, usual)


class _Fraud(fraud_pb2_grpc.FraudServicer):
    def __init__(self, fakes: Fakes) -> None:
        self._fakes = fakes

    async def SanctionsSince(self, request: Any, context: Any) -> Any:
        newer = [s for s in self._fakes.sanctions if s.version > request.version]
        usual = fraud_pb2.SanctionsSinceReply(sanctions=newer)
        return await self._fakes.unary("SanctionsSince", request, usual)


class _Realtime(realtime_pb2_grpc.RealtimeServicer):
    def __init__(self, fakes: Fakes) -> None:
        self._fakes = fakes

    async def Attach(self, requests: Any, context: Any) -> Any:
        async for frame in requests:
            for position in frame.interest.add:
                state = realtime_pb2.ChannelState(channel=position.channel, unknown=True)
                yield realtime_pb2.FeedFrame(state=state)


_SERVICES: dict[str, tuple[Any, Any]] = {
    "auth": (_Auth, auth_pb2_grpc.add_AuthServicer_to_server),
    "actions": (_Actions, actions_pb2_grpc.add_ActionsServicer_to_server),
    "scores": (_Scores, scores_pb2_grpc.add_ScoresServicer_to_server),
    "fraud": (_Fraud, fraud_pb2_grpc.add_FraudServicer_to_server),
    "realtime": (_Realtime, realtime_pb2_grpc.add_RealtimeServicer_to_server),
}


@asynccontextmanager
async def fake_services(certificates: Certificates) -> AsyncIterator[Fakes]:
    """All five services, served over real gRPC within the context, healthy."""
    fakes = Fakes(Signer())
    async with AsyncExitStack() as stack:
        for unit, (servicer, add) in _SERVICES.items():
            running = await stack.enter_async_context(
                server.running(
                    partial(add, servicer(fakes)),
                    settings=ProcessSettings(tls_dir=certificates.folder / unit),
                    identity=certificates.identity(unit),
                    callers=callers(unit),
                    checks={},
                )
            )
            fakes.running[unit] = running
            fakes.targets[f"{unit}_target"] = f"127.0.0.1:{running.port}"
            for name in ("postgres", "redis"):
                await running.health.set(name, health_pb2.HealthCheckResponse.SERVING)
        yield fakes
