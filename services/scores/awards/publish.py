"""What follows a change of the ledger: boards, answer, and, after it, event, receipt and Settle.

What happens after the answer may be lost with the process: the relay does it again from
the outbox.
"""

import asyncio
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from redis.exceptions import RedisError

from chassis.batching import BATCH_MAX
from chassis.errors import Failed
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from protos import actions_pb2, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from services.scores.awards.answers import render
from services.scores.awards.records import Claim, Receipt
from services.scores.awards.store import Ledger
from services.scores.boards.changes import Change, Row
from services.scores.boards.events import Events, award_change
from services.scores.boards.places import Boards, Ranks
from services.scores.boards.store import Standings

SETTLE_S = 0.2  # how long a refusal waits for its action to be closed
# What settlements and receipts wait for those of the next batches: a call and a statement cost much
# the same for one award as for many, and hardly anybody waits for either.
GATHER_S = 0.05
UNRANKED = Ranks(None, None)


class Told(NamedTuple):
    """An award that was answered; `told`: boards and readers of events have heard of it."""

    change: Change
    receipt: Receipt
    told: bool


class Telling:
    """Tells boards, readers of events, and actions."""

    def __init__(
        self,
        ledger: Ledger,
        standings: Standings,
        boards: Boards,
        events: Events,
        *,
        actions: ActionsStub,
    ) -> None:
        self._ledger = ledger
        self._standings = standings
        self._boards = boards
        self._events = events
        self._actions = actions
        self._afterwards: set[asyncio.Task[None]] = set()
        self._gathered: list[Told] = []  # to be settled and acknowledged, by one of the tasks
        self._gathering = False
        self._draining = asyncio.Event()

    async def tell(self, claims: Sequence[Claim], rows: Sequence[Row]) -> list[scores_pb2.Award]:
        """Moves the boards by awards just written, and answers them; the rest comes after."""
        renamed = await self._name(claims, rows)
        if renamed:
            rows = [
                row._replace(username=renamed[row.user_id]) if row.user_id in renamed else row
                for row in rows
            ]
        try:
            ranks: Sequence[Ranks] = await self._boards.apply(rows)
            told = True
        except (RedisError, OSError, DbUnavailable) as error:
            # The awards are written: whatever ails the boards, they are answered.
            log.warning("boards_away", error=repr(error))
            ranks, told = [UNRANKED] * len(rows), False
        receipts = [
            _receipt(claim, row, rank) for claim, row, rank in zip(claims, rows, ranks, strict=True)
        ]
        newer = [c for c in claims if c.user_id in renamed]
        task = asyncio.create_task(self._after(rows, ranks, receipts, newer, told=told))
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)
        return [render(row, receipt) for row, receipt in zip(rows, receipts, strict=True)]

    async def tell_changes(self, changes: Sequence[Change]) -> None:
        """Tells of changes that are no awards. What fails is left to the relay."""
        if not changes:
            return
        try:
            await self.place(changes)
            await self._ledger.clear([change.seq for change in changes])
        except (RedisError, OSError, DbUnavailable) as error:
            log.warning("changes_left_to_relay", error=repr(error), changes=len(changes))

    async def place(self, changes: Sequence[Change]) -> list[Ranks]:
        """Puts the players where they stand by now, publishes the changes, answers their ranks.

        Raises what the stores raise.
        """
        users = list(dict.fromkeys(change.user_id for change in changes))
        placed = await self._boards.place(await self._standings.of(users))
        ranks = [placed.get(change.user_id, UNRANKED) for change in changes]
        for start in range(0, len(changes), BATCH_MAX):
            end = start + BATCH_MAX
            await self._events.publish(changes[start:end], ranks[start:end])
        return ranks

    async def settle(self, action_ids: Sequence[str], *, awarded: bool) -> bool:
        """Tells actions what became of them; whether it has heard."""
        told = {"awarded" if awarded else "refused": action_ids}
        try:
            await self._actions.Settle(
                actions_pb2.SettleRequest(**told), timeout=2.0 if awarded else SETTLE_S
            )
        except Failed as failed:
            log.warning("settlement_failed", code=failed.code, actions=len(action_ids))
            return False
        return True

    async def drain(self) -> None:
        """Returns when all that follows the answers given is done."""
        self._draining.set()
        while self._afterwards:
            await asyncio.wait(self._afterwards)
        self._draining.clear()

    async def _name(self, claims: Sequence[Claim], rows: Sequence[Row]) -> dict[str, str]:
        """Shows the names of players who are new or renamed; answers those of the renamed."""
        shown: dict[str, tuple[int, str]] = {}
        renamed: set[str] = set()
        for claim, row in zip(claims, rows, strict=True):
            name = row.name_version, row.username
            if claim.name_version > row.name_version:
                name = claim.name_version, claim.username
                renamed.add(row.user_id)
            if row.version == 1 or row.user_id in renamed:
                shown[row.user_id] = max(name, shown.get(row.user_id, name))
        if shown:
            try:
                await self._boards.name(shown)
            except (RedisError, OSError) as error:
                log.warning("names_not_shown", error=repr(error))
        return {user: shown[user][1] for user in renamed}

    async def _after(
        self,
        rows: Sequence[Row],
        ranks: Sequence[Ranks],
        receipts: Sequence[Receipt],
        renamed: Sequence[Claim],
        *,
        told: bool,
    ) -> None:
        changes = [award_change(row) for row in rows]
        try:
            if renamed:
                await self._ledger.rename(
                    [(claim.user_id, claim.username, claim.name_version) for claim in renamed]
                )
            if told:
                await self._events.publish(changes, ranks)
        except (RedisError, OSError, DbUnavailable) as error:
            log.warning("events_left_to_relay", error=repr(error), awards=len(rows))
            return
        self._gathered += map(Told, changes, receipts, repeat(told))
        if not self._gathering:
            for part in await self._gather():
                await self._acknowledge(part)

    async def _gather(self) -> list[list[Told]]:
        """What is told by the end of a moment, as batches."""
        self._gathering = True
        try:
            async with asyncio.timeout(GATHER_S):
                await self._draining.wait()
        except TimeoutError:
            pass
        finally:
            self._gathering = False
        all_told, self._gathered = self._gathered, []
        return [all_told[at : at + BATCH_MAX] for at in range(0, len(all_told), BATCH_MAX)]

    async def _acknowledge(self, answered: Sequence[Told]) -> None:
        settled = await self.settle([one.change.event_id for one in answered], awarded=True)
        told = [one for one in answered if one.told]
        if not told:
            return
        try:
            await self._ledger.acknowledge(
                [one.change for one in told], [one.receipt for one in told], settled=settled
            )
        except DbUnavailable as error:
            log.warning("acknowledgement_left_to_relay", error=repr(error), awards=len(told))


def _receipt(claim: Claim, row: Row, ranks: Ranks) -> Receipt:
    warnings: tuple[str, ...] = ()
    if claim.under_review:
        warnings = ("UNDER_REVIEW",)
    if ranks.new is None and not row.hidden:
        warnings = (*warnings, "RANK_UNAVAILABLE")
    return Receipt(ranks.new, ranks.old, warnings, row.hidden)
