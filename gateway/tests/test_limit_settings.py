"""Every limit of callers and sockets is a setting, under which the gateway then stands."""

from typing import Any

import pytest

from chassis.redis import Redis
from chassis.settings import SettingsError, load
from chassis.testing import Certificates
from gateway.edge.limits import Check, Limiter, RateLimited, RequestLimits
from gateway.edge.peers import Peers
from gateway.live.limits import LiveLimits
from gateway.settings import Settings
from gateway.tests.edge import UPDATE, edge_of, edge_settings
from gateway.tests.services import ADA, Fakes, encoded

GIVEN = {
    "TLS_DIR": "/tls",
    "REDIS_URL": "redis://127.0.0.1",
    **{f"{unit}_TARGET": "x" for unit in ("AUTH", "ACTIONS", "SCORES", "FRAUD", "REALTIME")},
    "ISSUER": "i",
    "AUDIENCE": "a",
    "IDEMPOTENCY_KEYS": f"1:{encoded(bytes(32))}",
}


def settings(**given: object) -> Settings:
    return load(Settings, {**GIVEN, **{name: str(value) for name, value in given.items()}})


def test_limits_come_from_variables_with_their_prefix() -> None:
    read = settings(
        LIMIT_REQUESTS_PER_MINUTE=7,
        LIMIT_ACTIONS_PER_DAY=9,
        LIMIT_SCORES_PER_HOUR=8,
        LIVE_SOCKETS_PER_USER=2,
        LIVE_PING_S=0.5,
    )

    assert read.limit.requests.limits == (7, 0, 0)
    assert read.limit.actions.limits == (10, 100, 9)
    assert read.limit.scores.limits == (10, 8, 0)
    assert (read.live.sockets_per_user, read.live.ping_s) == (2, 0.5)
    assert settings().live == LiveLimits()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LIMIT_REQUESTS_PER_MINUTE", 0),
        ("LIMIT_ACTIONS_PER_HOUR", -1),
        ("LIMIT_SCORES_PER_DAY", "many"),
        ("LIVE_PING_S", 0),
        ("LIVE_MESSAGE_BYTES", 1),
    ],
)
def test_a_limit_out_of_bounds_is_named(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: must be"):
        settings(**{name: value})


async def test_calls_are_refused_at_the_limits_that_are_set(
    certificates: Certificates, fakes: Fakes, redis: Redis, redis_url: str
) -> None:
    limit = RequestLimits(requests_per_minute=6, actions_per_hour=2, scores_per_minute=3)
    given = edge_settings(fakes, certificates, redis_url, limit=limit)

    async with edge_of(given, fakes) as edge:
        codes: dict[str, list[Any]] = {
            "/actions/request": [
                (await edge.play("/actions/request", {"actionType": "WIN_GAME"})).status
                for _ in range(3)
            ],
            "/scores/update": [
                (
                    await edge.play(
                        "/scores/update",
                        UPDATE,
                        headers={"X-Action-Token": "t"},
                        address="203.0.113.5",
                    )
                ).status
                for _ in range(4)
            ],
            "/leaderboard": [
                (await edge.call("GET", "/api/v1/leaderboard", address="203.0.113.6")).status
                for _ in range(7)
            ],
        }

    assert codes == {
        "/actions/request": [201, 201, 429],
        "/scores/update": [200, 200, 200, 429],
        "/leaderboard": [200] * 6 + [429],
    }


async def test_a_limit_above_128_a_minute_holds_also_while_redis_is_unavailable(
    redis: Redis,
) -> None:
    policy = RequestLimits(requests_per_minute=300).requests
    limiter = Limiter(redis, Peers(redis), disabled=False)
    limiter._unavailable.set()

    for _ in range(300):
        await limiter.take([Check(policy, ADA)])
    with pytest.raises(RateLimited):
        await limiter.take([Check(policy, ADA)])
