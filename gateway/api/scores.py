"""Scores: redeeming action tokens, grants of game servers, receipts, one's own ledger."""

import hashlib
from typing import Any

import cachetools
from msgspec import field

from chassis import clock
from chassis.batching import Batcher
from chassis.errors import Failed, Missing
from chassis.ids import uuid7
from gateway.api.answers import Answer, answer
from gateway.api.claims import Exact, Name, Signature, UserId
from gateway.edge.body import Body, canonical, require
from gateway.edge.idempotency import Once
from gateway.edge.request import Request
from gateway.upstreams import Upstreams, left_s
from protos import actions_pb2, scores_pb2
from protos.auth_pb2 import Account, NamesRequest
from protos.auth_pb2_grpc import AuthStub

NAMES_KEPT_MS = 60_000
NAMES_MAX = 10_000

# What an Idempotency-Key does: the ledger has the award, and it is answered again.
REDEEMED = Once(kept=False)
GRANTED = Once(kept=False, by_contents=True)

_INT64_MAX = 2**63 - 1


class Proof(Body):
    """What proves a play; `checksum` is over it and the nonce."""

    completion_time: Exact
    checksum: Signature
    evidence: Any = None

    def message(self) -> actions_pb2.Proof:
        """The proof as it crosses gRPC. Raises ValidationFailed for evidence that has no
        canonical form."""
        evidence = b""
        if self.evidence is not None:
            evidence = canonical(self.evidence, field="proof.evidence")
        return actions_pb2.Proof(
            completion_time_ms=self.completion_time, checksum=self.checksum, evidence=evidence
        )


class PlayerNotFound(Missing):
    """There is no such player."""


class Update(Body):
    """A redemption that states what it redeems."""

    user_id: Name
    action_id: Name
    action_type: Name
    score_increment: int
    timestamp: Name
    client_signature: Signature
    proof: Proof | None = None


class Increment(Body):
    """A redemption by the token alone, under a signature or with the proof."""

    timestamp: Name
    client_signature: Signature | None = None
    proof: Proof | None = None

    def __post_init__(self) -> None:
        if self.proof is None:
            require(clientSignature=self.client_signature)


class Grant(Body):
    """An award by a game server's word; `actionId` is of its own making."""

    action_id: Name
    user_id: UserId
    action_type: Name
    score_increment: int | None = None


class Award(Answer):
    """An award, with the player's place on the all_time board."""

    action_id: str
    user_id: str
    old_score: int
    new_score: int
    score_increment: int
    rank: int | None
    new_rank: int | None
    old_rank: int | None
    version: int
    timestamp: str
    warnings: list[str]
    held: bool


class Row(Answer, kw_only=True, omit_defaults=True):
    """An award, or what voided or restored one; `actionId` is the row's own, `originId` of such
    a row the award's. `points` of a void are negative."""

    action_id: str
    kind: str
    origin_id: str = ""
    action_type: str
    points: int
    old_score: int
    new_score: int
    version: int
    at: str = field(name="timestamp")


class History(Answer):
    """A page of a player's ledger, newest first."""

    rows: list[Row]
    next_cursor: str | None


class Names:
    """The names of players, from auth: fetched in batches, cached for a minute."""

    def __init__(self, auth: AuthStub, *, batch_max: int) -> None:
        self._auth = auth
        self._known: cachetools.TTLCache[str, Account] = cachetools.TTLCache(
            NAMES_MAX, NAMES_KEPT_MS, timer=clock.now_ms
        )
        self._batcher: Batcher[str, Account] = Batcher(
            self._fetch, batch_max=batch_max, name="names"
        )

    async def of(self, user_id: str, *, timeout_s: float) -> Account:
        """The player's name, at most a minute old. Raises PlayerNotFound, Unavailable."""
        known = self._known.get(user_id)
        return known or await self._batcher.submit(user_id, timeout_s=timeout_s)

    async def _fetch(self, user_ids: list[str], timeout_s: float) -> list[Account | Failed]:
        reply = await self._auth.Names(NamesRequest(user_ids=user_ids), timeout=timeout_s)
        found = {account.user_id: account for account in reply.accounts}
        self._known.update(found)
        return [found.get(user_id) or PlayerNotFound() for user_id in user_ids]


