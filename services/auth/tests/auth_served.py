"""Auth served over gRPC on real stores, and how the tests speak to it."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg
import jwt
import msgspec

from chassis import clock
from chassis.keyring import Keyring
from chassis.postgres import Database
from chassis.redis import Redis
from chassis.testing import Certificates, served
from protos.arrows import callers
from protos.auth_pb2 import (
    Client,
    ClientTokenReply,
    ClientTokenRequest,
    KeysRequest,
    LoginRequest,
    RefreshRequest,
    RegisterRequest,
    Session,
    SetBanRequest,
)
from protos.auth_pb2_grpc import AuthStub, add_AuthServicer_to_server
from services.auth.cache import SessionCache
from services.auth.passwords import Bcrypt, open_passwords
from services.auth.service import AuthService
from services.auth.settings import DAY_S, HOUR_S, MINUTE_S
from services.auth.store import AuthStore
from services.auth.tokens import AccessTokens, Lifetimes, SigningKey

ISSUER, AUDIENCE = "https://auth.test", "scoreboard"
PASSWORD = "a quiet harbour at dawn"
PLAYERS = Lifetimes(access_s=10 * MINUTE_S, idle_s=14 * DAY_S, absolute_s=30 * DAY_S)
STAFF = Lifetimes(access_s=5 * MINUTE_S, idle_s=30 * MINUTE_S, absolute_s=12 * HOUR_S)


def ring(*letters: str) -> Keyring:
    """A ring of keys, each one letter repeated; the last is the current one."""
    lines = [
        f"{number}:{base64.urlsafe_b64encode(letter.encode() * 32).decode().rstrip('=')}"
        for number, letter in enumerate(letters, 1)
    ]
    return Keyring("\n".join(lines))


class RecordingHasher(Bcrypt):
    """bcrypt at its lowest cost, that keeps every hash it compared with."""

    def __init__(self) -> None:
        super().__init__(4)
        self.compared: list[str] = []

    def matches(self, secret: bytes, hashed: str) -> bool:
        self.compared.append(hashed)
        return super().matches(secret, hashed)


@dataclass(frozen=True, kw_only=True)
class Auth:
    """Auth as the gateway sees it, and as fraud does."""

    gateway: AuthStub
    fraud: AuthStub
    hasher: RecordingHasher

    async def register(
        self, username: str, password: str = PASSWORD, *, email: str = ""
    ) -> Session:
        request = RegisterRequest(username=username, password=password, email=email, client=_CLIENT)
        return await self.gateway.Register(request)  # type: ignore[no-any-return]

    async def login(self, username: str, password: str = PASSWORD) -> Session:
        request = LoginRequest(username=username, password=password, client=_CLIENT)
        return await self.gateway.Login(request)  # type: ignore[no-any-return]

    async def refresh(self, token: str) -> Session:
        request = RefreshRequest(refresh_token=token, client=_CLIENT)
        return await self.gateway.Refresh(request)  # type: ignore[no-any-return]

    async def set_ban(self, user_id: str, *, banned: bool, version: int, lasts_s: int = 0) -> None:
        await self.fraud.SetBan(
            SetBanRequest(
                user_id=user_id,
                banned=banned,
                until_ms=clock.now_ms() + 1000 * lasts_s if lasts_s else 0,
                version=version,
            )
        )

    async def client_token(
        self, client_id: str, secret: str, *, scope: str = ""
    ) -> ClientTokenReply:
        request = ClientTokenRequest(
            client_id=client_id, client_secret=secret, scope=scope, client=_CLIENT
        )
        return await self.gateway.ClientToken(request)  # type: ignore[no-any-return]

    async def claims(self, answer: Session | ClientTokenReply) -> dict[str, object]:
        """The claims of the answer's access token, verified against the published keys."""
        jwks = msgspec.json.decode((await self.gateway.Keys(KeysRequest())).jwks)
        keys = {key["kid"]: jwt.PyJWK(key) for key in jwks["keys"]}
        kid = jwt.get_unverified_header(answer.access_token)["kid"]
        return jwt.decode(
            answer.access_token,
            keys[kid],
            algorithms=["RS256"],
            issuer=ISSUER,
            audience=AUDIENCE,
            # The clock is the tests' to move.
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )


_CLIENT = Client(address="192.0.2.7", user_agent="a test")


@asynccontextmanager
async def open_auth(
    pool: asyncpg.Pool,
    redis: Redis,
    signing_pem: str,
    certificates: Certificates,
    *,
    pepper: Keyring | None = None,
) -> AsyncIterator[Auth]:
    hasher = RecordingHasher()
    with open_passwords(hasher, pepper or ring("p")) as passwords:
        service = AuthService(
            AuthStore(Database(pool)),
            SessionCache(redis),
            passwords=passwords,
            access_tokens=AccessTokens(SigningKey(signing_pem), issuer=ISSUER, audience=AUDIENCE),
            refresh_keys=ring("r"),
            players=PLAYERS,
            staff=STAFF,
            access_client_s=5 * MINUTE_S,
        )
        opened = partial(
            served,
            "auth",
            partial(add_AuthServicer_to_server, service),
            certificates=certificates,
            callers=callers("auth"),
        )
        async with opened(caller="gateway") as gateway, opened(caller="fraud") as fraud:
            yield Auth(gateway=AuthStub(gateway), fraud=AuthStub(fraud), hasher=hasher)
