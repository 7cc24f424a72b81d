"""The Secrets of a cluster, against an API server that keeps them in memory: our own edge."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chassis import clock
from deploy import certificates, cluster_secrets
from deploy.cluster_secrets import Api, Refused
from deploy.units import UNITS

PATH = "/api/v1/namespaces/scoreboard/secrets"


class ApiServer:
    """Secrets by name, with versions, as Kubernetes' API has them."""

    def __init__(self) -> None:
        self.secrets: dict[str, Any] = {}
        self.requests: list[tuple[str, str]] = []
        self.app = web.Application()
        self.app.router.add_get(PATH + "/{name}", self._get)
        self.app.router.add_post(PATH, self._create)
        self.app.router.add_put(PATH + "/{name}", self._update)

    async def _get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.secrets:
            return web.json_response({"reason": "NotFound"}, status=404)
        return web.json_response(self.secrets[name])

    async def _create(self, request: web.Request) -> web.Response:
        secret = await request.json()
        if secret["metadata"]["name"] in self.secrets:
            return web.json_response({"reason": "AlreadyExists"}, status=409)
        return self._keep(secret, version="1")

    async def _update(self, request: web.Request) -> web.Response:
        secret = await request.json()
        held = self.secrets[request.match_info["name"]]["metadata"]["resourceVersion"]
        if secret["metadata"]["resourceVersion"] != held:
            return web.json_response({"reason": "Conflict"}, status=409)
        return self._keep(secret, version=str(int(held) + 1))

    def _keep(self, secret: Any, *, version: str) -> web.Response:
        secret["metadata"]["resourceVersion"] = version
        self.secrets[secret["metadata"]["name"]] = secret
        return web.json_response(secret)


@pytest.fixture
def server(made: dict[str, Any]) -> ApiServer:
    """A server of its own for each test, which holds all Secrets."""
    server = ApiServer()
    server.secrets = deepcopy(made)
    return server


@pytest.fixture(scope="module")
async def made() -> dict[str, Any]:
    """What the server holds once all Secrets have been made: a private key takes its time."""
    server = ApiServer()
    async with served(server) as api:
        await make(api)
    return server.secrets


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    async with served(server) as client:
        yield client


@asynccontextmanager
async def served(server: ApiServer) -> AsyncIterator[Api]:
    async with (
        TestServer(server.app) as running,
        Api(aiohttp.ClientSession(), str(running.make_url(PATH))) as client,
    ):
        yield client


async def make(api: Api, *, rotate_ca: str = "", read_within_s: float = 0) -> list[str]:
    return await cluster_secrets.make(
        api,
        postgres="postgres:5432",
        redis="redis:6379",
        rotate_ca=rotate_ca,
        read_within=timedelta(seconds=read_within_s),
    )


def test_each_secret_has_one_reader_and_its_own_files(made: dict[str, Any]) -> None:
    held = {name: (each["type"], sorted(each["data"])) for name, each in made.items()}
    assert held == {
        "tls-ca": ("kubernetes.io/tls", ["tls.crt", "tls.key"]),
        **{
            f"tls-{unit}": ("kubernetes.io/tls", ["ca.crt", "tls.crt", "tls.key"]) for unit in UNITS
        },
        "auth-keys": ("Opaque", ["pepper", "refresh_keys", "signing_key"]),
        "actions-keys": ("Opaque", ["sealing_keys", "signing_keys"]),
        "scores-keys": ("Opaque", ["cursor_keys", "journal_keys", "seal_keys"]),
        "gateway-keys": ("Opaque", ["idempotency_keys"]),
        **{f"db-{u}": ("Opaque", ["database_url"]) for u in ("auth", "actions", "scores", "fraud")},
        **{
            f"redis-{u}": ("Opaque", ["redis_url"])
            for u in ("auth", "scores", "fraud", "realtime", "gateway")
        },
        "postgres-owner": ("Opaque", ["database_url", "password"]),
        "redis-users": ("Opaque", ["users.acl"]),
    }


async def test_made_again_nothing_is_changed(api: Api) -> None:
    assert await make(api) == []


async def test_what_was_lost_is_made_and_the_rest_stays(api: Api, server: ApiServer) -> None:
    del server.secrets["auth-keys"], server.secrets["redis-fraud"]

    # The users of Redis have a new password for fraud.
    assert set(await make(api)) == {"auth-keys", "redis-fraud", "redis-users"}


async def test_a_key_that_the_operator_added_stays(api: Api, server: ApiServer) -> None:
    server.secrets["auth-keys"]["data"]["mine"] = "bWluZQ=="
    del server.secrets["auth-keys"]["data"]["pepper"]

    assert await make(api) == ["auth-keys"]
    assert server.secrets["auth-keys"]["data"]["mine"] == "bWluZQ=="


async def test_certificates_near_their_end_are_renewed_in_place(
    api: Api, server: ApiServer
) -> None:
    clock.set_offset(340 * 86400.0)
    try:
        changed = await make(api)
    finally:
        clock.set_offset(0.0)

    assert set(changed) == {f"tls-{unit}" for unit in UNITS}
    assert server.secrets["tls-scores"]["metadata"]["resourceVersion"] == "2"


async def test_the_steps_replace_the_ca_of_all_units(api: Api, server: ApiServer) -> None:
    def trusted(unit: str) -> int:
        return base64.b64decode(server.secrets[f"tls-{unit}"]["data"]["ca.crt"]).count(b"BEGIN")

    old = server.secrets["tls-auth"]["data"]
    every = [*(f"tls-{unit}" for unit in UNITS), "tls-ca"]

    assert await make(api, rotate_ca="rotate-ca-begin") == every  # the CA last
    assert {trusted(unit) for unit in UNITS} == {2}
    assert server.secrets["tls-auth"]["data"]["tls.crt"] == old["tls.crt"]
    with pytest.raises(certificates.Refused, match="may not have read the last change"):
        await make(api, rotate_ca="rotate-ca-issue", read_within_s=300)
    assert await make(api, rotate_ca="rotate-ca-issue") == every
    assert server.secrets["tls-auth"]["data"]["tls.crt"] != old["tls.crt"]
    assert await make(api, rotate_ca="rotate-ca-end") == every
    assert {trusted(unit) for unit in UNITS} == {1}
    assert server.secrets["tls-auth"]["data"]["ca.crt"] != old["ca.crt"]
    # What was needed in between is gone from the Secret, and nothing is left to do.
    assert set(server.secrets["tls-ca"]["data"]) == {"tls.crt", "tls.key"}
    assert await make(api) == []


async def test_a_secret_changed_meanwhile_is_not_overwritten(api: Api, server: ApiServer) -> None:
    old = await api.get("auth-keys")
    assert old is not None
    server.secrets["auth-keys"]["metadata"]["resourceVersion"] = "9"

    with pytest.raises(Refused, match="409"):
        await api.update(old, {})
    with pytest.raises(Refused, match="AlreadyExists"):
        await api.create("auth-keys", {})


def test_outside_of_a_pod_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(Refused, match="this is no pod"):
        Api.of_this_pod("scoreboard")
