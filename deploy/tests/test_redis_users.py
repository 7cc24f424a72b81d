"""What each unit's user of Redis may do: with keys of its own, of others, and beside keys."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from deploy import redis_users
from deploy.databases import as_user

UNITS = ("auth", "scores", "fraud", "realtime", "gateway")

# A key of each kind: who writes it, and who else reads it.
KEYS = {
    "{events}:awards": ("scores", {"fraud", "realtime"}),
    "leaderboard:{all_time}": ("scores", set()),
    "leaderboard:{daily:20261102T000000Z}:members": ("scores", set()),
    "cache:{all_time}:top": ("scores", set()),
    "journal:{awards}": ("scores", set()),
    "rebuild:boards": ("scores", set()),
    "lease:scores:closer": ("scores", set()),
    "{fraud}:sanctions": ("fraud", {"scores", "gateway"}),
    "{fraud}:generation": ("fraud", {"scores", "gateway"}),
    "{f:07}:judged:1": ("fraud", set()),
    "live:{channels}:leaderboard:all_time": ("realtime", set()),
    "live:lease:all_time": ("realtime", set()),
    "{auth}:session:1": ("auth", set()),
    "{l:07}:requests:1": ("gateway", set()),
    "{l:gateways}": ("gateway", set()),
    "idem:{1}": ("gateway", set()),
    "health:fraud": ("fraud", set()),
    "health:scores:{7}": ("scores", set()),
}


OPERATORS = (
    *("FLUSHALL", "KEYS *", "CONFIG GET maxmemory", "ACL LIST", "SHUTDOWN", "CLIENT LIST"),
    *("REPLICAOF NO ONE", "CLUSTER FORGET 1", "MONITOR"),
)


@pytest.fixture
def clients(own_redis: Callable[[], AbstractContextManager[str]]) -> Iterator[dict[str, Redis]]:
    """A client of each unit and of the default user."""
    passwords = {unit: secrets.token_hex(8) for unit in UNITS}
    with own_redis() as url:
        found = {"default": Redis.from_url(url)}
        # The default user's rights go last: it is who gives the others theirs.
        for line in reversed(redis_users.acl(passwords).splitlines()):
            assert _may(found["default"], "ACL", "SETUSER", *line.split()[1:])
        for unit, password in passwords.items():
            found[unit] = Redis.from_url(as_user(url, unit, password))
        yield found
        for client in found.values():
            client.close()


def test_a_key_is_written_by_its_unit_and_read_by_its_readers_alone(
    clients: dict[str, Redis],
) -> None:
    def those(*command: str) -> set[str]:
        return {unit for unit in UNITS if _may(clients[unit], *command)}

    for key, (owner, readers) in KEYS.items():
        assert those("SET", key, "1") == {owner}, key
        assert those("GET", key) == {owner, *readers}, key
        # A script that may write needs the right to write, one that only reads does not.
        assert those("EVAL", "return 1", "1", key) == {owner}, key
        assert those("EVAL_RO", "return 1", "1", key) == {owner, *readers}, key


def test_no_unit_may_what_operators_may(clients: dict[str, Redis]) -> None:
    for unit in UNITS:
        for command in OPERATORS:
            assert not _may(clients[unit], *command.split()), (unit, command)


def test_each_unit_sees_how_the_server_is(clients: dict[str, Redis]) -> None:
    for unit in UNITS:
        for command in ("PING", "INFO server", "ROLE", "TIME"):
            assert _may(clients[unit], *command.split()), (unit, command)


def test_who_has_no_name_may_ping_and_nothing_else(clients: dict[str, Redis]) -> None:
    assert _may(clients["default"], "PING")
    assert not _may(clients["default"], "INFO")
    assert not _may(clients["default"], "GET", "health:fraud")


def test_the_file_holds_no_password() -> None:
    password = secrets.token_hex(8)
    assert password not in redis_users.acl({"auth": password})


def test_every_unit_with_redis_has_a_user() -> None:
    assert set(redis_users.UNITS) == set(UNITS)


def _may(client: Redis, *command: str) -> bool:
    try:
        client.execute_command(*command)  # type: ignore[no-untyped-call]
    except NoPermissionError:
        return False
    except RedisError:
        pass  # refused for another reason, so after the rights
    return True
