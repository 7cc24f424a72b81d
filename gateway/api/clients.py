"""Game servers: the tokens they get by their credentials, as RFC 6749 (4.4) has it."""

import base64
from collections import Counter
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from aiohttp import web

from chassis.errors import FieldError, Invalid, Unauthenticated
from gateway.api.accounts import client
from gateway.api.answers import answer
from gateway.edge.body import declares, raw
from gateway.edge.errors import UnsupportedMediaType
from gateway.edge.middleware import json
from gateway.edge.request import Request
from protos import auth_pb2
from protos.auth_pb2_grpc import AuthStub

FIELDS_MAX = 32


class InvalidRequest(Invalid):
    """The form lacks a parameter, has one twice, or cannot be read."""


class UnsupportedGrantType(Invalid):
    """The grant type must be client_credentials."""


class InvalidClient(Unauthenticated):
    """The client's id or secret is missing or wrong."""


class ClientToken(msgspec.Struct, kw_only=True):
    """An access token, in the words of RFC 6749; `expires_in` in seconds."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105  The scheme's name.
    expires_in: int
    scope: str


class Clients:
    """The handler of `/auth/token`."""

    def __init__(self, auth: AuthStub) -> None:
        self._auth = auth

    async def token(self, request: Request) -> web.Response:
        """An access token for a client's own id and secret."""
        form = await _form(request)
        client_id, secret = _credentials(request, form)
        if "grant_type" not in form:
            detail = "The parameter grant_type is required."
            raise InvalidRequest(detail, errors=[FieldError("grant_type", "REQUIRED", detail)])
        if form["grant_type"] != "client_credentials":
            raise UnsupportedGrantType
        wanted = auth_pb2.ClientTokenRequest(
            client_id=client_id,
            client_secret=secret,
            scope=form.get("scope", ""),
            client=client(request),
        )
        response = json(answer(ClientToken, await self._auth.ClientToken(wanted)))
        response.headers["Pragma"] = "no-cache"  # as RFC 6749 wants it, beside Cache-Control
        return response


async def _form(request: Request) -> Mapping[str, str]:
    """The parameters; one without a value counts as missing. Raises InvalidRequest."""
    if not declares(request, "application/x-www-form-urlencoded"):
        raise UnsupportedMediaType("The body must be application/x-www-form-urlencoded.")
    try:
        text = (await raw(request.http)).decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise InvalidRequest from None
    counts = Counter(name for name, _ in pairs)
    if repeated := [name for name in counts if counts[name] > 1]:
        detail = "This parameter must be given once."
        raise InvalidRequest(errors=[FieldError(name, "REPEATED", detail) for name in repeated])
    return {name: value for name, value in pairs if value}


def _credentials(request: Request, form: Mapping[str, str]) -> tuple[str, str]:
    """Id and secret, given in one way only. Raises InvalidClient, InvalidRequest."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if not scheme:
        if "client_id" not in form or "client_secret" not in form:
            raise InvalidClient
        return form["client_id"], form["client_secret"]
    if "client_secret" in form:
        raise InvalidRequest("Give the client's secret in one way, not in two.")
    if scheme.lower() != "basic":
        raise InvalidClient
    try:
        name, secret = base64.b64decode(encoded.strip(), validate=True).decode().split(":", 1)
        # Each was encoded as a form's value before it was put into the header (2.3.1).
        return unquote_plus(name, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:
        raise InvalidClient from None
