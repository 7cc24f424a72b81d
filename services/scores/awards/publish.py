"""Publish: what follows a change of the ledger: boards, answer, then event, receipt and Settle.

What happens after the answer may be lost with the process: the relay repeats it from the outbox.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from chassis.batching import BATCH_MAX
from chassis.errors import Failed
from chassis.postgres import DbUnavailable
from chassis.redis import UNAVAILABLE
from chassis.telemetry import log
from protos import actions_pb2, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from services.scores.awards.records import Judged, Receipt, render
from services.scores.awards.store import LedgerStore
from services.scores.boards import Boards
from services.scores.boards.changes import Change, Written
from services.scores.boards.names import Name
from services.scores.boards.places import UNRANKED, Ranks

SETTLE_S = 2.0
CLOSE_S = 0.2  # how long a refusal waits for its action to be closed
# Settlements and receipts wait for those of the next batches: a call and a statement cost much
# the same for one award as for many, and hardly anything waits for either.
GATHER_S = 0.05

Award = tuple[Judged, Written]


class Publisher:
    """Publishes changes to the boards, the event stream and actions."""

    def __init__(self, ledger: LedgerStore, boards: Boards, actions: ActionsStub) -> None:
        self._ledger = ledger
        self._boards = boards
        self._actions = actions
        self._tasks: set[asyncio.Task[None]] = set()
        # Seqs, action ids and receipts to acknowledge; no receipt: only to settle.
        self._gathered: list[tuple[int, str, Receipt | None]] = []
        self._draining = asyncio.Event()

    async def publish(self, awards: Sequence[Award]) -> list[scores_pb2.Award]:
        """Moves the boards by awards just written, and returns the answers; the rest follows."""
        if not awards:
            return []
        renamed = _renamed(awards)
        rows = [
            msgspec.structs.replace(row, username=renamed[row.user_id][1])
            if row.user_id in renamed
            else row
            for _, row in awards
        ]
        new = {r.user_id: (r.name_version, r.username) for r in rows if r.version == 1}
        if names := new | renamed:
            await self._publish_names(names)
        ranks = await self._move_boards(rows)
        shown = ranks or [UNRANKED] * len(rows)
        receipts = [
            _receipt(row, rank, under_review=judged.under_review)
            for (judged, _), row, rank in zip(awards, rows, shown, strict=True)
        ]
        task = asyncio.create_task(self._follow_up(rows, ranks, receipts, renamed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return [render(row, receipt) for row, receipt in zip(rows, receipts, strict=True)]

    async def publish_changes(self, changes: Sequence[Change]) -> None:
        """Publishes changes that are no awards. What fails is left to the relay."""
        if not changes:
            return
        try:
            await self.place(changes)
            await self._ledger.clear([change.seq for change in changes])
        except (*UNAVAILABLE, DbUnavailable) as error:
            log.warning("changes_left_to_relay", error=repr(error), changes=len(changes))

    async def place(self, changes: Sequence[Change]) -> list[Ranks]:
        """Puts the players where they stand by now, publishes the changes, returns their ranks.

        Raises RedisError and DbUnavailable.
        """
        users = list(dict.fromkeys(change.user_id for change in changes))
        placed = await self._boards.places.place(await self._boards.store.of(users))
        ranks = [placed.get(change.user_id, UNRANKED) for change in changes]
        for start in range(0, len(changes), BATCH_MAX):
            end = start + BATCH_MAX
            await self._boards.events.publish(changes[start:end], ranks[start:end])
        return ranks

    async def settle(self, *, awarded: Sequence[str] = (), refused: Sequence[str] = ()) -> bool:
        """Sends actions that these were awarded, or refused for good; whether it acknowledged."""
        request = actions_pb2.SettleRequest(awarded=awarded, refused=refused)
        try:
            await self._actions.Settle(request, timeout=CLOSE_S if refused else SETTLE_S)
        except Failed as failed:
            count = len(awarded) + len(refused)
            log.warning("settlement_failed", code=failed.code, actions=count)
            return False
        return True

    async def drain(self) -> None:
        """Returns when all that follows the answers given is done."""
        self._draining.set()
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._draining.clear()

    async def _publish_names(self, names: dict[str, Name]) -> None:
        try:
            await self._boards.names.keep(names)
        except UNAVAILABLE as error:
            log.warning("names_not_published", error=repr(error))

    async def _move_boards(self, rows: Sequence[Written]) -> list[Ranks] | None:
        """The ranks around each award; None: the boards are unavailable."""
        try:
            return await self._boards.places.apply(rows)
        except (*UNAVAILABLE, DbUnavailable) as error:
            log.warning("boards_unavailable", error=repr(error))
            return None  # The awards are written: they are answered without ranks.

    async def _follow_up(
        self,
        rows: Sequence[Written],
        ranks: Sequence[Ranks] | None,
        receipts: Sequence[Receipt],
        renamed: dict[str, Name],
    ) -> None:
        """The rest of `publish`. None for `ranks`: boards and events are left to the relay."""
        try:
            if renamed:
                await self._ledger.rename(renamed)
            if ranks:
                await self._boards.events.publish(rows, ranks)
        except (*UNAVAILABLE, DbUnavailable) as error:
            log.warning("events_left_to_relay", error=repr(error), awards=len(rows))
            return
        first = not self._gathered
        self._gathered += [
            (row.seq, row.action_id, receipt if ranks else None)
            for row, receipt in zip(rows, receipts, strict=True)
        ]
        if first:
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._draining.wait()
            gathered, self._gathered = self._gathered, []
            for start in range(0, len(gathered), BATCH_MAX):
                await self._acknowledge(gathered[start : start + BATCH_MAX])

    async def _acknowledge(self, batch: Sequence[tuple[int, str, Receipt | None]]) -> None:
        settled = await self.settle(awarded=[action_id for _, action_id, _ in batch])
        receipts = [(seq, action_id, receipt) for seq, action_id, receipt in batch if receipt]
        if not receipts:
            return
        try:
            await self._ledger.acknowledge(receipts, settled=settled)
        except DbUnavailable as error:
            log.warning("acknowledgement_left_to_relay", error=repr(error), awards=len(receipts))


def _renamed(awards: Sequence[Award]) -> dict[str, Name]:
    """The names that are newer than the ledger's, by user id."""
    names: dict[str, Name] = {}
    for judged, row in awards:
        if judged.name_version > row.name_version:
            name = (judged.name_version, judged.username)
            names[row.user_id] = max(name, names.get(row.user_id, name))
    return names


def _receipt(row: Written, ranks: Ranks, *, under_review: bool) -> Receipt:
    warnings = ("UNDER_REVIEW",) if under_review else ()
    if ranks.new is None and not row.hidden:
        warnings = (*warnings, "RANK_UNAVAILABLE")
    return Receipt(rank=ranks.new, old_rank=ranks.old, warnings=warnings, held=row.hidden)
