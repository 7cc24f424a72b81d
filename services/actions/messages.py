"""The messages of Actions: read into the records of the rules, and written from them."""

from typing import Any

from chassis import errors
from chassis.errors import Failed
from protos import actions_pb2 as pb
from services.actions.attempts import COMPLETED_TTL_S, Attempt
from services.actions.catalogue import ActionType
from services.actions.failures import TokenMismatch
from services.actions.grants import Granted
from services.actions.issuing import Issued
from services.actions.proofs import Claims, Proof, Refusal
from services.actions.tokens import Sealed, encode


def action_type(proto: pb.ActionType) -> ActionType:
    """The type, as it is sent here."""
    stated: dict[str, Any] = {
        field.name: getattr(proto, field.name)
        for field in proto.DESCRIPTOR.fields
        if not field.has_presence or proto.HasField(field.name)
    }
    return ActionType(**stated)


def type_message(known: ActionType) -> pb.ActionType:
    """The type, as it is returned."""
    names = pb.ActionType.DESCRIPTOR.fields_by_name
    return pb.ActionType(**{name: getattr(known, name) for name in names})


def answer_issue(answer: pb.IssueResult, result: Issued | Failed) -> None:
    """Fills in an issued action, or why there is none."""
    # Filled in where it stands in the reply, here and in `answer_verify`: a message that is
    # made beside it is copied, and keywords take twice as long.
    if isinstance(result, Failed):
        answer.failure.CopyFrom(errors.to_proto(result))
        return
    issued, sealed = answer.issued, result.sealed
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


def redemption(item: pb.VerifyItem) -> Attempt:
    """An attempt to redeem the token of `item`."""
    return Attempt(attempt_id=item.attempt_id, caller=item.user_id, claims=_claims(item.claims))


def completion(item: pb.CompleteItem) -> Attempt:
    """An attempt to complete an action without its token."""
    # The checksum distinguishes attempts: it covers all of the proof.
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
        result.completed.repeat = attempt.repeat
    return result


def answer_verify(answer: pb.VerifyResult, attempt: Attempt, now_ms: int) -> None:
    """Fills in what is sealed, and what it is worth or why the attempt on it does not hold."""
    if attempt.sealed:
        _name(answer.sealed, attempt.sealed)
        answer.elapsed_ms = now_ms - attempt.sealed.issued_at_ms
    if attempt.refusal:
        _refuse(answer, attempt, attempt.refusal)
    else:
        answer.points = attempt.points


def answer_grant(answer: pb.VerifyResult, granted: Granted) -> None:
    """Fills in what is granted, or why it is not."""
    answer.points = granted.points
    if granted.failure:
        answer.failure.CopyFrom(errors.to_proto(granted.failure))
    if granted.named:
        _name(answer.sealed, granted.grant)


def _name(sealed: pb.Sealed, known: Sealed | pb.Grant) -> None:
    sealed.action_id = known.action_id
    sealed.user_id = known.user_id
    sealed.action_type = known.action_type


def _refuse(answer: pb.VerifyResult, attempt: Attempt, refusal: Refusal) -> None:
    bounds, proof = attempt.bounds, attempt.claims.proof
    answer.failure.CopyFrom(errors.to_proto(refusal.failure))
    answer.closes = attempt.closed
    answer.mismatch = isinstance(refusal.failure, TokenMismatch)
    if proof:
        answer.claimed_ms = proof.completion_time_ms
    if bounds:
        answer.min_duration_ms = bounds.min_duration_ms
        answer.max_duration_ms = bounds.max_duration_ms


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
