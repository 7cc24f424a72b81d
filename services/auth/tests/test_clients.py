"""Game servers: how they come to be, which tokens they get, and what they are refused."""

import asyncio
import hashlib
import hmac
import json
import os
import sys
from typing import Any

import asyncpg
import jwt
import pytest
from structlog.testing import capture_logs

from chassis import clock
from chassis.errors import Failed, Invalid, Unauthenticated
from chassis.ids import uuid7
from protos.auth_pb2 import NamesRequest
from services.auth import clients
from services.auth.store import AuthStore
from services.auth.tests.auth_served import Auth

TYPES = ["WIN_GAME", "FINISH_RAID"]


async def made(store: AuthStore) -> tuple[str, str]:
    """A new game server's id and secret."""
    return shown(await clients.create(store, name="arena", action_types=TYPES))


def shown(text: str) -> tuple[str, str]:
    lines = dict(line.split(": ") for line in text.splitlines())
    assert list(lines) == ["client_id", "client_secret"]
    return lines["client_id"], lines["client_secret"]


async def failure(auth: Auth, client_id: str, secret: str) -> tuple[type[Failed], str, str]:
    with pytest.raises(Failed) as caught:
        await auth.client_token(client_id, secret)
    return type(caught.value), caught.value.code, caught.value.detail


async def test_a_game_server_gets_a_token_for_its_action_types_and_nothing_else(
    auth: Auth, store: AuthStore
) -> None:
    client_id, secret = await made(store)

    reply = await auth.client_token(client_id, secret)

    claims = await auth.claims(reply)
    issued_s = claims["iat"]
    assert isinstance(issued_s, int)
    assert abs(issued_s - clock.now_ms() / 1000) < 5
    assert claims.pop("jti")
    assert claims == {
        "iss": "https://auth.test",
        "sub": client_id,
        "aud": "scoreboard",
        "exp": issued_s + 300,
        "iat": issued_s,
        "nbf": issued_s,
        "client_id": client_id,
        "scope": "scores:award",
        "action_types": sorted(TYPES),
    }
    assert jwt.get_unverified_header(reply.access_token)["typ"] == "at+jwt"
    assert (reply.expires_in_s, reply.scope) == (300, "scores:award")


async def test_an_unknown_client_and_a_wrong_secret_fail_alike(
    auth: Auth, store: AuthStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_id, secret = await made(store)
    compared: list[Any] = []
    compare = hmac.compare_digest

    def spy(one: Any, other: Any) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    refused = [
        await failure(auth, client_id, secret[:-1]),
        await failure(auth, client_id, ""),
        await failure(auth, uuid7(), secret),
        await failure(auth, "nobody\x00", secret),
        await failure(auth, "", ""),
    ]

    assert set(refused) == {refused[0]}
    assert refused[0][:2] == (Unauthenticated, "INVALID_CLIENT")
    # The same comparison for every caller: of two hashes, in constant time.
    assert compared == [(32, 32)] * 5


async def test_a_refusal_is_logged_without_what_was_shown(auth: Auth, store: AuthStore) -> None:
    client_id, _ = await made(store)

    with capture_logs() as lines:
        await failure(auth, client_id, "canary-secret")
        await failure(auth, "canary-id", "canary-secret")

    found = [line for line in lines if line["event"] == "client_refused"]
    assert [line["client_id"] for line in found] == [client_id, None]
    assert {line["stream"] for line in found} == {"security"}
    assert "canary" not in repr(lines)


async def test_the_requested_scope_may_not_go_beyond_what_a_client_has(
    auth: Auth, store: AuthStore
) -> None:
    client_id, secret = await made(store)

    reply = await auth.client_token(client_id, secret, scope="scores:award")
    assert reply.scope == "scores:award"
    for scope in ("scores:read", "scores:award actions:write", "catalogue:write"):
        with pytest.raises(Invalid, match="INVALID_SCOPE"):
            await auth.client_token(client_id, secret, scope=scope)


async def test_a_rotated_secret_ends_the_old_one_and_a_disabled_client_gets_nothing(
    auth: Auth, store: AuthStore
) -> None:
    client_id, old = await made(store)

    same_id, new = shown(await clients.rotate(store, client_id))
    assert same_id == client_id
    assert new not in (old, shown(await clients.rotate(store, client_id))[1])
    assert (await failure(auth, client_id, new))[1] == "INVALID_CLIENT"
    same_id, new = shown(await clients.rotate(store, client_id))
    assert (await failure(auth, client_id, old))[1] == "INVALID_CLIENT"
    await auth.client_token(client_id, new)

    await clients.disable(store, client_id)
    # Distinguished only for the holder of the secret.
    assert (await failure(auth, client_id, new))[1] == "UNAUTHORIZED_CLIENT"
    assert (await failure(auth, client_id, old))[1] == "INVALID_CLIENT"
    for work in (clients.rotate, clients.disable):
        with pytest.raises(clients.ClientNotFound):
            await work(store, uuid7())


async def test_a_secret_stands_in_the_database_as_its_hash_only(
    auth: Auth, store: AuthStore, pool: asyncpg.Pool
) -> None:
    client_id, secret = await made(store)
    secrets = [secret, shown(await clients.rotate(store, client_id))[1]]

    [row] = await pool.fetch("SELECT * FROM auth.clients")
    assert [len(each) for each in secrets] == [43, 43]
    assert row["secret_sha256"] == hashlib.sha256(secrets[-1].encode()).digest()
    for each in secrets:
        assert each not in repr(dict(row))


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("", TYPES),
        ("a\nb", TYPES),
        ("arena", []),
        ("arena", ["win game"]),
        ("arena", [f"TYPE_{n}" for n in range(33)]),
    ],
)
async def test_what_makes_no_game_server_is_named(
    store: AuthStore, name: str, types: list[str]
) -> None:
    with pytest.raises(Failed, match="VALIDATION_FAILED"):
        await clients.create(store, name=name, action_types=types)
    assert await clients.listed(store) == ""


