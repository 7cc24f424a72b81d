"""The award: from a token to a ledger row, its ranks and its answer, a batch at a time.

    verify (actions) ─> judge (fraud) ─> write (ledger, or journal) ─> publish (boards, events)

Each step takes what is still to be decided, by its place in the batch, and returns the answers
it decided and what goes on. One bad item never fails its neighbours. The ledger row alone decides
whether a token is used.
"""

from collections.abc import Mapping, Sequence

from chassis import clock
from chassis.errors import Failed, from_proto
from chassis.postgres import DbUnavailable
from protos import actions_pb2, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from services.scores.awards.answers import Answer, Answers, TokenAlreadyUsed
from services.scores.awards.incidents import Incidents, replay
from services.scores.awards.journal import ReplayJournal
from services.scores.awards.judge import Judge
from services.scores.awards.publish import Publisher
from services.scores.awards.records import Judged, Verified
from services.scores.awards.repeats import Repeats
from services.scores.awards.write import LedgerWriter
from services.scores.boards.changes import Row, Written


class AwardPipeline:
    """The steps in their order."""

    def __init__(
        self,
        *,
        actions: ActionsStub,
        repeats: Repeats,
        judge: Judge,
        writer: LedgerWriter,
        journal: ReplayJournal,
        publisher: Publisher,
        incidents: Incidents,
    ) -> None:
        self._actions = actions
        self._repeats = repeats
        self._judge = judge
        self._writer = writer
        self._journal = journal
        self._publisher = publisher
        self._incidents = incidents

    async def award(self, items: Sequence[scores_pb2.AwardItem]) -> list[Answer]:
        """The award of each item, or why there is none. Each action is awarded at most once."""
        answers, verified = await self._verify(items)
        repeated, judgeable = await self._find_used(verified)
        refused, judged = await self._judge.judge(judgeable)
        unwritten, written = await self._write(judged, verified)
        published = await self._publisher.publish(list(written.values()))
        answers |= repeated | refused | unwritten | dict(zip(written, published, strict=True))
        self._report_replays(answers, verified)
        return [answers[at] for at in range(len(items))]

    async def _verify(
        self, items: Sequence[scores_pb2.AwardItem]
    ) -> tuple[Answers, dict[int, Verified]]:
        """Goes on: what has an authentic token of its player, also if it is refused."""
        reply = await self._actions.Verify(
            actions_pb2.VerifyRequest(items=[item.attempt for item in items])
        )
        answers: Answers = {}
        verified: dict[int, Verified] = {}
        for at, (item, found) in enumerate(zip(items, reply.results, strict=True)):
            attempt = Verified(item, found)
            if attempt.refused and not attempt.own:
                answers[at] = from_proto(found.failure)
            else:
                verified[at] = attempt
        return answers, verified

    async def _find_used(
        self, verified: Mapping[int, Verified]
    ) -> tuple[Answers, dict[int, Verified]]:
        """A ledger row outranks every other reason to refuse. Goes on: what fraud is to judge."""
        refused = {at: attempt for at, attempt in verified.items() if attempt.refused}
        if not refused:
            return {}, dict(verified)
        answers: Answers
        try:
            rows = await self._repeats.rows([a.action_id for a in refused.values()])
        except DbUnavailable:
            # Only the ledger can say whether these were used.
            answers = {at: DbUnavailable() for at in refused}
        else:
            used = {at: rows[a.action_id] for at, a in refused.items() if a.action_id in rows}
            answers = await self._repeats.answer(refused, used)
            # A refused grant is not judged: its game server is trusted.
            for at, attempt in refused.items():
                if attempt.granted and at not in answers:
                    answers[at] = from_proto(attempt.found.failure)
        return answers, {at: a for at, a in verified.items() if at not in answers}

    async def _write(
        self, judged: Mapping[int, Judged], verified: Mapping[int, Verified]
    ) -> tuple[Answers, dict[int, tuple[Judged, Written]]]:
        """Goes on: what has a new row. While Postgres is unavailable all goes to the journal."""
        if not judged:
            return {}, {}
        batch = list(judged.values())
        try:
            rows = await self._writer.write(batch)
        except DbUnavailable:
            queued = await self._journal.queue(batch)
            return dict(zip(judged, queued, strict=True)), {}
        answers: Answers = {}
        written: dict[int, tuple[Judged, Written]] = {}
        used: dict[int, Row] = {}
        for at, row in zip(judged, rows, strict=True):
            if isinstance(row, Failed):
                answers[at] = row
            elif isinstance(row, Written):
                written[at] = judged[at], row
            else:
                used[at] = row
        if used:
            answers |= await self._repeats.answer(verified, used)
        return answers, written

    def _report_replays(self, answers: Answers, verified: Mapping[int, Verified]) -> None:
        """A token of one's own that was redeemed before, and no repeat of that request."""
        replayed = [verified[at] for at, a in answers.items() if isinstance(a, TokenAlreadyUsed)]
        if replayed:
            now_ms = clock.now_ms()
            self._incidents.report([replay(attempt, at_ms=now_ms) for attempt in replayed])
