"""Actions: the catalogue, one-time tokens, and proofs."""

from collections.abc import Callable

from aiohttp import web

from chassis.clock import rfc3339
from chassis.errors import TooMany
from gateway.api import scores
from gateway.api.answers import Answer, answer
from gateway.api.claims import Name, Token
from gateway.api.scores import Proof, Scores
from gateway.edge.body import Body, require
from gateway.edge.idempotency import Once
from gateway.edge.limits import Policy
from gateway.edge.request import Request
from gateway.upstreams import Upstreams, left_s
from protos import actions_pb2, scores_pb2


class ActionRequest(Body):
    """The type of the play that is about to begin."""

    action_type: Name


class Completion(Body):
    """A finished play: with its token, to be awarded at once, or by its id, to be verified."""

    proof: Proof
    timestamp: Name
    action_token: Token | None = None
    action_id: Name | None = None
    action_type: Name | None = None

    def __post_init__(self) -> None:
        if self.action_token is None:
            require(actionId=self.action_id, actionType=self.action_type)

    def claims(self) -> actions_pb2.Claims:
        """Raises ValidationFailed."""
        return actions_pb2.Claims(
            action_id=self.action_id,
            action_type=self.action_type,
            timestamp=self.timestamp,
            proof=self.proof.message(),
        )


class ActionType(Answer):
    """One entry of the catalogue. With a formula its `points` are null, and computed from the
    proof within `pointsMin` and `pointsMax`."""

    action_type: str
    title: str
    points: int | None
    min_duration_ms: int
    max_duration_ms: int
    token_ttl_s: int
    daily_cap: int | None
    max_open: int | None
    authoritative: bool
    formula: str | None
    points_min: int | None
    points_max: int | None


class Catalogue(Answer):
    """All action types."""

    types: list[ActionType]


class Issued(Answer):
    """A one-time token, and what its proof is made with. `scoreIncrement` is null where the
    proof decides."""

    action_id: str
    action_type: str
    action_token: str
    signing_key: str
    nonce: str
    issued_at: str
    expires_at: str
    expires_in: int
    score_increment: int | None
    min_duration_ms: int
    max_duration_ms: int


class Completed(Answer):
    """A verified play; its fresh token is to be redeemed."""

    action_id: str
    action_token: str
    expires_in: int
    score_increment: int


class Action(Answer):
    """One play, and what became of it."""

    action_id: str
    action_type: str
    state: str
    issued_at: str
    expires_at: str


def redemption(policy: Policy) -> Callable[[Completion], Policy | None]:
    """That policy of a completion with its token: no other redeems it."""
    return lambda body: policy if body.action_token is not None else None


def once(body: Completion) -> Once | None:
    """A completion without its token gets a fresh token each time, so no answer is a repeat."""
    return scores.REDEEMED if body.action_token is not None else None


class Actions:
    """Handlers of plays."""

    def __init__(self, upstreams: Upstreams, scores: Scores) -> None:
        self._upstreams = upstreams
        self._scores = scores

    async def types(self, request: Request) -> Catalogue:
        """The catalogue."""
        reply = await self._upstreams.actions.Catalogue(actions_pb2.CatalogueRequest())
        return Catalogue([action_type(found) for found in reply.types])

    async def issue(self, request: Request, body: ActionRequest) -> Issued:
        """A token for one play."""
        item = actions_pb2.IssueItem(user_id=request.caller.user_id, action_type=body.action_type)
        try:
            issued = await self._upstreams.issue.submit(item, timeout_s=left_s())
        except TooMany as refused:
            if refused.code != "TOO_MANY_PENDING":
                raise
            # The player's last award may be settled any moment. A request that waits for it does so
            # in another batch, so that no other is held up.
            issued = await self._upstreams.issue_patiently.submit(item, timeout_s=left_s())
        # Written out, on the hot path.
        return Issued(
            action_id=issued.action_id,
            action_type=issued.action_type,
            action_token=issued.action_token,
            signing_key=issued.signing_key,
            nonce=issued.nonce,
            issued_at=rfc3339(issued.issued_at_ms),
            expires_at=rfc3339(issued.expires_at_ms),
            expires_in=(issued.expires_at_ms - issued.issued_at_ms) // 1000,
            score_increment=issued.score_increment if issued.HasField("score_increment") else None,
            min_duration_ms=issued.min_duration_ms,
            max_duration_ms=issued.max_duration_ms,
        )

    async def complete(self, request: Request, body: Completion) -> scores.Award | Completed:
        """Verifies a proof, and awards at once where the token is given."""
        if body.action_token is not None:
            return await self._scores.award(request, token=body.action_token, claims=body.claims())
        item = actions_pb2.CompleteItem(user_id=request.caller.user_id, claims=body.claims())
        completed = await self._upstreams.complete.submit(item, timeout_s=left_s())
        request.repeat = completed.repeat
        return answer(Completed, completed)

    async def state(self, request: Request) -> Action:
        """What became of one's own play."""
        wanted = actions_pb2.GetActionRequest(
            user_id=request.caller.user_id, action_id=request.params["action_id"]
        )
        return answer(Action, await self._upstreams.actions.Get(wanted))

    async def give_up(self, request: Request) -> web.Response:
        """Gives one's own play up: its slot is free, and nothing will be awarded for it."""
        wanted = scores_pb2.GiveUpRequest(
            user_id=request.caller.user_id, action_id=request.params["action_id"]
        )
        await self._upstreams.scores.GiveUp(wanted)
        return web.Response(status=204)


def action_type(found: actions_pb2.ActionType) -> ActionType:
    """One entry of the catalogue, as it is answered."""
    points = None if found.formula else found.points
    return answer(ActionType, found, points=points, formula=found.formula or None)