async def test_each_type_of_another_form_is_named_by_its_place(store: AuthStore) -> None:
    with pytest.raises(Failed) as refused:
        await clients.create(store, name="", action_types=["WIN_GAME", "win game", "A", "WIN_GAME"])

    found = [(error.field, error.code) for error in refused.value.errors]
    assert found == [
        ("name", "LENGTH"),
        ("action-types[1]", "PATTERN"),
        ("action-types[2]", "PATTERN"),
    ]


async def run(database: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """The exit code of the command, and what it wrote to stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.auth", "client", *arguments),
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database["auth"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def test_an_operator_makes_lists_and_ends_game_servers(
    auth: Auth, database: dict[str, str]
) -> None:
    code, stdout, stderr = await run(
        database, "create", "--name", "arena", "--action-types", "WIN_GAME, FINISH_RAID"
    )
    assert code == 0, stderr
    client_id, secret = shown(stdout.strip())
    line = json.loads(stderr)
    assert (line["stream"], line["command"], line["name"]) == ("audit", "client create", "arena")
    assert secret not in stderr
    await auth.client_token(client_id, secret)

    _, stdout, _ = await run(database, "list")
    assert stdout == f"{client_id}  active    FINISH_RAID,WIN_GAME  arena\n"
    assert secret not in stdout
    _, stdout, _ = await run(database, "rotate", client_id)
    assert shown(stdout.strip())[1] != secret
    assert (await run(database, "disable", client_id))[0] == 0
    assert "disabled" in (await run(database, "list"))[1]

    code, _, stderr = await run(database, "rotate", "nobody")
    assert code == 1
    assert "CLIENT_NOT_FOUND" in stderr
    assert "Traceback" not in stderr


async def test_names_are_returned_of_the_accounts_that_are_there(auth: Auth) -> None:
    ada, bob = await auth.register("Ada"), await auth.register("bob")

    reply = await auth.gateway.Names(
        NamesRequest(user_ids=[bob.user_id, uuid7(), "nobody", ada.user_id, ada.user_id])
    )

    named = {account.user_id: account for account in reply.accounts}
    assert {user: account.username for user, account in named.items()} == {
        ada.user_id: "Ada",
        bob.user_id: "bob",
    }
    assert named[ada.user_id].name_version == 1
    with pytest.raises(Invalid, match="BATCH_TOO_LARGE"):
        await auth.gateway.Names(NamesRequest(user_ids=[uuid7()] * 257))
