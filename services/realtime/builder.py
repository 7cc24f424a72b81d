"""The builder: publishes the changes of boards, on one replica at a time for each board."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from prometheus_client import Counter, Histogram

from chassis import clock, telemetry
from chassis.errors import Failed
from chassis.redis import UNAVAILABLE
from chassis.telemetry import log
from services.realtime import frames
from services.realtime.channels import Channels
from services.realtime.frames import Position, Publication, RankChange, Reason, Window
from services.realtime.source import Source, Top
from services.realtime.store import Draft, LiveStore, Outcome

PACE_S = 0.1  # from one publication of a board to the next
RETRY_S = 0.5  # after a failure
LEASE_S = 5.0  # after which another builder takes over from one that died

published = Counter("live_publications_total", "Publications of boards", ["board", "kind"])
tick_s = Histogram(
    "live_tick_seconds", "From the call to scores to the publication", buckets=telemetry.BUCKETS_S
)


def channel_of(board: str) -> str:
    """The live channel of a board."""
    return f"leaderboard:{board}"


@dataclass(slots=True)
class _Job:
    """The state of a board for its builder."""

    board: str
    window: int  # entries that the channel shows
    dirty: bool = True
    awarded_at_ms: int = 0  # of the oldest award that the next publication shows; 0: not known
    later_awarded_at_ms: int = 0  # of the oldest since the present tick began, as above
    not_before: float = 0.0  # of the event loop's clock, as the times below
    held_until: float = 0.0
    fence: int = 0
    resets_at_ms: int | None = None
    stored: Position | None = None  # of the channel in Redis; None: to be read again

    @property
    def channel(self) -> str:
        return channel_of(self.board)


class Builder:
    """Each replica has one, which tries to hold the lease of every board."""

    def __init__(self, store: LiveStore, source: Source, channels: Channels) -> None:
        self._store = store
        self._source = source
        self._channels = channels
        self._holder = secrets.token_hex(8)
        self._jobs: dict[str, _Job] = {}
        self._wake = asyncio.Event()
        self._added = asyncio.Event()  # a board whose lease was not tried yet

    def set_boards(self, windows: Mapping[str, int]) -> None:
        """Replaces the boards, each with its window's entries; those that stay keep their state."""
        kept = {board: self._jobs.get(board) or _Job(board, n) for board, n in windows.items()}
        for board, job in kept.items():
            job.window = windows[board]
        if kept.keys() - self._jobs.keys():
            self._added.set()
        self._jobs = kept

    def mark_dirty(self, board: str, *, awarded_at_ms: int = 0) -> None:
        """Marks a board as changed since it was published, by an award of that time (0: not
        known)."""
        if job := self._jobs.get(board):
            job.dirty = True
            job.later_awarded_at_ms = job.later_awarded_at_ms or awarded_at_ms
            if job.not_before <= time.monotonic():
                self._wake.set()  # else `build` wakes when the pause ends

    def mark_all_dirty(self) -> None:
        """Marks every board as changed: which ones were is not known."""
        for board in self._jobs:
            self.mark_dirty(board)

    def reread(self, board: str) -> None:
        """Reads the board's channel again before publishing: Redis may have lost its end."""
        if job := self._jobs.get(board):
            job.stored = None
            self.mark_dirty(board)

    async def hold_leases(self) -> None:
        """Takes and renews leases, at once those of added boards, forever."""
        while True:
            self._added.clear()
            try:
                await self._renew()
            except UNAVAILABLE as error:
                log.warning("leases_not_renewed", error=repr(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_S / 5):
                    await self._added.wait()

    async def build(self) -> None:
        """Publishes the changes of the boards whose lease this replica holds, forever."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now = loop.time()
            due = [job for job in self._jobs.values() if _due(job, now)]
            if due:
                await self._tick(due)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._idle_s(now)):
                    await self._wake.wait()

    async def release_leases(self) -> None:
        """Ends the leases, so that another replica takes over at once."""
        names = [job.board for job in self._jobs.values() if job.fence]
        for job in self._jobs.values():
            job.fence = 0
        with suppress(*UNAVAILABLE):
            await self._store.lease(names, holder=self._holder, ttl_ms=0)

    async def _renew(self) -> None:
        sent = asyncio.get_running_loop().time()
        jobs = list(self._jobs.values())
        fences = await self._store.lease(
            [job.board for job in jobs], holder=self._holder, ttl_ms=round(LEASE_S * 1000)
        )
        for job, fence in zip(jobs, fences, strict=True):
            if fence and fence != job.fence:
                log.info("lease_taken", board=job.board, fence=fence)
                # Another replica may have published, and changes were not published from here.
                job.stored, job.dirty = None, True
                job.awarded_at_ms = job.later_awarded_at_ms = 0
                self._wake.set()
            job.fence = fence
            # Counted from before the request, so never longer than Redis counts.
            job.held_until = sent + LEASE_S

    def _idle_s(self, now: float) -> float:
        """How long no board is due by itself; at most 1 s, since tests move the clock."""
        held = [job for job in self._jobs.values() if _held(job, now)]
        waits = [job.not_before - now for job in held]
        waits += [(job.resets_at_ms - clock.now_ms()) / 1000 for job in held if job.resets_at_ms]
        return min([1.0, *(wait for wait in waits if wait > 0)])

    async def _tick(self, due: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        for job in due:
            job.dirty = False
            job.awarded_at_ms = job.awarded_at_ms or job.later_awarded_at_ms
            job.later_awarded_at_ms = 0
        try:
            with tick_s.time():
                await self._publish_changes(due)
            pause_s = PACE_S
        except (Failed, *UNAVAILABLE) as error:
            log.warning("tick_failed", boards=[job.board for job in due], error=repr(error))
            for job in due:
                # The publications may have been stored all the same.
                job.dirty, job.stored = True, None
            pause_s = RETRY_S
        for job in due:
            job.not_before = max(job.not_before, loop.time() + pause_s)

    async def _publish_changes(self, jobs: list[_Job]) -> None:
        for job in jobs:
            if job.stored is None:
                position, history = await self._store.stored(job.channel)
                self._channels.adopt(job.channel, history)
                job.stored = position
        drafts: list[tuple[_Job, Draft]] = []
        tops = await self._source.tops([(job.board, job.window) for job in jobs])
        for job, top in zip(jobs, tops, strict=True):
            if isinstance(top, Failed):
                log.warning("window_refused", board=job.board, code=top.code)
                job.dirty, job.not_before = True, asyncio.get_running_loop().time() + RETRY_S
            elif draft := self._draft(job, top):
                drafts.append((job, draft))
            else:
                job.awarded_at_ms = 0  # the window does not show it
        if not drafts:
            return
        outcomes = await self._store.publish([draft for _, draft in drafts])
        for (job, draft), outcome in zip(drafts, outcomes, strict=True):
            self._finish(job, draft, outcome)

    def _draft(self, job: _Job, top: Top) -> Draft | None:
        """The publication that brings watchers to `top`; None when they have it already."""
        job.resets_at_ms = top.resets_at_ms
        channel = self._channels.boards.get(job.channel)
        if job.stored is None or channel is None:
            return None  # to be read again, or removed, since `tops` was called
        here = channel.position
        # A new epoch where Redis has another position, since publications were lost, and
        # where a new period began.
        content: RankChange | Reason
        was = None
        if here == job.stored and here.epoch:
            was = frames.window(channel.snapshot)
        if was is None or was.period != top.window.period:
            position, content = Position(secrets.token_hex(8), 1), "epochChanged"
        else:
            change = frames.difference(was, top.window)
            if change is None:
                return None
            position = Position(here.epoch, here.offset + 1)
            content = "tooManyChanges" if len(change.changes) * 2 > job.window else change
        publication = _publication(
            job.channel, position, top.window, content, awarded_at_ms=job.awarded_at_ms
        )
        return Draft(publication, job.fence, job.stored)

    def _finish(self, job: _Job, draft: Draft, outcome: Outcome) -> None:
        publication = draft.publication
        if outcome == "published":
            job.stored, job.awarded_at_ms = publication.position, 0
            # At once, before the stream returns it; `adopt` where the epoch is new.
            if not self._channels.accept(publication):
                self._channels.adopt(job.channel, [publication])
            kind = "epoch" if publication.position.offset == 1 else "change"
            published.labels(job.board, kind).inc()
            return
        log.warning("publication_refused", board=job.board, outcome=outcome)
        job.dirty, job.stored = True, None
        if outcome == "fenced":
            job.fence = 0


def _held(job: _Job, now: float) -> bool:
    return job.fence > 0 and now < job.held_until


def _due(job: _Job, now: float) -> bool:
    if not _held(job, now) or now < job.not_before:
        return False
    return job.dirty or (job.resets_at_ms is not None and clock.now_ms() >= job.resets_at_ms)


def _publication(
    channel: str,
    position: Position,
    window: Window,
    content: RankChange | Reason,
    *,
    awarded_at_ms: int,
) -> Publication:
    """The publication after which `window` is shown: a change, or why it is a whole window."""
    at_ms, snapshot = clock.now_ms(), frames.encode(window)
    epoch, offset = position.epoch, position.offset
    frame: frames.Delta | frames.Snapshot
    if isinstance(content, RankChange):
        frame = frames.Delta(
            channel=channel,
            epoch=epoch,
            offset=offset,
            ts=clock.rfc3339(at_ms),
            event="leaderboard.rank_change",
            data=content,
        )
    else:
        frame = frames.Snapshot(
            channel=channel, epoch=epoch, offset=offset, reason=content, data=msgspec.Raw(snapshot)
        )
    encoded = frames.encode(frame)
    return Publication(
        channel=channel,
        frame=encoded,
        at_ms=at_ms,
        position=position,
        snapshot=snapshot,
        awarded_at_ms=awarded_at_ms,
    )
