"""A Redis Cluster on loopback, for tests: nodes that can be stopped and started one by one."""

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from local.servers import embedded as servers

SLOTS = 16384
_JOIN_S = 20.0


class Cluster:
    """Nodes that hold the slots in equal parts, without replicas."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._password = secrets.token_hex(8)
        ports = _free_ports(2 * size)
        self._ports, self._bus_ports = ports[:size], ports[size:]
        self._running: dict[int, ExitStack] = {}

    @property
    def url(self) -> str:
        """The URL of the cluster, which names every node."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return f"redis+cluster://:{self._password}@{hosts}"

    def start(self, number: int) -> None:
        """Starts a node, without data, but it knows the cluster if it was in it before."""
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
                durable=False,
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
        """Gives out the slots, and returns when every node knows of all. Raises TimeoutError."""
        size = len(self._ports)
        bounds = [number * SLOTS // size for number in range(size + 1)]
        for number in range(size):
            with self.node(number) as node:
                _tell(node, "SET-CONFIG-EPOCH", number + 1)
                _tell(node, "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                _tell(node, "MEET", "127.0.0.1", self._ports[0], self._bus_ports[0])
        self.settle()

    def move(self, slot: int, source: int, target: int) -> None:
        """Gives a slot to another node, without what it holds."""
        with self.node(source) as old:
            for key in _tell(old, "GETKEYSINSLOT", slot, 1000):
                old.delete(key)
        self.give(slot, target)

    def give(self, slot: int, target: int) -> None:
        """Lets all nodes that run know a slot's new owner: the owner first, so there is one."""
        with self.node(target) as new:
            name = _tell(new, "MYID")
            _tell(new, "SETSLOT", slot, "NODE", name)
            # What the old owner sent before and arrives late counts less from here on.
            _tell(new, "BUMPEPOCH")
        for number in self._running:
            with self.node(number) as node:
                _tell(node, "SETSLOT", slot, "NODE", name)

    @contextmanager
    def moving(self, slot: int, source: int, target: int) -> Iterator[None]:
        """Within it, the slot is on its way to another node, and has nothing left at the old."""
        with self.node(source) as old, self.node(target) as new:
            _tell(new, "SETSLOT", slot, "IMPORTING", _tell(old, "MYID"))
            _tell(old, "SETSLOT", slot, "MIGRATING", _tell(new, "MYID"))
            yield
            for node in (new, old):
                _tell(node, "SETSLOT", slot, "STABLE")

    def settle(self) -> None:
        """Returns when every node is there and says that all is well. Raises TimeoutError."""
        until = time.monotonic() + _JOIN_S
        while not all(self._settled(number) for number in range(len(self._ports))):
            if time.monotonic() > until:
                raise TimeoutError("the cluster does not settle")
            time.sleep(0.05)

    def _settled(self, number: int) -> bool:
        with self.node(number) as node:
            given, shards = _tell(node, "INFO"), _tell(node, "SLOTS")
        return given["cluster_state"] == "ok" and len(shards) == len(self._ports)


@contextmanager
def running(directory: Path, *, size: int = 3) -> Iterator[Cluster]:
    """A cluster of `size` nodes with data below `directory`. Raises Unavailable, TimeoutError."""
    cluster = Cluster(directory, size)
    try:
        for number in range(size):
            cluster.start(number)
        cluster.join()
        yield cluster
    finally:
        cluster.stop_all()


def _tell(node: Any, *words: str | int) -> Any:
    return node.execute_command(f"CLUSTER {words[0]}", *words[1:])


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listening = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [listener.getsockname()[1] for listener in listening]
