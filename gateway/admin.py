"""Administration: the catalogue of action types."""

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from gateway import actions
from gateway.body import Body
from gateway.claims import Exact, Name
from gateway.resources import UPSTREAMS
from protos import actions_pb2

Small = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class NewActionType(Body):
    """A new entry of the catalogue; actions judges whether it makes sense."""

    action_type: Name
    title: Annotated[str, Meta(max_length=256, pattern=r"^[^\x00]*$")]
    points: Exact
    min_duration_ms: Exact
    max_duration_ms: Exact
    token_ttl_s: Small
    daily_cap: Small | None = None
    max_open: Small | None = None
    authoritative: bool = False


async def create_type(request: web.Request, body: NewActionType) -> actions.ActionType:
    """Adds an action type."""
    created = await request.app[UPSTREAMS].actions.CreateType(
        actions_pb2.ActionType(
            action_type=body.action_type,
            title=body.title,
            points=body.points,
            min_duration_ms=body.min_duration_ms,
            max_duration_ms=body.max_duration_ms,
            token_ttl_s=body.token_ttl_s,
            daily_cap=body.daily_cap,
            max_open=body.max_open,
            authoritative=body.authoritative,
        )
    )
    return actions.action_type(created)
