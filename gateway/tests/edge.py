"""A gateway as its callers meet it, before recording fakes of the services served over gRPC."""

import asyncio
import base64
import json
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from grpc_health.v1 import health_pb2

from chassis import clock, errors, server
from chassis.errors import Failed, Missing
from chassis.settings import ProcessSettings
from chassis.testing import Certificates
from gateway.__main__ import opened
from gateway.addresses import Proxies
from gateway.listener import listening
from gateway.settings import Settings
from protos import (
    actions_pb2,
    actions_pb2_grpc,
    auth_pb2,
    auth_pb2_grpc,
    fraud_pb2,
    fraud_pb2_grpc,
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
AT_MS = 1_800_000_000_123
AT = "2027-01-15T08:00:00.123Z"

UPDATE = {
    "userId": ADA,
    "actionId": ACTION,
    "actionType": "WIN_GAME",
    "scoreIncrement": 50,
    "timestamp": AT,
    "clientSignature": "ab" * 32,
}
PROOF = {"completionTime": 5000, "checksum": "cd" * 32}


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

    def told(self, method: str) -> Any:
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
    scores_pb2.Entry(rank=1, user_id=BOB, username="bob", score=150, reached_at_ms=AT_MS),
    scores_pb2.Entry(rank=2, user_id=ADA, username="ada", score=100, reached_at_ms=AT_MS),
]
TOP = scores_pb2.Top(
    board="all_time", period="all", entries=ENTRIES, total=7, updated_at_ms=AT_MS, version=9
)
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
)
BOARD = scores_pb2.Board(
    board="daily",
    title="Today",
    operator="sum",
    order="descending",
    ties="first_to_reach",
    reset="day",
    window=10,
    public=True,
    resets_at_ms=AT_MS,
)


