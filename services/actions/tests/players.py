"""A player who signs as the published contract says."""

import base64
import hashlib
import hmac
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from chassis import clock
from chassis.keyring import Keyring
from protos import actions_pb2 as pb


def key(number: int, fill: bytes) -> str:
    return f"{number}:{base64.urlsafe_b64encode(fill * 32).decode()}"


SEALING = Keyring(f"{key(1, b'a')},{key(2, b'b')}")
SIGNING = Keyring(f"{key(1, b'c')},{key(2, b'd')}")


def new_user() -> str:
    return str(uuid.uuid4())


def stamp(ahead_s: float = 0.0) -> str:
    at = datetime.fromtimestamp(clock.now_ms() / 1000 + ahead_s, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Play:
    """An issued action as its player sees it."""

    user_id: str
    issued: pb.Issued

    def sign(self, *parts: object) -> str:
        text = "\n".join(map(str, parts)).encode()
        return hmac.new(decode(self.issued.signing_key), text, hashlib.sha256).hexdigest()

    def checksum(self, completion_ms: int, timestamp: str, evidence: bytes = b"") -> str:
        digest = hashlib.sha256(evidence).hexdigest() if evidence else ""
        return self.sign(
            "proof.v1",
            self.user_id,
            self.issued.action_id,
            self.issued.action_type,
            self.issued.nonce,
            completion_ms,
            timestamp,
            digest,
        )

    def signature(self, amount: int, timestamp: str) -> str:
        return self.sign(
            "score.v1",
            self.user_id,
            self.issued.action_id,
            self.issued.action_type,
            amount,
            timestamp,
        )

    def proof(self, completion_ms: int, timestamp: str, evidence: bytes = b"") -> pb.Proof:
        return pb.Proof(
            completion_time_ms=completion_ms,
            checksum=self.checksum(completion_ms, timestamp, evidence),
            evidence=evidence,
        )

    def update(self, *, completion_ms: int = 5000, amount: int | None = None) -> pb.Claims:
        """The claims of a right update with everything stated, signed and proved."""
        at = stamp()
        amount = self.issued.score_increment if amount is None else amount
        return pb.Claims(
            user_id=self.user_id,
            action_id=self.issued.action_id,
            action_type=self.issued.action_type,
            score_increment=amount,
            timestamp=at,
            client_signature=self.signature(amount, at),
            proof=self.proof(completion_ms, at),
        )

    def prove(
        self,
        *,
        completion_ms: int = 5000,
        evidence: bytes = b"",
        stated: int | None = None,
        signed: int | None = None,
    ) -> pb.Claims:
        """The claims of a right proof; an amount where one is stated, or signed."""
        at = stamp()
        return pb.Claims(
            timestamp=at,
            proof=self.proof(completion_ms, at, evidence),
            score_increment=stated,
            client_signature=None if signed is None else self.signature(signed, at),
        )

    def completion(self, *, completion_ms: int = 5000, evidence: bytes = b"") -> pb.Claims:
        """The claims of a right completion without a token."""
        at = stamp()
        return pb.Claims(
            action_id=self.issued.action_id,
            action_type=self.issued.action_type,
            timestamp=at,
            proof=self.proof(completion_ms, at, evidence),
        )
