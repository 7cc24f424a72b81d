"""A Redis Cluster formed of real nodes, that change places and addresses."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import __main__, redis_cluster, redis_users
from deploy.redis_cluster import Member, Nodes
from deploy.tests.manifests import of_kind, rendered
from deploy.tests.production import filled
from local import ports
from local.servers import embedded

SIZE = 6
PASSWORD = "s3cret"


class Six:
    """Six nodes, each at an address of its own, which may change while it is stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        free = list(ports.keep(folder / "ports.json", [str(n) for n in range(2 * SIZE)]).values())
        self._ports, self._bus_ports = free[:SIZE], free[SIZE:]
        self._hosts = [f"127.0.1.{1 + number}" for number in range(SIZE)]
        self._running: dict[int, ExitStack] = {}

    @property
    def nodes(self) -> Nodes:
        """All of them, at their present addresses."""
        return Nodes(names=tuple(map(self.name, range(SIZE))), password=PASSWORD)

    def name(self, number: int) -> tuple[str, int]:
        return self._hosts[number], self._ports[number]

    def start(self, number: int, *, host: str = "", data: str = "") -> None:
        """Starts a node, at another address or with the data of another folder."""
        self._hosts[number] = host or self._hosts[number]
        options = {
            "bind": f"127.0.0.1 {self._hosts[number]}",
            "cluster-enabled": "yes",
            "cluster-announce-ip": self._hosts[number],
            "cluster-port": str(self._bus_ports[number]),
            "cluster-node-timeout": "1000",
            "cluster-require-full-coverage": "no",
            "availability-zone": "abc"[number % 3],
            "masterauth": PASSWORD,
            "repl-diskless-sync-delay": "0",
        }
        words = [w for key, value in options.items() for w in (f"--{key}", *value.split())]
        stack = self._running[number] = ExitStack()
        stack.enter_context(
            embedded.redis(
                self._folder / f"{number}{data}",
                port=self._ports[number],
                password=PASSWORD,
                extra=words,
            )
        )

    def stop(self, number: int) -> None:
        self._running.pop(number).close()

    def stop_all(self) -> None:
        for number in list(self._running):
            self.stop(number)

    def form(self) -> None:
        redis_cluster.form(self.nodes, deadline_s=60, say=lambda line: None)

    def seen(self, by: int) -> dict[str, Member]:
        """All members by their ids, as one node sees them."""
        with self.nodes.client(*self.name(by)) as node:
            return {member.id: member for member in redis_cluster.members(node)}

    def me(self, number: int) -> Member:
        """A node as it sees itself."""
        return next(m for m in self.seen(number).values() if "myself" in m.flags)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Six]:
    folder = tmp_path_factory.mktemp("six")
    folder.chmod(0o755)
    cluster = Six(folder)
    try:
        for number in range(SIZE):
            cluster.start(number)
        cluster.form()
        yield cluster
    finally:
        cluster.stop_all()


def shape(six: Six) -> list[tuple[str, bool, str, int]]:
    """Id, role, primary and number of slots of each node."""
    return [(m.id, m.is_primary, m.primary, len(m.slots)) for m in map(six.me, range(SIZE))]


def test_six_nodes_become_three_primaries_with_a_replica_each_in_another_zone(six: Six) -> None:
    members = list(map(six.me, range(SIZE)))
    primaries = [m for m in members if m.is_primary]

    assert sorted(len(m.slots) for m in primaries) == [5461, 5461, 5462]
    assert {m.primary for m in members if not m.is_primary} == {m.id for m in primaries}
    zone = {m.id: "abc"[number % 3] for number, m in enumerate(members)}
    assert all(zone[m.id] != zone[m.primary] for m in members if not m.is_primary)


def test_forming_it_again_changes_nothing(six: Six) -> None:
    before = shape(six)

    six.form()

    assert shape(six) == before


