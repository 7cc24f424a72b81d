"""The calls of Actions: check, act, answer."""

import re
from typing import Any

from chassis import clock, errors
from chassis.batching import bounded
from chassis.errors import Failed, Invalid
from chassis.telemetry import log
from protos import actions_pb2 as pb
from protos import actions_pb2_grpc
from services.actions.attempts import COMPLETED_TTL_S, Attempt, Attempts
from services.actions.catalogue import ActionType, Catalogue
from services.actions.failures import ActionNotFound, ActionTypeExists
from services.actions.incidents import Relay
from services.actions.issuing import Issued, Issuer, Settlements, Wanted
from services.actions.proofs import Claims, Proof
from services.actions.store import ActionsStore
from services.actions.tokens import Sealer, encode


class ActionsService(actions_pb2_grpc.ActionsServicer):
    """Issues action tokens and judges what comes back."""

    def __init__(
        self,
        store: ActionsStore,
        catalogue: Catalogue,
        sealer: Sealer,
        relay: Relay,
        *,
        points_max: int,
        open_max: int,
        settle_wait_s: float,
        capped: bool,
    ) -> None:
        """`open_max` open tokens a player, and how long a request beyond them may wait;
        not `capped`: no daily cap refuses."""
        self._store = store
        self._catalogue = catalogue
        self._points_max = points_max
        self._settlements = Settlements()
        self._issuer = Issuer(
            store,
            catalogue,
            sealer,
            self._settlements,
            open_max=open_max,
            settle_wait_s=settle_wait_s,
            capped=capped,
        )
        self._attempts = Attempts(
            store, catalogue, sealer, relay, self._settlements, points_max=points_max
        )

    async def Catalogue(self, request: pb.CatalogueRequest, context: Any) -> pb.CatalogueReply:
        return pb.CatalogueReply(types=map(_type_proto, self._catalogue.types()))

    async def CreateType(self, request: pb.ActionType, context: Any) -> pb.ActionType:
        new = _type(request)
        new.validate(points_max=self._points_max)
        if not await self._store.create_type(new):
            raise ActionTypeExists
        await self._catalogue.refresh()
        log.info("action_type_created", stream="audit", action_type=new.action_type)
        return _type_proto(new)

    async def Issue(self, request: pb.IssueRequest, context: Any) -> pb.IssueReply:
        bounded(request.items)
        if not all(_UUID.fullmatch(item.user_id) for item in request.items):
            raise Invalid("A user id must be a lower-case UUID.")
        wanted = [Wanted(item.user_id, item.action_type) for item in request.items]
        results = await self._issuer.issue(wanted, patient=request.patient)
        return pb.IssueReply(results=map(_issue_result, results))

    async def Complete(self, request: pb.CompleteRequest, context: Any) -> pb.CompleteReply:
        bounded(request.items)
        attempts = await self._attempts.complete(
            [(_completion(item), _known(item.claims.action_id)) for item in request.items],
            now_ms=clock.now_ms(),
        )
        return pb.CompleteReply(results=map(_complete_result, attempts))

    async def Verify(self, request: pb.VerifyRequest, context: Any) -> pb.VerifyReply:
        bounded(request.items)
        now_ms = clock.now_ms()
        attempts = await self._attempts.verify(
            [(_redemption(item), item.action_token) for item in request.items], now_ms=now_ms
        )
        return pb.VerifyReply(results=[_verify_result(attempt, now_ms) for attempt in attempts])

    async def Settle(self, request: pb.SettleRequest, context: Any) -> pb.SettleReply:
        bounded(request.settlements)
        states: dict[str, str] = {}
        for settlement in request.settlements:
            if settlement.awarded:
                states[settlement.action_id] = "awarded"
            else:
                states.setdefault(settlement.action_id, "refused")
        if states:
            self._settlements.tell(await self._store.settle(states))
        return pb.SettleReply()

    async def Get(self, request: pb.GetActionRequest, context: Any) -> pb.Action:
        known = _known(request.action_id)
        row = (await self._store.find([known])).get(known) if known else None
        if row is None or row.user_id != request.user_id:
            raise ActionNotFound
        is_open = row.state in ("requested", "completed")
        return pb.Action(
            action_id=row.action_id,
            action_type=row.action_type,
            state="expired" if is_open and row.expires_at_ms <= clock.now_ms() else row.state,
            issued_at_ms=row.issued_at_ms,
            expires_at_ms=row.expires_at_ms,
        )


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _known(action_id: str) -> str:
    """The id; empty for what no action can have."""
    return action_id if _UUID.fullmatch(action_id) else ""


