"""Signatures over what a player claims: HMAC-SHA-256 with the action's own key.

The fields are joined by line feeds in a fixed order and begin with their purpose, so
that no two different claims share bytes.
"""

import base64
import hashlib
import hmac
from typing import Any

import rfc8785

from scoreboard_client.model import Action


def checksum(
    action: Action, *, user_id: str, completion_time_ms: int, timestamp: str, evidence: Any = None
) -> str:
    """The proof's checksum, lower-case hex."""
    return _sign(
        action,
        "proof.v1",
        user_id,
        action.action_id,
        action.action_type,
        action.nonce,
        str(completion_time_ms),
        timestamp,
        evidence_hash(evidence),
    )


def client_signature(action: Action, *, user_id: str, timestamp: str) -> str:
    """The signature of a score update, lower-case hex.

    Raises ValueError for an action whose points are not known before it is verified.
    """
    if action.score_increment is None:
        raise ValueError("the points of this action are known once it is verified")
    return _sign(
        action,
        "score.v1",
        user_id,
        action.action_id,
        action.action_type,
        str(action.score_increment),
        timestamp,
    )


def evidence_hash(evidence: Any) -> str:
    """SHA-256, in hex, of the evidence as RFC 8785 canonical JSON; empty where there is none."""
    return "" if evidence is None else hashlib.sha256(rfc8785.dumps(evidence)).hexdigest()


def _sign(action: Action, *fields: str) -> str:
    key = base64.urlsafe_b64decode(action.signing_key + "=" * (-len(action.signing_key) % 4))
    return hmac.new(key, "\n".join(fields).encode(), hashlib.sha256).hexdigest()