def test_an_interrupted_start_is_completed(six: Six) -> None:
    replica = next(n for n in range(SIZE) if not six.me(n).is_primary)
    primary = next(n for n in range(SIZE) if six.me(n).is_primary)
    before = shape(six)
    with six.nodes.client(*six.name(primary)) as node:
        node.cluster("DELSLOTS", *sorted(six.me(primary).slots)[:100])
    with six.nodes.client(*six.name(replica)) as node:
        node.cluster("RESET", "SOFT")

    six.form()

    assert shape(six) == before


def test_a_node_that_comes_back_at_another_address_is_known_by_it(six: Six) -> None:
    numbers = range(SIZE)
    ids = [six.me(number).id for number in numbers]
    for number in numbers:
        six.stop(number)
    # All at once, so that no node could learn an address from another.
    for number in numbers:
        six.start(number, host=f"127.0.2.{1 + number}")

    redis_cluster.wait("it is known", lambda: introduced(six), time.monotonic() + 30)

    assert [six.me(number).id for number in numbers] == ids
    for number in numbers:
        assert {m.host for m in six.seen(number).values()} == {six.name(n)[0] for n in numbers}


def introduced(six: Six) -> bool:
    for number in range(SIZE):
        redis_cluster.introduce(six.nodes, six.name(number))
    hosts = {six.name(n)[0] for n in range(SIZE)}
    return all({m.host for m in six.seen(n).values() if m.connected} == hosts for n in range(SIZE))


def test_a_primary_that_ends_hands_over_first(six: Six, tmp_path: Path) -> None:
    six.form()
    primary = next(n for n in range(SIZE) if six.me(n).is_primary)
    slots, said = six.me(primary).slots, list[str]()
    ends = threading.Event()
    ends.set()

    redis_cluster.stay(
        six.nodes, six.name(primary), ends=ends, ready=tmp_path / "ready", say=said.append
    )

    me = six.me(primary)
    heir = six.seen(primary)[me.primary]
    assert not me.is_primary
    assert said == [f"handed over to {heir.host}:{heir.port}"]
    assert heir.slots == slots


def test_a_node_is_ready_while_it_has_what_its_primary_has(six: Six, tmp_path: Path) -> None:
    six.form()
    replica = next(n for n in range(SIZE) if not six.me(n).is_primary)
    ends, ready = threading.Event(), tmp_path / "ready"
    stays = threading.Thread(
        target=redis_cluster.stay,
        args=(six.nodes, six.name(replica)),
        kwargs={"ends": ends, "ready": ready, "look_s": 0.05, "say": lambda line: None},
    )
    stays.start()
    try:
        redis_cluster.wait("it is ready", ready.exists, time.monotonic() + 20)
        with six.nodes.client(*six.name(replica)) as node:
            node.config_set("masterauth", "wrong")
            node.client_kill_filter(_type="master")
            redis_cluster.wait("it is not", lambda: not ready.exists(), time.monotonic() + 20)
            node.config_set("masterauth", PASSWORD)
        redis_cluster.wait("it is again", ready.exists, time.monotonic() + 20)
    finally:
        ends.set()
        stays.join()


def test_a_replica_that_ends_hands_nothing_over(six: Six) -> None:
    replica = next(n for n in range(SIZE) if not six.me(n).is_primary)

    assert redis_cluster.hand_over(six.nodes, six.name(replica)) == "nothing to hand over"


def test_a_node_that_lost_its_data_becomes_a_replica_again(six: Six) -> None:
    six.form()
    replica = next(n for n in range(SIZE) if not six.me(n).is_primary)
    lost = six.me(replica)
    six.stop(replica)
    six.start(replica, data="-new")

    six.form()

    assert six.me(replica).id != lost.id
    assert six.me(replica).primary == lost.primary
    assert all(lost.id not in six.seen(number) for number in range(SIZE))


