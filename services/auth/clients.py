"""Game servers: their ids and secrets, and what an operator does about them."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from chassis.errors import FieldError, Missing
from chassis.ids import is_uuid, uuid7
from services.auth.accounts import ValidationFailed
from services.auth.store import AuthStore, GameServer

ACTION_TYPES_MAX = 32  # so that a token stays within what every reader takes
ACTION_TYPE = re.compile(r"[A-Z][A-Z0-9_]{1,39}")
NO_ID = "00000000-0000-0000-0000-000000000000"


class ClientNotFound(Missing):
    """There is no game server of that id."""


def looked_up(client_id: str) -> str:
    """The id to look up for `client_id`: one that cannot exist takes as long."""
    return client_id if is_uuid(client_id) else NO_ID


def matches(client: GameServer | None, secret: str) -> bool:
    """Whether `secret` is that of `client`; takes as long, and is False, where there is none."""
    expected = client.secret_sha256 if client else bytes(32)
    return hmac.compare_digest(_sha256(secret), expected) and client is not None


async def create(store: AuthStore, *, name: str, action_types: Sequence[str]) -> str:
    """Makes a game server; returns its id and secret, to be shown once. Raises ValidationFailed."""
    types = sorted(set(action_types))
    problems = []  # named as the command's arguments
    if not (1 <= len(name) <= 64 and name.isprintable()):
        problems.append(FieldError("name", "LENGTH", "Use 1 to 64 printable characters."))
    if not 1 <= len(types) <= ACTION_TYPES_MAX:
        detail = f"Name 1 to {ACTION_TYPES_MAX} action types."
        problems.append(FieldError("action-types", "LENGTH", detail))
    # Whether there is such a type only actions knows, which auth does not call.
    detail = "An action type is written as WIN_GAME."
    problems += [
        FieldError(f"action-types[{place}]", "PATTERN", detail)
        for place, name in enumerate(action_types)
        if not ACTION_TYPE.fullmatch(name)
    ]
    if problems:
        raise ValidationFailed(errors=problems)
    client_id, secret = uuid7(), secrets.token_urlsafe(32)
    await store.add_client(client_id, name=name, secret_sha256=_sha256(secret), action_types=types)
    return _shown(client_id, secret)


async def rotate(store: AuthStore, client_id: str) -> str:
    """Replaces a game server's secret; returns what `create` does. Raises ClientNotFound."""
    secret = secrets.token_urlsafe(32)
    if not await store.change_client(looked_up(client_id), secret_sha256=_sha256(secret)):
        raise ClientNotFound
    return _shown(client_id, secret)


async def disable(store: AuthStore, client_id: str) -> str:
    """Gives a game server no more tokens; returns a sentence. Raises ClientNotFound."""
    if not await store.change_client(looked_up(client_id), disabled=True):
        raise ClientNotFound
    return f"{client_id} gets no more tokens; one it has may be good for some minutes more"


async def listed(store: AuthStore) -> str:
    """All game servers, a line each: id, state, action types, name."""
    return "\n".join(
        f"{client.client_id}  {'disabled' if client.disabled else 'active':8}  "
        f"{','.join(client.action_types)}  {client.name}"
        for client in await store.clients()
    )


def _shown(client_id: str, secret: str) -> str:
    return f"client_id: {client_id}\nclient_secret: {secret}"


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
