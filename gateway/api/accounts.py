"""Accounts: register, log in, refresh; the public keys."""

from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta

from gateway.api.answers import Answer, answer
from gateway.edge.body import Body
from gateway.edge.identity import Verifier
from gateway.edge.request import Request
from protos.auth_pb2 import Client, LoginRequest, RefreshRequest, RegisterRequest
from protos.auth_pb2_grpc import AuthStub

Text = Annotated[str, Meta(max_length=256)]


class Credentials(Body):
    """An account's name and password."""

    username: Text
    password: Text
    token_delivery: Literal["body"] | None = None


class Registration(Credentials):
    """A new account; the name and the password are judged by auth."""

    email: Text | None = None


class Refreshing(Body):
    """The refresh token of a session."""

    refresh_token: Text


class Session(Answer, kw_only=True):
    """A session's tokens; `expiresIn` is the access token's, in seconds."""

    user_id: str
    username: str
    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105  The scheme's name.
    expires_in: int


class Accounts:
    """Handlers of `/auth/*` for players."""

    def __init__(self, auth: AuthStub, verifier: Verifier) -> None:
        self._auth = auth
        self._verifier = verifier

    async def register(self, request: Request, body: Registration) -> Session:
        """Makes an account and its first session."""
        wanted = RegisterRequest(
            username=body.username,
            password=body.password,
            email=body.email or "",
            client=client(request),
        )
        return answer(Session, await self._auth.Register(wanted))

    async def login(self, request: Request, body: Credentials) -> Session:
        """Begins a session."""
        wanted = LoginRequest(
            username=body.username, password=body.password, client=client(request)
        )
        return answer(Session, await self._auth.Login(wanted))

    async def refresh(self, request: Request, body: Refreshing) -> Session:
        """Changes a refresh token for its successor and a fresh access token."""
        wanted = RefreshRequest(refresh_token=body.refresh_token, client=client(request))
        return answer(Session, await self._auth.Refresh(wanted))

    async def jwks(self, request: Request) -> web.Response:
        """The public keys of access tokens."""
        return web.Response(
            body=self._verifier.jwks,
            headers={"Content-Type": "application/jwk-set+json", "Cache-Control": "max-age=60"},
        )


def client(request: Request) -> Client:
    """Where the request comes from, and what made it."""
    # Headers may hold bytes that are no text; protobuf takes only text.
    agent = request.headers.get("User-Agent", "").encode("ascii", "replace").decode()
    return Client(address=request.address, user_agent=agent[:256])