def test_a_node_that_does_not_start_ends_the_forming_in_time(six: Six) -> None:
    missing = replace(six.nodes, names=(*six.nodes.names[:-1], ("127.0.0.1", 1)))

    with pytest.raises(TimeoutError, match="every node answers"):
        redis_cluster.form(missing, deadline_s=0.5)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://a:1", "must be redis"),
        ("redis+cluster://", "must be redis"),
        ("redis+cluster://a", "needs its port"),
        ("redis+cluster://u:p@a:1,b", "needs its port"),
        ("redis+cluster://a:1,b:2", "an even number of nodes, 6 or more"),
        ("redis+cluster://a:1,a:2,a:3,a:4,a:5,a:6,a:7", "an even number of nodes, 6 or more"),
    ],
)
def test_a_url_that_names_no_cluster_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Nodes.of(url)


def test_a_url_names_nodes_and_login() -> None:
    hosts = ",".join(f"node-{number}:6379" for number in range(SIZE))

    nodes = Nodes.of(f"redis+cluster://admin:p%40ss@{hosts}")

    assert nodes.names == tuple((f"node-{number}", 6379) for number in range(SIZE))
    assert (nodes.user, nodes.password) == ("admin", "p@ss")


@pytest.mark.parametrize(
    ("act", "given", "problem"),
    [
        ("form", {}, "REDIS_URL: is required"),
        ("form", {"REDIS_URL": "redis+cluster://a:1"}, "REDIS_URL: must name an even number"),
        ("stay", {}, "REDIS_NODE: is required"),
        ("stay", {"REDIS_NODE": "a", "REDIS_READY_FILE": "r"}, "REDIS_URL: is required"),
    ],
)
def test_the_command_names_what_does_not_fit(
    act: str, given: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["deploy", "redis-cluster", act])
    for name in ("REDIS_URL", "REDIS_NODE", "REDIS_READY_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as end:
        __main__.main()

    assert problem in str(end.value)


def test_the_users_of_production_have_the_rights_that_a_cluster_needs(
    six: Six,
) -> None:
    """Loaded into a real node: units, the replication, the exporter, and who forms the cluster."""
    secret = of_kind(rendered("overlays/production"), "ExternalSecret")["redis-users"]
    users = (*redis_users.UNITS, "admin", "replica", "monitor")
    template = secret["spec"]["target"]["template"]["data"]["users.acl"]
    acl = filled(template, dict.fromkeys(users, "x"))
    allowed = {
        "scores": ["CLUSTER SLOTS", "INFO server", "ROLE", "PING", "GET leaderboard:a"],
        "gateway": ["CLUSTER SLOTS", "XREAD STREAMS {fraud}:sanctions 0", "GET {l:1}:a"],
        "replica": ["PSYNC ? -1", "REPLCONF ACK 0", "PING"],
        "monitor": ["INFO all", "CONFIG GET maxmemory", "SLOWLOG GET", "CLUSTER INFO", "PING"],
        "admin": ["CLUSTER MEET 127.0.0.1 1", "CLUSTER FAILOVER", "ACL LOAD", "CLUSTER NODES"],
        "default": ["PING"],
    }
    refused = {
        "scores": [
            "CLUSTER FAILOVER",
            "FLUSHALL",
            "CONFIG GET maxmemory",
            "GET {auth}:a",
            "KEYS *",
        ],
        "replica": ["GET a", "CLUSTER SLOTS"],
        "monitor": ["GET a", "CONFIG SET maxmemory 1", "FLUSHALL"],
        "default": ["GET a", "CLUSTER SLOTS", "INFO"],
    }
    with six.nodes.client(*six.name(0)) as node:
        for line in acl.splitlines():
            name, *rules = line.split()[1:]
            if name == "default":
                # The fixture's own login; a copy has the same rules.
                name = "probe"
            redis_cluster.send(node, "ACL", "SETUSER", name, "reset", *rules)
        try:
            for wanted, commands in ((True, allowed), (False, refused)):
                for user, texts in commands.items():
                    who = "probe" if user == "default" else user
                    for text in texts:
                        verdict = redis_cluster.send(node, "ACL", "DRYRUN", who, *text.split())
                        assert (verdict in (b"OK", "OK")) is wanted, (user, text, verdict)
        finally:
            redis_cluster.send(node, "ACL", "DELUSER", "probe", *users)
