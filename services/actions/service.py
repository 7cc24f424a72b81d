"""The calls of Actions: check, act, reply."""

from dataclasses import asdict
from typing import Any

from chassis import clock
from chassis.batching import bounded
from chassis.errors import Invalid
from chassis.ids import is_uuid
from chassis.telemetry import log
from protos import actions_pb2 as pb
from protos import actions_pb2_grpc
from services.actions import messages
from services.actions.attempts import Attempts, IncidentRelay
from services.actions.catalogue import ActionType, Catalogue, is_name
from services.actions.failures import ActionNotFound, ActionTypeExists, ActionTypeNotFound
from services.actions.grants import Grants
from services.actions.issuing import Issuer, Settlements
from services.actions.store import ActionsStore
from services.actions.tokens import Sealer


class ActionsService(actions_pb2_grpc.ActionsServicer):
    """Issues action tokens and judges what comes back."""

    def __init__(
        self,
        store: ActionsStore,
        catalogue: Catalogue,
        sealer: Sealer,
        relay: IncidentRelay,
        *,
        points_max: int,
        open_max: int,
        settle_wait_s: float,
        capped: bool,
    ) -> None:
        """`open_max` open tokens a player, and how long a request beyond them may wait;
        not `capped`: no daily cap refuses."""
        self._store = store
        self._catalogue = catalogue
        self._points_max = points_max
        self._settlements = Settlements()
        self._issuer = Issuer(
            store,
            catalogue,
            sealer,
            self._settlements,
            open_max=open_max,
            settle_wait_s=settle_wait_s,
            capped=capped,
        )
        self._attempts = Attempts(
            store, catalogue, sealer, relay, self._settlements, points_max=points_max
        )
        self._grants = Grants(catalogue, points_max=points_max)

    async def Catalogue(self, request: pb.CatalogueRequest, context: Any) -> pb.CatalogueReply:
        await self._catalogue.learn(request.needed)
        return pb.CatalogueReply(types=map(messages.type_message, self._catalogue.types()))

    async def CreateType(self, request: pb.ActionType, context: Any) -> pb.ActionType:
        new = messages.action_type(request)
        new.validate(points_max=self._points_max)
        if not await self._store.create_type(new):
            raise ActionTypeExists
        await self._catalogue.refresh()
        log.info("action_type_created", stream="audit", **asdict(new))
        return messages.type_message(new)

    async def UpdateType(self, request: pb.UpdateTypeRequest, context: Any) -> pb.ActionType:
        new = messages.action_type(request.type)

        def change(present: ActionType) -> ActionType:
            changed = present.changed(new, request.fields, now_ms=clock.now_ms())
            changed.validate(points_max=self._points_max)
            return changed

        known = is_name(new.action_type)
        done = await self._store.change_type(new.action_type, change) if known else None
        if done is None:
            raise ActionTypeNotFound
        await self._catalogue.refresh()
        before, after = (asdict(one) for one in done)
        changes = {n: (before[n], after[n]) for n in after if before[n] != after[n]}
        if changes:
            log.info("action_type_changed", stream="audit", action_type=new.action_type, **changes)
        return messages.type_message(done[1])

    async def Issue(self, request: pb.IssueRequest, context: Any) -> pb.IssueReply:
        bounded(request.items)
        if not all(is_uuid(item.user_id) for item in request.items):
            raise Invalid("A user id must be a lower-case UUID.")
        results = await self._issuer.issue(request.items, patient=request.patient)
        reply = pb.IssueReply()
        for result in results:
            messages.answer_issue(reply.results.add(), result)
        return reply

    async def Complete(self, request: pb.CompleteRequest, context: Any) -> pb.CompleteReply:
        bounded(request.items)
        attempts = await self._attempts.complete(
            [(messages.completion(item), _known(item.claims.action_id)) for item in request.items],
            now_ms=clock.now_ms(),
        )
        return pb.CompleteReply(results=map(messages.complete_result, attempts))

    async def Verify(self, request: pb.VerifyRequest, context: Any) -> pb.VerifyReply:
        bounded(request.items)
        now_ms = clock.now_ms()
        grants = [item.grant for item in request.items if item.HasField("grant")]
        tokens = [item for item in request.items if not item.HasField("grant")]
        granted = iter(await self._grants.verify(grants, now_ms=now_ms) if grants else ())
        attempts = iter(
            await self._attempts.verify(
                [(messages.redemption(item), item.action_token) for item in tokens], now_ms=now_ms
            )
        )
        reply = pb.VerifyReply()
        for item in request.items:
            if item.HasField("grant"):
                messages.answer_grant(reply.results.add(), next(granted))
            else:
                messages.answer_verify(reply.results.add(), next(attempts), now_ms)
        return reply

    async def Settle(self, request: pb.SettleRequest, context: Any) -> pb.SettleReply:
        bounded([*request.given_up, *request.refused, *request.awarded])
        states = dict.fromkeys(request.given_up, "given_up")
        states |= dict.fromkeys(request.refused, "refused")
        states |= dict.fromkeys(request.awarded, "awarded")
        if states:
            self._settlements.publish(await self._store.settle(states))
        return pb.SettleReply()

    async def Get(self, request: pb.GetActionRequest, context: Any) -> pb.Action:
        known = _known(request.action_id)
        row = (await self._store.find([known])).get(known) if known else None
        if row is None or row.sealed.user_id != request.user_id:
            raise ActionNotFound
        sealed, is_open = row.sealed, row.state in ("requested", "completed")
        return pb.Action(
            action_id=sealed.action_id,
            action_type=sealed.action_type,
            state="expired" if is_open and sealed.expires_at_ms <= clock.now_ms() else row.state,
            issued_at_ms=sealed.issued_at_ms,
            expires_at_ms=sealed.expires_at_ms,
        )


def _known(action_id: str) -> str:
    """The id; empty for what no action can have."""
    return action_id if is_uuid(action_id) else ""
