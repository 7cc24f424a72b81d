"""Scores: redeeming action tokens, and receipts."""

import hashlib
import re

from aiohttp import web

from chassis.errors import FieldError
from chassis.ids import uuid7
from gateway.answers import Answer, rfc3339
from gateway.body import Body
from gateway.claims import Name, Proof, Signature
from gateway.errors import ValidationFailed
from gateway.resources import IDENTITY, UPSTREAMS
from gateway.upstreams import left_s
from protos import actions_pb2, scores_pb2

_KEY = re.compile(r'"?([\x21\x23-\x5b\x5d-\x7e]{1,255})"?')
_INT64_MAX = 2**63 - 1


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
        if self.client_signature is None and self.proof is None:
            raise ValueError("Object missing required field `clientSignature`")


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


async def update(request: web.Request, body: Update) -> Award:
    """Redeems a token, every claim stated and signed."""
    claims = actions_pb2.Claims(
        user_id=body.user_id,
        action_id=body.action_id,
        action_type=body.action_type,
        # Whatever lies beyond 64 bits is as far out of range as their ends.
        score_increment=max(-_INT64_MAX, min(body.score_increment, _INT64_MAX)),
        timestamp=body.timestamp,
        client_signature=body.client_signature,
        proof=body.proof.message() if body.proof else None,
    )
    return await award(request, token=_token(request), claims=claims)


async def increment(request: web.Request, body: Increment) -> Award:
    """Redeems a token."""
    claims = actions_pb2.Claims(
        timestamp=body.timestamp,
        client_signature=body.client_signature,
        proof=body.proof.message() if body.proof else None,
    )
    return await award(request, token=_token(request), claims=claims)


async def receipt(request: web.Request) -> Award:
    """An award of one's own, as it was answered."""
    return _award(
        await request.app[UPSTREAMS].scores.Receipt(
            scores_pb2.ReceiptRequest(
                user_id=request[IDENTITY].user_id, action_id=request.match_info["action_id"]
            )
        )
    )


async def award(request: web.Request, *, token: str, claims: actions_pb2.Claims) -> Award:
    """Asks for an award. Raises what scores refuses it for, ValidationFailed for an
    idempotency key that is none."""
    identity = request[IDENTITY]
    return _award(
        await request.app[UPSTREAMS].award.submit(
            scores_pb2.AwardItem(
                # Made here and never taken from the caller: whoever shows it gets the receipt.
                attempt_id=uuid7(),
                user_id=identity.user_id,
                username=identity.username,
                name_version=identity.name_version,
                action_token=token,
                claims=claims,
                key_hash=_key_hash(request),
                body_hash=hashlib.sha256(await request.read()).digest(),
            ),
            timeout_s=left_s(),
        )
    )


def _award(found: scores_pb2.Award) -> Award:
    rank = found.rank if found.HasField("rank") else None
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
        timestamp=rfc3339(found.at_ms),
        warnings=list(found.warnings),
        held=found.held,
    )


def _token(request: web.Request) -> str:
    # A header may hold bytes that are no text; protobuf takes only text.
    return request.headers.get("X-Action-Token", "").encode("ascii", "replace").decode()


def _key_hash(request: web.Request) -> bytes:
    """The hash of the route and its Idempotency-Key; empty where none is given."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return b""
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValidationFailed(
            errors=[FieldError("Idempotency-Key", "INVALID", "1 to 255 visible ASCII characters.")]
        )
    return hashlib.sha256(f"{request.path}\n{match[1]}".encode()).digest()
