"""Rows of the ledger as they are answered: to players their own, to staff what a reversal wrote."""

from msgspec import UNSET, UnsetType

from chassis.times import rfc3339
from gateway.api.answers import Answer, answer
from protos import scores_pb2


class Row(Answer):
    """An award, or what voided or restored one; `actionId` is the row's own, `originId` of such
    a row the award's. `points` of a void are negative."""

    action_id: str
    kind: str
    origin_id: str | UnsetType
    action_type: str
    points: int
    old_score: int
    new_score: int
    version: int
    timestamp: str


def row(found: scores_pb2.LedgerRow) -> Row:
    """A row as it is answered."""
    return answer(Row, found, origin_id=found.origin_id or UNSET, timestamp=rfc3339(found.at_ms))