def _servicers(fakes: Fakes) -> dict[str, Callable[[Any], None]]:
    class Auth(auth_pb2_grpc.AuthServicer):
        async def Register(self, request: Any, context: Any) -> Any:
            return await fakes.unary("Register", request, SESSION)

        async def Login(self, request: Any, context: Any) -> Any:
            return await fakes.unary("Login", request, SESSION)

        async def Refresh(self, request: Any, context: Any) -> Any:
            return await fakes.unary("Refresh", request, SESSION)

        async def Keys(self, request: Any, context: Any) -> Any:
            document = json.dumps({"keys": [fakes.signer.public()]}).encode()
            return await fakes.unary("Keys", request, auth_pb2.KeysReply(jwks=document))

    class Actions(actions_pb2_grpc.ActionsServicer):
        async def Catalogue(self, request: Any, context: Any) -> Any:
            usual = actions_pb2.CatalogueReply(types=[TYPE])
            return await fakes.unary("Catalogue", request, usual)

        async def CreateType(self, request: Any, context: Any) -> Any:
            return await fakes.unary("CreateType", request, request)

        async def Issue(self, request: Any, context: Any) -> Any:
            results = await fakes.batch(
                "Issue", request.items, actions_pb2.IssueResult, "issued", ISSUED
            )
            return actions_pb2.IssueReply(results=results)

        async def Complete(self, request: Any, context: Any) -> Any:
            results = await fakes.batch(
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
            return await fakes.unary("Get", request, usual)

    class Scores(scores_pb2_grpc.ScoresServicer):
        async def Award(self, request: Any, context: Any) -> Any:
            results = await fakes.batch(
                "Award", request.items, scores_pb2.AwardResult, "award", AWARD
            )
            return scores_pb2.AwardReply(results=results)

        async def Receipt(self, request: Any, context: Any) -> Any:
            return await fakes.unary("Receipt", request, AWARD)

        async def Boards(self, request: Any, context: Any) -> Any:
            usual = scores_pb2.BoardsReply(boards=[BOARD])
            return await fakes.unary("Boards", request, usual)

        async def Top(self, request: Any, context: Any) -> Any:
            results = await fakes.batch("Top", request.items, scores_pb2.TopResult, "top", TOP)
            return scores_pb2.TopReply(results=results)

        async def Around(self, request: Any, context: Any) -> Any:
            results = await fakes.batch(
                "Around", request.items, scores_pb2.AroundResult, "place", PLACE
            )
            return scores_pb2.AroundReply(results=results)

        async def Ranks(self, request: Any, context: Any) -> Any:
            usual = scores_pb2.RanksReply(entries=ENTRIES)
            return await fakes.unary("Ranks", request, usual)

    class Fraud(fraud_pb2_grpc.FraudServicer):
        async def SanctionsSince(self, request: Any, context: Any) -> Any:
            newer = [s for s in fakes.sanctions if s.version > request.version]
            usual = fraud_pb2.SanctionsSinceReply(sanctions=newer)
            return await fakes.unary("SanctionsSince", request, usual)

    class Realtime(realtime_pb2_grpc.RealtimeServicer):
        async def Attach(self, requests: Any, context: Any) -> Any:
            await asyncio.Event().wait()
            yield  # pragma: no cover

    return {
        "auth": lambda s: auth_pb2_grpc.add_AuthServicer_to_server(Auth(), s),
        "actions": lambda s: actions_pb2_grpc.add_ActionsServicer_to_server(Actions(), s),
        "scores": lambda s: scores_pb2_grpc.add_ScoresServicer_to_server(Scores(), s),
        "fraud": lambda s: fraud_pb2_grpc.add_FraudServicer_to_server(Fraud(), s),
        "realtime": lambda s: realtime_pb2_grpc.add_RealtimeServicer_to_server(Realtime(), s),
    }


@asynccontextmanager
async def fake_services(certificates: Certificates) -> AsyncIterator[Fakes]:
    """All five services, served over real gRPC within the context, healthy."""
    fakes = Fakes(Signer())
    async with AsyncExitStack() as stack:
        for unit, register in _servicers(fakes).items():
            running = await stack.enter_async_context(
                server.running(
                    register,
                    settings=ProcessSettings(tls_dir=certificates.folder / unit),
                    callers=callers(unit),
                    checks={},
                )
            )
            fakes.running[unit] = running
            fakes.targets[f"{unit}_target"] = f"127.0.0.1:{running.port}"
            for name in ("postgres", "redis"):
                await running.health.set(name, health_pb2.HealthCheckResponse.SERVING)
        yield fakes


@dataclass(frozen=True)
class Answered:
    """What came back for one request."""

    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code; also checks that it is a whole problem."""
        problem = self.json()
        assert self.headers["Content-Type"] == "application/problem+json"
        assert problem["status"] == self.status
        assert problem["requestId"] == self.headers["X-Request-Id"]
        assert problem["type"] == f"urn:scoreboard:problem:{problem['code']}"
        assert problem["title"]
        assert problem["detail"]
        return str(problem["code"])


@dataclass
class Edge:
    """A gateway that listens, and a client of it."""

    base: str
    port: int
    client: aiohttp.ClientSession
    fakes: Fakes
    address: str = "198.51.100.7"

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        address: str | None = None,
    ) -> Answered:
        """Calls `path`; `body` is sent as JSON, `data` as it is."""
        sent = {"X-Forwarded-For": address or self.address, **(headers or {})}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.client.request(method, self.base + path, data=data, headers=sent) as found:
            return Answered(found.status, found.headers, await found.read())

    async def play(self, path: str, body: Any, user_id: str = ADA, **more: Any) -> Answered:
        """Posts to `/api/v1` as a player."""
        token = self.fakes.signer.token(user_id)
        return await self.call("POST", f"/api/v1{path}", body, token=token, **more)


def edge_settings(
    fakes: Fakes, certificates: Certificates, redis_url: str, **changed: Any
) -> Settings:
    given = {
        "tls_dir": certificates.folder / "gateway",
        "redis_url": redis_url,
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "trusted_proxies": Proxies("127.0.0.0/8, ::1/128"),
        **fakes.targets,
    }
    return Settings(**{**given, **changed})


@asynccontextmanager
async def edge_of(settings: Settings, fakes: Fakes) -> AsyncIterator[Edge]:
    """A gateway of these settings within the context."""

    async def farewell() -> None:
        """There are no sockets to tell."""

    async with (
        opened(settings) as app,
        listening(app, settings=settings, farewell=farewell) as port,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client,
    ):
        yield Edge(f"http://127.0.0.1:{port}", port, client, fakes)


def nothing_there(*_: Any) -> Failed:
    return Missing("There is no such thing.", code="ACTION_NOT_FOUND")
