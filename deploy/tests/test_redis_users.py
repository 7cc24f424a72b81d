"""What each unit's user of Redis may do: with keys of its own, of others, and beside keys."""

import secrets
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from deploy import redis_users
from local.servers import embedded

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


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Redis]]:
    """A client of each unit, of one that was not named and of the default user."""
    folder = tmp_path_factory.mktemp("redis")
    folder.chmod(0o755)
    passwords = {unit: secrets.token_hex(8) for unit in UNITS}
    with embedded.redis(folder) as server:
        found = {"default": Redis.from_url(server.url)}
        path = found["default"].get_connection_kwargs()["path"]
        for unit, password in passwords.items():
            found[unit] = Redis(unix_socket_path=path, username=unit, password=password)
        # The default user's rights go last: it is who gives the others theirs.
        for line in reversed(redis_users.acl(passwords).splitlines()):
            assert _may(found["default"], "ACL", "SETUSER", *line.split()[1:])
        yield found
        for client in found.values():
            client.close()


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_written_by_its_unit_and_read_by_its_readers_alone(
    key: str, clients: dict[str, Redis]
) -> None:
    owner, readers = KEYS[key]

    assert {unit for unit in UNITS if _may(clients[unit], "SET", key, "1")} == {owner}
    assert {unit for unit in UNITS if _may(clients[unit], "GET", key)} == {owner, *readers}
    # A script that may write needs the right to write, and one that only reads does not.
    writers = {unit for unit in UNITS if _may(clients[unit], "EVAL", "return 1", "1", key)}
    assert writers == {owner}
    reading = {unit for unit in UNITS if _may(clients[unit], "EVAL_RO", "return 1", "1", key)}
    assert reading == {owner, *readers}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "KEYS *", "CONFIG GET maxmemory", "ACL LIST", "SHUTDOWN", "CLIENT LIST"],
)
def test_no_unit_may_what_operators_may(unit: str, command: str, clients: dict[str, Redis]) -> None:
    assert not _may(clients[unit], *command.split())


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_sees_how_the_server_is(unit: str, clients: dict[str, Redis]) -> None:
    for command in ("PING", "INFO server", "ROLE", "TIME"):
        assert _may(clients[unit], *command.split())


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
