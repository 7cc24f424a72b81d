"""The messages of Actions: read into what the rules know, and written from it."""

from chassis import errors
from chassis.errors import Failed
from protos import actions_pb2 as pb
from services.actions.attempts import COMPLETED_TTL_S, Attempt
from services.actions.catalogue import ActionType
from services.actions.grants import Grant, Granted
from services.actions.issuing import Issued
from services.actions.proofs import Claims, Proof
from services.actions.tokens import encode


def action_type(proto: pb.ActionType) -> ActionType:
    """The type, as it is sent here."""
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
        formula=proto.formula,
        points_min=proto.points_min if proto.HasField("points_min") else None,
        points_max=proto.points_max if proto.HasField("points_max") else None,
    )


def type_message(known: ActionType) -> pb.ActionType:
    """The type, as it is answered."""
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
        formula=known.formula,
        points_min=known.points_min,
        points_max=known.points_max,
    )


def issue_result(result: Issued | Failed) -> pb.IssueResult:
    """An issued action, or why there is none."""
    if isinstance(result, Failed):
        return pb.IssueResult(failure=errors.to_proto(result))
    # Set one by one, here and in `verify_result`: keywords take twice as long.
    answer, sealed = pb.IssueResult(), result.sealed
    issued = answer.issued
    issued.action_id = sealed.action_id
    issued.action_type = sealed.action_type
    issued.action_token = result.token
    issued.signing_key = encode(result.signing_key)
    issued.nonce = encode(sealed.nonce)
    issued.issued_at_ms = sealed.issued_at_ms
    issued.expires_at_ms = sealed.expires_at_ms
    if sealed.points:
        issued.score_increment = sealed.points
    issued.min_duration_ms = result.bounds.min_duration_ms
    issued.max_duration_ms = result.bounds.max_duration_ms
    return answer


def redemption(item: pb.VerifyItem) -> Attempt:
    """An attempt to redeem the token of `item`."""
    return Attempt(attempt_id=item.attempt_id, caller=item.user_id, claims=_claims(item.claims))


def completion(item: pb.CompleteItem) -> Attempt:
    """An attempt to complete an action without its token."""
    # The checksum tells one attempt from another: it covers all of the proof.
    return Attempt(
        attempt_id=item.claims.proof.checksum, caller=item.user_id, claims=_claims(item.claims)
    )


def complete_result(attempt: Attempt) -> pb.CompleteResult:
    """A completed action, or why it is not."""
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


def grant(grant: pb.Grant) -> Grant:
    """A game server's grant."""
    states = grant.HasField("score_increment")
    return Grant(
        action_types=grant.action_types,
        action_id=grant.action_id,
        user_id=grant.user_id,
        action_type=grant.action_type,
        score_increment=grant.score_increment if states else None,
    )


def verify_result(attempt: Attempt, now_ms: int) -> pb.VerifyResult:
    """What is sealed, and whether the attempt on it holds."""
    sealed, bounds, proof = attempt.sealed, attempt.bounds, attempt.claims.proof
    result = pb.VerifyResult()
    if attempt.refusal:
        result.failure.CopyFrom(errors.to_proto(attempt.refusal.failure))
        result.closes = attempt.closed
    else:
        result.points = attempt.points
    if sealed:
        result.elapsed_ms = now_ms - sealed.issued_at_ms
        told = result.sealed
        told.action_id = sealed.action_id
        told.user_id = sealed.user_id
        told.action_type = sealed.action_type
        told.score_increment = sealed.points
        told.nonce = sealed.nonce
        told.issued_at_ms = sealed.issued_at_ms
        told.expires_at_ms = sealed.expires_at_ms
        if sealed.completed:
            told.phase = pb.Sealed.COMPLETED
    if proof:
        result.claimed_ms = proof.completion_time_ms
    if bounds:
        result.min_duration_ms = bounds.min_duration_ms
        result.max_duration_ms = bounds.max_duration_ms
    return result


def granted_result(granted: Granted) -> pb.VerifyResult:
    """What is granted, or why it is not."""
    grant, result = granted.grant, pb.VerifyResult(points=granted.points)
    if granted.failure:
        result.failure.CopyFrom(errors.to_proto(granted.failure))
    if granted.named:
        result.sealed.action_id = grant.action_id
        result.sealed.user_id = grant.user_id
        result.sealed.action_type = grant.action_type
        result.sealed.score_increment = granted.points
    return result


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