class Scores:
    """Handlers of awards and of one's own ledger."""

    def __init__(self, upstreams: Upstreams, names: Names) -> None:
        self._upstreams = upstreams
        self._names = names

    async def update(self, request: Request, body: Update) -> Award:
        """Redeems a token, every claim stated and signed."""
        claims = actions_pb2.Claims(
            user_id=body.user_id,
            action_id=body.action_id,
            action_type=body.action_type,
            score_increment=_int64(body.score_increment),
            timestamp=body.timestamp,
            client_signature=body.client_signature,
            proof=body.proof.message() if body.proof else None,
        )
        return await self.award(request, token=_token(request), claims=claims)

    async def increment(self, request: Request, body: Increment) -> Award:
        """Redeems a token."""
        claims = actions_pb2.Claims(
            timestamp=body.timestamp,
            client_signature=body.client_signature,
            proof=body.proof.message() if body.proof else None,
        )
        return await self.award(request, token=_token(request), claims=claims)

    async def grant(self, request: Request, body: Grant) -> Award:
        """Awards a player by the word of the game server that calls."""
        account = await self._names.of(body.user_id, timeout_s=left_s())
        granted = actions_pb2.Grant(
            client_id=request.caller.user_id,
            action_types=request.caller.action_types,
            action_id=body.action_id,
            user_id=body.user_id,
            action_type=body.action_type,
            score_increment=None if body.score_increment is None else _int64(body.score_increment),
        )
        item = scores_pb2.AwardItem(
            attempt=actions_pb2.VerifyItem(user_id=body.user_id, grant=granted),
            username=account.username,
            name_version=account.name_version,
            body_hash=GRANTED.body_hash(body, b""),
        )
        return await self._submit(request, item)

    async def receipt(self, request: Request) -> Award:
        """An award of one's own, as it was answered."""
        wanted = scores_pb2.ReceiptRequest(
            user_id=request.caller.user_id, action_id=request.params["action_id"]
        )
        return _award(await self._upstreams.scores.Receipt(wanted))

    async def history(self, request: Request) -> History:
        """A page of one's own ledger."""
        wanted = scores_pb2.HistoryRequest(
            user_id=request.caller.user_id,
            cursor=request.query["cursor"],
            limit=request.query["limit"],
        )
        reply = await self._upstreams.scores.History(wanted)
        return History([answer(Row, row) for row in reply.rows], reply.next_cursor or None)

    async def award(self, request: Request, *, token: str, claims: actions_pb2.Claims) -> Award:
        """Requests an award. Raises what scores refuses it for."""
        caller = request.caller
        item = scores_pb2.AwardItem(
            attempt=actions_pb2.VerifyItem(
                user_id=caller.user_id, action_token=token, claims=claims
            ),
            username=caller.username,
            name_version=caller.name_version,
            body_hash=hashlib.sha256(request.body).digest(),
        )
        return await self._submit(request, item)

    async def _submit(self, request: Request, item: scores_pb2.AwardItem) -> Award:
        # Made here and never taken from the caller: showing it gets the receipt.
        item.attempt.attempt_id = uuid7()
        item.key_hash = request.key_hash
        found = await self._upstreams.award.submit(item, timeout_s=left_s())
        request.seen.award()
        request.repeat = found.repeat
        return _award(found)


def _award(found: scores_pb2.Award) -> Award:
    rank = found.rank if found.HasField("rank") else None
    # Written out, on the hot path.
    return Award(
        action_id=found.action_id,
        user_id=found.user_id,
        old_score=found.old_score,
        new_score=found.new_score,
        score_increment=found.score_increment,
        rank=rank,
        new_rank=rank,
        old_rank=found.old_rank if found.HasField("old_rank") else None,
        version=found.version,
        timestamp=clock.rfc3339(found.at_ms),
        warnings=list(found.warnings),
        held=found.held,
    )


def _token(request: Request) -> str:
    # A header may hold bytes that are no text; protobuf takes only text.
    return request.headers.get("X-Action-Token", "").encode("ascii", "replace").decode()


def _int64(number: int) -> int:
    # A number beyond 64 bits is as far out of range as their ends.
    return max(-_INT64_MAX, min(number, _INT64_MAX))
