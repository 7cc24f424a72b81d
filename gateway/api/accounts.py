"""Accounts: register, log in, refresh; the public keys."""

from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta

from gateway.api.answers import Answer, answer
from gateway.edge.body import Body
from gateway.edge.identity import Verifier
from gateway.edge.request import Request
from protos import auth_pb2
from protos.auth_pb2_grpc import AuthStub

Text = Annotated[str, Meta(max_length=256)]


class Registration(Body):
    """A new account; the name and the password are judged by auth."""

    username: Text
    password: Text
    email: Text | None = None
    token_delivery: Literal["body"] | None = None


class Credentials(Body):
    """An account's name and password."""

    username: Text
    password: Text
    token_delivery: Literal["body"] | None = None


class Refreshing(Body):
    """The refresh token of a session."""

    refresh_token: Text


class Session(Answer):
    """A session's tokens; `expiresIn` is the access token's, in seconds."""

    user_id: str
    username: str
    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


class Accounts:
    """Handlers of `/auth/*` for players."""

    def __init__(self, auth: AuthStub, verifier: Verifier) -> None:
        self._auth = auth
        self._verifier = verifier

    async def register(self, request: Request, body: Registration) -> Session:
        """Makes an account and its first session."""
        return _session(
            await self._auth.Register(
                auth_pb2.RegisterRequest(
                    username=body.username,
                    password=body.password,
                    email=body.email or "",
                    client=client(request),
                )
            )
        )

    async def login(self, request: Request, body: Credentials) -> Session:
        """Begins a session."""
        return _session(
            await self._auth.Login(
                auth_pb2.LoginRequest(
                    username=body.username, password=body.password, client=client(request)
                )
            )
        )

    async def refresh(self, request: Request, body: Refreshing) -> Session:
        """Changes a refresh token for its successor and a fresh access token."""
        return _session(
            await self._auth.Refresh(
                auth_pb2.RefreshRequest(refresh_token=body.refresh_token, client=client(request))
            )
        )

    async def jwks(self, request: Request) -> web.Response:
        """The public keys of access tokens."""
        return web.Response(
            body=self._verifier.jwks,
            headers={"Content-Type": "application/jwk-set+json", "Cache-Control": "max-age=60"},
        )


def client(request: Request) -> auth_pb2.Client:
    """Where the request comes from, and what made it."""
    # Headers may hold bytes that are no text; protobuf takes only text.
    agent = request.headers.get("User-Agent", "").encode("ascii", "replace").decode()
    return auth_pb2.Client(address=request.address, user_agent=agent[:256])


def _session(session: auth_pb2.Session) -> Session:
    return answer(
        Session,
        session,
        token_type="Bearer",  # noqa: S106  The scheme's name.
        expires_in=session.expires_in_s,
    )
