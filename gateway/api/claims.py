"""What a player states about a play: the types that several bodies share."""

from typing import Annotated, Any

from msgspec import Meta

from gateway.edge.body import Body, canonical
from protos import actions_pb2

# Longer than anything that is right; NUL is what a database cannot hold.
Name = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00]*$")]
UserId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Token = Annotated[str, Meta(max_length=2048)]
Signature = Annotated[str, Meta(max_length=256)]
Title = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00]*$")]
Small = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
# What JSON numbers hold exactly everywhere.
Exact = Annotated[int, Meta(ge=-(2**53) + 1, le=2**53 - 1)]


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
