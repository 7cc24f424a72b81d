"""A Redis Cluster of nodes with fixed names: forms it, keeps its nodes acquainted, hands over.

`form` is run once, and again after a node lost its data. Beside each node `stay` runs: it
introduces the node to peers whose addresses changed, and at its end makes a replica the primary.
"""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

SLOTS = 16384
FORM_S = 300.0  # for all nodes to start and join
HAND_OVER_S = 20.0  # for a replica to become the primary
LOOK_S = 5.0  # between two looks at the peers
_POLL_S = 0.1
_CONNECT_S = 2.0

# What a node that is not there yet raises; its name may not resolve.
UNREACHABLE = (RedisError, OSError)


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """The nodes of a cluster, by their names, and the login of a user who may do everything."""

    names: tuple[tuple[str, int], ...]  # host and port
    user: str | None = None
    password: str | None = None

    @classmethod
    def of(cls, url: str) -> "Nodes":
        """Those that `redis+cluster://user:password@host:port,…` names. Raises ValueError."""
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        if parts.scheme != "redis+cluster" or not hosts:
            raise ValueError("must be redis+cluster://user:password@host:port,…")
        pairs = [host.rpartition(":") for host in hosts.split(",")]
        if not all(host and port.isdigit() for host, _, port in pairs):
            raise ValueError("every host needs its port")
        if len(pairs) < 6 or len(pairs) % 2:
            raise ValueError("must name an even number of nodes, 6 or more")
        return cls(
            names=tuple((host, int(port)) for host, _, port in pairs),
            user=unquote(user) or None,
            password=unquote(password) or None,
        )

    @contextmanager
    def client(self, host: str, port: int) -> Iterator[Redis]:
        """A client of one node, by name or address."""
        with Redis(
            host=host,
            port=port,
            username=self.user,
            password=self.password,
            decode_responses=True,
            socket_timeout=_CONNECT_S,
            socket_connect_timeout=_CONNECT_S,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            yield client


@dataclass(frozen=True, kw_only=True)
class Member:
    """A node as one of them sees it: a line of CLUSTER NODES."""

    id: str
    host: str  # its address
    port: int
    bus_port: int
    flags: frozenset[str]
    primary: str  # the id of the node that it copies, else "-"
    connected: bool
    slots: frozenset[int] = field(repr=False)

    @property
    def is_primary(self) -> bool:
        return "master" in self.flags

    @property
    def fails(self) -> bool:
        return bool(self.flags & {"fail", "fail?"})


def form(nodes: Nodes, *, say: Callable[[str], None] = print, deadline_s: float = FORM_S) -> None:
    """Makes one cluster of the nodes: half of them primaries, each other a replica of one.

    Does what is missing, so it may be run any number of times. Ids that no node has any more
    are forgotten. Raises TimeoutError.
    """
    until = time.monotonic() + deadline_s
    wait("every node answers", lambda: len(_own(nodes)) == len(nodes.names), until)
    own = _own(nodes)
    for (host, port), member in own.items():
        with nodes.client(host, port) as node:
            if int(_info(node)["cluster_current_epoch"]) == 0 and len(members(node)) == 1:
                # Distinct from the start, so that no two primaries have to agree on theirs.
                node.cluster("SET-CONFIG-EPOCH", 1 + list(own).index((host, port)))
        _forget(nodes, member.id, keep={each.id for each in own.values()})
    for name in nodes.names:
        introduce(nodes, name)
    wait("every node sees all others", lambda: _acquainted(nodes), until)
    _assign(nodes)
    wait("every slot has a holder", lambda: _covered(nodes), until)
    _replicate(nodes)
    wait("every primary has a replica", lambda: _settled(nodes), until)
    for (host, port), member in _own(nodes).items():
        say(f"{host}:{port} is {'a primary' if member.is_primary else 'a replica'}")


def stay(
    nodes: Nodes,
    own: tuple[str, int],
    *,
    ends: threading.Event,
    ready: Path,
    look_s: float = LOOK_S,
    say: Callable[[str], None] = print,
) -> None:
    """Introduces the node to its peers until `ends` is set, then hands over.

    The file `ready` is there while the node is a primary or has all that its primary has, so
    that no other node of the shard need be stopped before. Raises OSError when it cannot be
    written.
    """
    while not ends.wait(look_s):
        try:
            introduce(nodes, own)
            in_step = _in_step(nodes, own)
        except UNREACHABLE as error:
            say(f"not introduced: {error!r}")
            in_step = False
        if in_step:
            ready.touch()
        else:
            ready.unlink(missing_ok=True)
    try:
        say(hand_over(nodes, own))
    except (*UNREACHABLE, TimeoutError) as error:
        say(f"not handed over: {error!r}")


def until_stopped() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    ends = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ends.set())
    return ends


def introduce(nodes: Nodes, own: tuple[str, int]) -> None:
    """Sends the node the addresses of those peers that it does not reach.

    Peers that are down are left out. Raises UNREACHABLE when the node itself is.
    """
    with nodes.client(*own) as node:
        known = {member.id: member for member in members(node)}
        for name, peer in _own(nodes).items():
            seen = known.get(peer.id)
            if seen is not None and "myself" in seen.flags:
                continue
            address = socket.gethostbyname(name[0])
            if seen is None or not seen.connected or seen.host != address:
                node.cluster("MEET", address, name[1], peer.bus_port)


