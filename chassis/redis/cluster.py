"""A Redis Cluster: which node holds the slot of a key, learned from the nodes themselves."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, DataError, MovedError, RedisError
from redis.exceptions import ClusterCrossSlotError as CrossSlotError
from redis.exceptions import ConnectionError as RedisConnectionError

from chassis.redis.link import Argument, Command, Link, Server
from chassis.telemetry import log

REDIRECTIONS_MAX = 5
REFRESH_PAUSE_S = 0.1  # between two questions for who holds what

# Commands without a key: for every node, for any node, or without meaning on a cluster.
_EVERYWHERE = frozenset("ACL CLIENT CONFIG FLUSHALL FLUSHDB FUNCTION PING SCRIPT".split())
_ANYWHERE = frozenset("CLUSTER COMMAND ECHO INFO PUBLISH ROLE TIME".split())
_NOWHERE = frozenset("DBSIZE KEYS MOVE RANDOMKEY SCAN SELECT SWAPDB".split())


@dataclass(slots=True)
class _Unit:
    """Commands that go to one node in one piece, and their answers."""

    commands: Sequence[Command]
    slot: int | None  # None: any node will do
    answers: list[Any] = field(default_factory=list)
    importer: Link | None = None  # the node that takes the slot over, after an ASK

    def take(self, answers: Iterator[Any]) -> None:
        if self.importer is not None:
            next(answers)
        self.answers = list(itertools.islice(answers, len(self.commands)))

    def sent(self) -> Sequence[Command]:
        return self.commands if self.importer is None else [("ASKING",), *self.commands]


class Cluster:
    """The masters of a cluster, and one link to each."""

    def __init__(self, seeds: Sequence[Server], *, timeout_s: float) -> None:
        """`seeds` are some of its nodes, the others are learned from them."""
        self._seeds = tuple(seeds)
        self._timeout_s = timeout_s
        self._links: dict[Server, Link] = {}
        self._owners: list[Link | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._trusted = False  # whether the owners are not in doubt
        self._learning: asyncio.Task[None] | None = None
        self._learned_at = 0.0

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, the servers' errors and those of lost nodes among them as values.

        Each node gets its share in one piece. Raises RedisError when no node is there.
        """
        if len(commands) == 1 and _upper(commands[0][0]) in _EVERYWHERE:
            return [await self._everywhere(commands[0])]
        units = [_Unit((command,), _slot(command)) for command in commands]
        await self._run(units)
        return [unit.answers[0] for unit in units]

    async def execute_atomic(self, commands: Sequence[Command]) -> list[Any]:
        """The answers of commands on one slot, the first of them MULTI and the last EXEC.

        Raises ClusterCrossSlotError.
        """
        slot, *others = {_slot(command) for command in commands[1:-1]}
        if others:
            raise CrossSlotError("the keys of one step belong to several slots")
        unit = _Unit(commands, slot)
        await self._run([unit])
        return unit.answers

    async def execute_alone(self, command: Command, *, wait_s: float) -> Any:
        """The answer to a command that blocks up to `wait_s`, as `execute` gives it."""
        slot = _slot(command)
        answer: Any = None
        for _ in range(REDIRECTIONS_MAX):
            await self._learned()
            link = self._holder(slot)
            if link is None:
                return _unserved(slot)
            try:
                answer = await link.execute_alone(command, wait_s=wait_s)
            except RedisConnectionError:
                self._trusted = False
                raise
            if not isinstance(answer, MovedError):
                break
            self._move(answer, link)
        return answer

    async def each(self, command: Command) -> dict[str, Any]:
        """The answer of every master, as `Link.each` gives it. Raises RedisError."""
        await self._learned()
        found = await asyncio.gather(*(link.each(command) for link in self._masters()))
        answers = {node: answer for answered in found for node, answer in answered.items()}
        if any(isinstance(answer, RedisError) for answer in answers.values()):
            self._trusted = False
        return answers

    def somewhere(self) -> Server:
        """A node that can be reached, as far as is known."""
        return self._by_reach()[0].server

    def close(self) -> None:
        """Ends the connections; calls in flight fail."""
        if self._learning is not None:
            self._learning.cancel()
        for link in self._links.values():
            link.close()

    async def _run(self, units: Sequence[_Unit]) -> None:
        left = units
        for _ in range(REDIRECTIONS_MAX):
            await self._learned()
            shares: dict[Link, list[_Unit]] = {}
            for unit in left:
                link = unit.importer or self._holder(unit.slot)
                if link is None:
                    unit.answers = [_unserved(unit.slot)] * len(unit.commands)
                else:
                    shares.setdefault(link, []).append(unit)
            redirected = await asyncio.gather(*map(self._ask, shares, shares.values()))
            left = [unit for share in redirected for unit in share]
            if not left:
                return

    async def _ask(self, link: Link, units: Sequence[_Unit]) -> list[_Unit]:
        """Sends the units to one node. Returns those that belong to another node."""
        try:
            answers = iter(await link.execute([command for u in units for command in u.sent()]))
        except RedisError as error:
            self._trusted = False
            for unit in units:
                unit.answers = [error] * len(unit.commands)
            return []
        redirected = []
        for unit in units:
            unit.take(answers)
            unit.importer = None
            # Where one command of a transaction was redirected, none of it has run.
            if any(self._redirected(unit, answer, link) for answer in unit.answers):
                redirected.append(unit)
        return redirected

    def _redirected(self, unit: _Unit, answer: Any, sender: Link) -> bool:
        if isinstance(answer, MovedError):
            self._move(answer, sender)
            return True
        if isinstance(answer, AskError) and len(unit.commands) == 1:
            unit.importer = self._link(answer.host, answer.port, sender)
            return True
        if isinstance(answer, ClusterDownError):
            self._trusted = False
        return False

    async def _everywhere(self, command: Command) -> Any:
        await self._learned()
        try:
            answers = await asyncio.gather(*(link.execute([command]) for link in self._masters()))
        except RedisError:
            self._trusted = False
            raise
        errors = (answer for (answer,) in answers if isinstance(answer, Exception))
        return next(errors, answers[0][0])

    def _masters(self) -> list[Link]:
        """Those that hold slots. Raises ClusterDownError where none does."""
        links = dict.fromkeys(link for link in self._owners if link is not None)
        if not links:
            raise ClusterDownError("no node holds any slot")
        return list(links)

    def _holder(self, slot: int | None) -> Link | None:
        return self._owners[slot] if slot is not None else self._by_reach()[0]

    async def _learned(self) -> None:
        """Returns when the owners of all slots are learned; learns them again if in doubt."""
        if self._trusted:
            return
        if self._learning is None:
            if asyncio.get_running_loop().time() < self._learned_at + REFRESH_PAUSE_S:
                return
            self._learning = asyncio.create_task(self._learn())
        await asyncio.shield(self._learning)

    async def _learn(self) -> None:
        try:
            for link in self._by_reach():
                try:
                    (ranges,) = await link.execute([("CLUSTER", "SLOTS")])
                except RedisError as error:
                    ranges = error
                if isinstance(ranges, list) and ranges:
                    self._take(ranges, link)
                    self._trusted = True
                    return
                log.warning("redis_node_unreadable", node=str(link.server), error=repr(ranges))
            if not any(self._owners):
                raise RedisConnectionError(f"no node of the cluster answers: {ranges!r}")
        finally:
            self._learned_at = asyncio.get_running_loop().time()
            self._learning = None

    def _take(self, ranges: list[Any], sender: Link) -> None:
        owners: list[Link | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            link = self._link((host or b"").decode(), port, sender)
            owners[first : last + 1] = [link] * (last + 1 - first)
        self._owners = owners
        for server, link in list(self._links.items()):
            if link not in owners and link.idle:
                link.close()
                del self._links[server]

    def _move(self, moved: AskError, sender: Link) -> None:
        self._owners[moved.slot_id] = self._link(moved.host, moved.port, sender)
        self._trusted = False

    def _link(self, host: str, port: int, sender: Link) -> Link:
        # A node without a name of its own is where it was found.
        host = host or sender.server.host
        return self._link_to(replace(self._seeds[0], host=host, port=port))

    def _link_to(self, server: Server) -> Link:
        link = self._links.get(server)
        if link is None:
            link = self._links[server] = Link(server, timeout_s=self._timeout_s)
        return link

    def _by_reach(self) -> list[Link]:
        """All nodes, connected ones first."""
        links = dict.fromkeys((*self._links.values(), *map(self._link_to, self._seeds)))
        return sorted(links, key=lambda link: not link.connected)


def slot_of(key: Argument) -> int:
    """The slot of a key, or of what stands in braces in it."""
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def _slot(command: Command) -> int | None:
    """Where the command's first key is: the server refuses further ones of other slots."""
    name = _upper(command[0])
    match name:
        case "EVAL" | "EVALSHA":
            return slot_of(command[3]) if int(command[2]) else None
        case "XREAD" | "XREADGROUP":
            return slot_of(command[[_upper(word) for word in command].index("STREAMS") + 1])
        case "MEMORY" | "OBJECT" | "XGROUP" | "XINFO":
            return slot_of(command[2])
    if name in _ANYWHERE:
        return None
    if name in _NOWHERE or name in _EVERYWHERE or len(command) < 2:
        raise DataError(f"{name} names no key, so no node of the cluster")
    return slot_of(command[1])


def _unserved(slot: int | None) -> ClusterDownError:
    return ClusterDownError(f"no node holds slot {slot}")


def _upper(word: Argument) -> str:
    return (word.decode("latin-1") if isinstance(word, bytes) else str(word)).upper()
