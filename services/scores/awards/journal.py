"""The replay journal: verified awards that wait in Redis for Postgres.

An item counts by its MAC alone: write access to Redis makes no awards. The ledger sees to it that
each is awarded once, also after a crash between writing it and dropping the item.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
from prometheus_client import Counter, Gauge

from chassis.batching import BATCH_MAX
from chassis.errors import Failed
from chassis.keyring import Keyring
from chassis.postgres import DbUnavailable
from chassis.redis import UNAVAILABLE, Argument, Redis, Script
from chassis.telemetry import log
from services.scores.awards.publish import Publisher
from services.scores.awards.records import (
    IdempotencyKeyReused,
    Judged,
    QueuedForReplay,
    TokenAlreadyUsed,
)
from services.scores.awards.write import LedgerWriter
from services.scores.boards.changes import Row, Written

STREAM = "journal:{awards}"
HELD = "journal:{awards}:held"
RETRY_AFTER_S = 5
QUEUE_S = 1.0  # for Redis to take a batch

_MAC_BYTES = 32
_ITEMS = Counter("scoreboard_journal_items_total", "Items of the journal", ["outcome"])
# A counter that appears with its first event has no rate for it.
for _outcome in ("queued", "repeated", "full", "replayed", "forged", "unwritable", "stuck"):
    _ITEMS.labels(_outcome)
_LENGTH = Gauge("scoreboard_journal_waiting", "Items that wait in the journal")

Entry = tuple[bytes, dict[bytes, bytes]]


class ReplayJournal:
    """Any process may queue; one at a time should drain, though two do no harm."""

    def __init__(
        self,
        redis: Redis,
        keys: Keyring,
        writer: LedgerWriter,
        publisher: Publisher,
        *,
        items_max: int,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._writer = writer
        self._publisher = publisher
        self._items_max = items_max
        self._queue = Script.read(redis, __package__, "journal_queue.lua")

    async def queue(self, judged: Sequence[Judged]) -> list[Failed]:
        """The answers to awards that Postgres cannot take now: QueuedForReplay, or where
        Redis does not take them either DbUnavailable."""
        arguments: list[Argument] = [self._items_max]
        for award in judged:
            arguments += (award.action_id, _fingerprint(award), self._seal(award))
        try:
            async with asyncio.timeout(QUEUE_S):
                answers = await self._queue([STREAM, HELD], arguments)
        except UNAVAILABLE as error:
            log.error("journal_unavailable", error=repr(error), awards=len(judged))
            return [DbUnavailable() for _ in judged]
        log.error("awards_queued", awards=answers.count(1), full=0 in answers)
        return [_answer(award, answer) for award, answer in zip(judged, answers, strict=True)]

    async def drain(self, fence: int = 0) -> None:
        """Writes what is queued, in order, as far as Postgres takes it.

        Raises DbUnavailable and RedisError: the next call goes on.
        """
        after = "-"
        while True:
            entries: Any = await self._redis.xrange(STREAM, min=after, count=BATCH_MAX)
            _LENGTH.set(await self.waiting())
            if not entries:
                return
            readable: list[tuple[Entry, Judged]] = []
            forged: list[Entry] = []
            for entry in entries:
                judged = self._open(entry[1].get(b"item", b""))
                if judged is None:
                    log.error("journal_item_forged", stream="security", entry_id=entry[0].decode())
                    _ITEMS.labels("forged").inc()
                    forged.append(entry)
                else:
                    readable.append((entry, judged))
            await self._drop(forged)
            if readable:
                await self._drop(await self._replay(readable))
            after = f"({entries[-1][0].decode()}"

    async def waiting(self) -> int:
        """How many awards are queued. Raises RedisError."""
        return int(await self._redis.xlen(STREAM))

    async def warn_unless_persistent(self) -> None:
        """Logs a warning when Redis would lose the journal with its process."""
        try:
            about: dict[str, Any] = await self._redis.info("persistence")
        except UNAVAILABLE as error:
            log.warning("journal_persistence_unknown", error=repr(error))
            return
        if not about.get("aof_enabled"):
            log.warning("journal_not_persistent", remedy="set appendonly yes in Redis")

    async def _replay(self, found: Sequence[tuple[Entry, Judged]]) -> list[Entry]:
        """Writes these, and returns the entries that are done with."""
        try:
            rows = await self._writer.insert([judged for _, judged in found])
        except asyncpg.PostgresError as error:
            if len(found) == 1:
                # An unknown failure: the item stays, and the others go on.
                log.error("journal_item_stuck", error=repr(error), **_named(found[0][1]))
                _ITEMS.labels("stuck").inc()
                return []
            return [entry for one in found for entry in await self._replay([one])]
        written: list[tuple[Judged, Written]] = []
        for (_, judged), row in zip(found, rows, strict=True):
            if isinstance(row, Failed):
                log.error("journal_item_unwritable", code=row.code, **_named(judged))
                _ITEMS.labels("unwritable").inc()
            elif isinstance(row, Written):
                written.append((judged, row))
            elif row.given_up:
                log.info("journal_item_given_up", **_named(judged))
            elif _contents(judged) != _contents(row):
                log.error("journal_item_superseded", **_named(judged))
        if written:
            await self._publisher.publish(written)
            log.info("journal_replayed", awards=len(written))
        _ITEMS.labels("replayed").inc(len(written))
        return [entry for entry, _ in found]

    async def _drop(self, entries: Sequence[Entry]) -> None:
        if entries:
            actions = [fields.get(b"action", b"") for _, fields in entries]
            ids = [entry_id for entry_id, _ in entries]
            # In this order: an item left alone by a crash is replayed, to no effect, and dropped.
            await self._redis.execute_many([("HDEL", HELD, *actions), ("XDEL", STREAM, *ids)])

    def _seal(self, judged: Judged) -> bytes:
        kid, body = self._keys.current, msgspec.msgpack.encode(judged)
        return bytes((kid,)) + self._mac(kid, body) + body

    def _open(self, sealed: bytes) -> Judged | None:
        """None for what was not made here, or lost its key."""
        kid, mac, body = sealed[:1], sealed[1 : 1 + _MAC_BYTES], sealed[1 + _MAC_BYTES :]
        if not kid or kid[0] not in self._keys:
            return None
        if not hmac.compare_digest(mac, self._mac(kid[0], body)):
            return None
        return msgspec.msgpack.decode(body, type=Judged)

    def _mac(self, kid: int, body: bytes) -> bytes:
        return hmac.digest(self._keys[kid], b"journal.v1\n" + bytes((kid,)) + body, "sha256")


def _answer(judged: Judged, answer: int) -> Failed:
    if answer in (1, 2):
        _ITEMS.labels("queued" if answer == 1 else "repeated").inc()
        return QueuedForReplay(retry_after_s=RETRY_AFTER_S)
    if answer == 3:
        return TokenAlreadyUsed() if judged.client_id is None else IdempotencyKeyReused()
    _ITEMS.labels("full").inc()
    return DbUnavailable()


def _contents(award: Judged | Row) -> tuple[str, str, int, str | None]:
    return award.user_id, award.action_type, award.points, award.client_id


def _fingerprint(judged: Judged) -> bytes:
    return hashlib.sha256(repr(_contents(judged)).encode()).digest()[:16]


def _named(judged: Judged) -> dict[str, str]:
    return {"action_id": judged.action_id, "user_id": judged.user_id}