def hand_over(nodes: Nodes, own: tuple[str, int], *, deadline_s: float = HAND_OVER_S) -> str:
    """Makes a replica of the node the primary, and returns when it is; says what was done.

    A replica, a node without slots and one without a replica are left as they are. Raises
    UNREACHABLE, TimeoutError.
    """
    with nodes.client(*own) as node:
        seen = members(node)
        me = next(member for member in seen if "myself" in member.flags)
        if not me.is_primary or not me.slots:
            return "nothing to hand over"
        heirs = [each for each in seen if each.primary == me.id and not each.fails]
        if not heirs:
            return "no replica to hand over to"
        with nodes.client(heirs[0].host, heirs[0].port) as heir:
            heir.cluster("FAILOVER")
        until = time.monotonic() + deadline_s
        wait("a replica is the primary", lambda: not _myself(node).is_primary, until)
        return f"handed over to {heirs[0].host}:{heirs[0].port}"


def send(node: Redis, *words: str) -> Any:
    """What a node replies to a command; redis-py's own method has no types."""
    untyped: Any = node
    return untyped.execute_command(*words)


def members(node: Redis) -> list[Member]:
    """All members of the cluster, as a node sees them."""
    # Sent as one word, so that redis-py leaves the answer as it is.
    lines = str(send(node, "CLUSTER", "NODES")).splitlines()
    return [_member(line) for line in lines]


def wait(what: str, holds: Callable[[], bool], until: float) -> None:
    """Returns when it holds; an error of a node counts as not yet. Raises TimeoutError."""
    while True:
        try:
            if holds():
                return
        except UNREACHABLE:
            pass
        if time.monotonic() > until:
            raise TimeoutError(f"waited in vain: {what}")
        time.sleep(_POLL_S)


def _in_step(nodes: Nodes, own: tuple[str, int]) -> bool:
    with nodes.client(*own) as node:
        role = send(node, "ROLE")
    # Of a replica: its role, its primary's address and port, the state of the link.
    return bool(role[0] == "master" or role[3] == "connected")


def _own(nodes: Nodes) -> dict[tuple[str, int], Member]:
    """Each node that can be reached, as it sees itself."""
    found = {}
    for host, port in nodes.names:
        try:
            with nodes.client(host, port) as node:
                found[host, port] = _myself(node)
        except UNREACHABLE:
            continue
    return found


def _myself(node: Redis) -> Member:
    return next(member for member in members(node) if "myself" in member.flags)


def _member(line: str) -> Member:
    id_, places, flags, primary, _, _, _, link, *slots = line.split()
    address, _, bus = places.partition(",")[0].partition("@")
    host, _, port = address.rpartition(":")
    return Member(
        id=id_,
        host=host,
        port=int(port),
        bus_port=int(bus),
        flags=frozenset(flags.split(",")),
        primary=primary,
        connected=link == "connected",
        slots=frozenset(slot for part in slots if part[0] != "[" for slot in _range(part)),
    )


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _info(node: Redis) -> Mapping[str, str]:
    lines = str(send(node, "CLUSTER", "INFO")).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _forget(nodes: Nodes, id_: str, *, keep: set[str]) -> None:
    """Removes from one node's table those that failed and are none of `keep`."""
    for name, member in _own(nodes).items():
        if member.id == id_:
            with nodes.client(*name) as node:
                for other in members(node):
                    if other.id not in keep and "fail" in other.flags:
                        node.cluster("FORGET", other.id)


def _acquainted(nodes: Nodes) -> bool:
    own = {member.id for member in _own(nodes).values()}
    for name in nodes.names:
        with nodes.client(*name) as node:
            met = [each for each in members(node) if "handshake" not in each.flags]
        if {each.id for each in met if each.connected} != own:
            return False
    return True


def _assign(nodes: Nodes) -> None:
    """Gives the slots without a holder to the first half of the nodes, in equal parts."""
    own = _own(nodes)
    held = frozenset[int]().union(*(member.slots for member in own.values()))
    names = nodes.names[: len(nodes.names) // 2]
    by_id = {member.id: name for name, member in own.items()}
    for place, name in enumerate(names):
        part = range(place * SLOTS // len(names), (place + 1) * SLOTS // len(names))
        missing = [slot for slot in part if slot not in held]
        # After a failover the shard's primary is another node.
        holder = name if own[name].is_primary else by_id[own[name].primary]
        if missing:
            with nodes.client(*holder) as node:
                node.cluster("ADDSLOTS", *missing)


def _covered(nodes: Nodes) -> bool:
    for name in nodes.names:
        with nodes.client(*name) as node:
            if int(_info(node)["cluster_slots_assigned"]) < SLOTS:
                return False
    return True


def _replicate(nodes: Nodes) -> None:
    """Makes each primary without slots a replica of that with the fewest, of another zone first."""
    own = _own(nodes)
    zones = {member.id: _zone(nodes, name) for name, member in own.items()}
    copies = {member.id: 0 for member in own.values() if member.slots}
    for member in own.values():
        if member.primary in copies:
            copies[member.primary] += 1
    free = {member.id: name for name, member in own.items() if member.is_primary}
    for id_ in copies:
        del free[id_]
    while free:
        id_, name = free.popitem()
        left = [zones[other] for other in free]
        # Last counts what the nodes after this one would have to avoid.
        chosen = min(
            copies, key=lambda to: (copies[to], zones[to] == zones[id_], -left.count(zones[to]))
        )
        with nodes.client(*name) as node:
            node.cluster("REPLICATE", chosen)
        copies[chosen] += 1


def _zone(nodes: Nodes, name: tuple[str, int]) -> str:
    with nodes.client(*name) as node:
        return str(node.info("server").get("availability_zone", ""))


def _settled(nodes: Nodes) -> bool:
    own = _own(nodes)
    primaries = {member.id for member in own.values() if member.slots}
    copied = {member.primary for member in own.values() if not member.is_primary}
    for name in own:
        with nodes.client(*name) as node:
            if _info(node)["cluster_state"] != "ok":
                return False
    return len(own) == len(nodes.names) and copied == primaries
