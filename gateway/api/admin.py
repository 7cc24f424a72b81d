"""Administration: the catalogue of action types."""

from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from gateway.api import actions
from gateway.api.claims import Exact, Name, Small, Title
from gateway.edge.body import Body, require
from gateway.edge.idempotency import Once
from gateway.edge.request import Request
from protos import actions_pb2
from protos.actions_pb2_grpc import ActionsStub

# What an Idempotency-Key does on calls that change what there is.
CHANGED = Once(kept=True)


class NewActionType(Body):
    """A new entry of the catalogue; actions judges whether it makes sense."""

    action_type: Name
    title: Title
    min_duration_ms: Exact
    max_duration_ms: Exact
    token_ttl_s: Small
    points: Exact | None = None
    daily_cap: Small | None = None
    max_open: Small | None = None
    authoritative: bool = False
    formula: Name | None = None
    points_min: Exact | None = None
    points_max: Exact | None = None

    def __post_init__(self) -> None:
        if self.formula is None:
            require(points=self.points)


class ActionTypeChange(Body):
    """A JSON merge patch (RFC 7396): what is missing stays, null unsets."""

    title: Title | UnsetType = UNSET
    points: Exact | UnsetType = UNSET
    min_duration_ms: Exact | UnsetType = UNSET
    max_duration_ms: Exact | UnsetType = UNSET
    token_ttl_s: Small | UnsetType = UNSET
    daily_cap: Small | UnsetType | None = UNSET
    max_open: Small | UnsetType | None = UNSET
    authoritative: bool | UnsetType = UNSET
    formula: Name | UnsetType | None = UNSET
    points_min: Exact | UnsetType | None = UNSET
    points_max: Exact | UnsetType | None = UNSET


class ActionTypes:
    """Handlers of the catalogue's administration."""

    def __init__(self, actions: ActionsStub) -> None:
        self._actions = actions

    async def create_type(self, request: Request, body: NewActionType) -> actions.ActionType:
        """Adds an action type."""
        created = await self._actions.CreateType(actions_pb2.ActionType(**_given(body)))
        return actions.action_type(created)

    async def change_type(self, request: Request, body: ActionTypeChange) -> actions.ActionType:
        """Changes an action type, from the next request for a token on."""
        given = _given(body)
        changed = await self._actions.UpdateType(
            actions_pb2.UpdateTypeRequest(
                type=actions_pb2.ActionType(action_type=request.params["action_type"], **given),
                fields=given,
            )
        )
        return actions.action_type(changed)


def _given(body: Body) -> dict[str, Any]:
    """The fields that were sent, by the names that the contract between us and actions has."""
    return {name: value for name, value in asdict(body).items() if value is not UNSET}
