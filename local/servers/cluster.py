"""A Redis Cluster on loopback, for tests: nodes that can be stopped and started one by one."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis

from deploy import secrets
from local import ports
from local.servers import embedded as servers

_SIZE, _SLOTS = 3, 16384
_JOIN_S = 20.0


class Cluster:
    """Three nodes that hold the slots in equal parts, without replicas."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._password = secrets.password()
        names = [str(number) for number in range(2 * _SIZE)]
        free = list(ports.keep(directory / "ports.json", names).values())
        self._ports, self._bus_ports = free[:_SIZE], free[_SIZE:]
        self._running: dict[int, ExitStack] = {}

    @property
    def url(self) -> str:
        """The URL of the cluster, which names every node."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return f"redis+cluster://:{self._password}@{hosts}"

    def start(self, number: int) -> None:
        """Starts a node, without data, but still a member where it was one before."""
        stack = self._running[number] = ExitStack()
        options = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-port": str(self._bus_ports[number]),
            "cluster-node-timeout": "1000",
            # What the other nodes hold stays available without this one.
            "cluster-require-full-coverage": "no",
        }
        stack.enter_context(
            servers.redis(
                self._directory / str(number),
                port=self._ports[number],
                password=self._password,
                extra=[word for name, value in options.items() for word in (f"--{name}", value)],
            )
        )

    def stop(self, number: int) -> None:
        """Stops a node."""
        self._running.pop(number).close()

    def stop_all(self) -> None:
        """Stops every node that runs."""
        for number in list(self._running):
            self.stop(number)

    @contextmanager
    def node(self, number: int) -> Iterator[Redis]:
        """A plain client of one node."""
        with Redis(port=self._ports[number], password=self._password) as client:
            yield client

    def join(self) -> None:
        """Assigns the slots, and returns when every node sees all others. Raises TimeoutError."""
        bounds = [number * _SLOTS // _SIZE for number in range(_SIZE + 1)]
        for number in range(_SIZE):
            with self.node(number) as node:
                node.cluster("SET-CONFIG-EPOCH", number + 1)
                node.cluster("ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                node.cluster("MEET", "127.0.0.1", self._ports[0], self._bus_ports[0])
        self.settle()

    def move(self, slot: int, source: int, target: int) -> None:
        """Gives a slot to another node, without what it holds."""
        with self.node(source) as old:
            for key in old.cluster("GETKEYSINSLOT", slot, 1000):
                old.delete(key)
        self.give(slot, target)

    def give(self, slot: int, target: int) -> None:
        """Sends a slot's new owner to all nodes that run: to the owner first, so there is one."""
        with self.node(target) as new:
            name = new.cluster("MYID")
            new.cluster("SETSLOT", slot, "NODE", name)
            # What the old owner sent before and arrives late counts less from here on.
            new.cluster("BUMPEPOCH")
        for number in self._running:
            with self.node(number) as node:
                node.cluster("SETSLOT", slot, "NODE", name)

    @contextmanager
    def moving(self, slot: int, source: int, target: int) -> Iterator[None]:
        """Within it, the slot moves to another node, and the old one has none of its keys."""
        with self.node(source) as old, self.node(target) as new:
            new.cluster("SETSLOT", slot, "IMPORTING", old.cluster("MYID"))
            old.cluster("SETSLOT", slot, "MIGRATING", new.cluster("MYID"))
            yield
            for node in (new, old):
                node.cluster("SETSLOT", slot, "STABLE")

    def settle(self) -> None:
        """Returns when every node runs and reports the cluster as ok. Raises TimeoutError."""
        until = time.monotonic() + _JOIN_S
        while not all(self._settled(number) for number in range(_SIZE)):
            if time.monotonic() > until:
                raise TimeoutError("the cluster does not settle")
            time.sleep(0.05)

    def _settled(self, number: int) -> bool:
        with self.node(number) as node:
            info, shards = node.cluster("INFO"), node.cluster("SLOTS")
        return info["cluster_state"] == "ok" and len(shards) == _SIZE


@contextmanager
def running(directory: Path) -> Iterator[Cluster]:
    """A cluster with data below `directory`. Raises Unavailable, TimeoutError."""
    cluster = Cluster(directory)
    try:
        for number in range(_SIZE):
            cluster.start(number)
        cluster.join()
        yield cluster
    finally:
        cluster.stop_all()