def _claims(claims: pb.Claims) -> Claims:
    states = claims.HasField
    proof = claims.proof
    return Claims(
        user_id=claims.user_id if states("user_id") else None,
        action_id=claims.action_id if states("action_id") else None,
        action_type=claims.action_type if states("action_type") else None,
        score_increment=claims.score_increment if states("score_increment") else None,
        timestamp=claims.timestamp,
        client_signature=claims.client_signature if states("client_signature") else None,
        proof=Proof(proof.completion_time_ms, proof.checksum, proof.evidence)
        if states("proof")
        else None,
    )


def _redemption(item: pb.VerifyItem) -> Attempt:
    return Attempt(attempt_id=item.attempt_id, caller=item.user_id, claims=_claims(item.claims))


def _completion(item: pb.CompleteItem) -> Attempt:
    # The checksum tells one attempt from another: it covers all of the proof.
    return Attempt(
        attempt_id=item.claims.proof.checksum, caller=item.user_id, claims=_claims(item.claims)
    )


def _verify_result(attempt: Attempt, now_ms: int) -> pb.VerifyResult:
    sealed, bounds, proof = attempt.sealed, attempt.bounds, attempt.claims.proof
    result = pb.VerifyResult(closes=attempt.closed)
    if attempt.refusal:
        result.failure.CopyFrom(errors.to_proto(attempt.refusal.failure))
    if sealed:
        result.elapsed_ms = now_ms - sealed.issued_at_ms
        result.sealed.action_id = sealed.action_id
        result.sealed.user_id = sealed.user_id
        result.sealed.action_type = sealed.action_type
        result.sealed.score_increment = sealed.points
        result.sealed.nonce = sealed.nonce
        result.sealed.issued_at_ms = sealed.issued_at_ms
        result.sealed.expires_at_ms = sealed.expires_at_ms
        result.sealed.phase = pb.Sealed.COMPLETED if sealed.completed else pb.Sealed.REQUESTED
    if proof:
        result.claimed_ms = proof.completion_time_ms
    if bounds:
        result.min_duration_ms = bounds.min_duration_ms
        result.max_duration_ms = bounds.max_duration_ms
    return result


def _complete_result(attempt: Attempt) -> pb.CompleteResult:
    if attempt.refusal:
        return pb.CompleteResult(failure=errors.to_proto(attempt.refusal.failure))
    result = pb.CompleteResult()
    if sealed := attempt.sealed:
        result.completed.action_id = sealed.action_id
        result.completed.action_token = attempt.fresh_token
        result.completed.expires_at_ms = sealed.expires_at_ms
        result.completed.expires_in_s = COMPLETED_TTL_S
        result.completed.score_increment = sealed.points
    return result


def _issue_result(result: Issued | Failed) -> pb.IssueResult:
    if isinstance(result, Failed):
        return pb.IssueResult(failure=errors.to_proto(result))
    sealed = result.sealed
    return pb.IssueResult(
        issued=pb.Issued(
            action_id=sealed.action_id,
            action_type=sealed.action_type,
            action_token=result.token,
            signing_key=encode(result.signing_key),
            nonce=encode(sealed.nonce),
            issued_at_ms=sealed.issued_at_ms,
            expires_at_ms=sealed.expires_at_ms,
            score_increment=sealed.points,
            min_duration_ms=result.bounds.min_duration_ms,
            max_duration_ms=result.bounds.max_duration_ms,
        )
    )


def _type(proto: pb.ActionType) -> ActionType:
    return ActionType(
        action_type=proto.action_type,
        title=proto.title,
        points=proto.points,
        min_duration_ms=proto.min_duration_ms,
        max_duration_ms=proto.max_duration_ms,
        token_ttl_s=proto.token_ttl_s,
        daily_cap=proto.daily_cap if proto.HasField("daily_cap") else None,
        max_open=proto.max_open if proto.HasField("max_open") else None,
        authoritative=proto.authoritative,
    )


def _type_proto(known: ActionType) -> pb.ActionType:
    return pb.ActionType(
        action_type=known.action_type,
        title=known.title,
        points=known.points,
        min_duration_ms=known.min_duration_ms,
        max_duration_ms=known.max_duration_ms,
        token_ttl_s=known.token_ttl_s,
        daily_cap=known.daily_cap,
        max_open=known.max_open,
        authoritative=known.authoritative,
    )
