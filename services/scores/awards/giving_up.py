"""Giving up: a player uses an open action up for nothing, so that its slot is free at once."""

from chassis.errors import Conflict
from chassis.postgres import DbUnavailable
from protos import actions_pb2
from protos.actions_pb2_grpc import ActionsStub
from services.scores.awards.store import LedgerStore
from services.scores.awards.write import Breaker


class ActionAwarded(Conflict):
    """The action was awarded."""


class GivingUp:
    """Writes the row that an award would have had: the first one written decides."""

    def __init__(self, ledger: LedgerStore, breaker: Breaker, actions: ActionsStub) -> None:
        self._ledger = ledger
        self._breaker = breaker
        self._actions = actions

    async def give_up(self, user_id: str, action_id: str) -> None:
        """Returns when the action is open no longer and can never be awarded; again does no harm.

        Raises ActionNotFound, also for another player's, ActionAwarded and Unavailable.
        """
        own = actions_pb2.GetActionRequest(user_id=user_id, action_id=action_id)
        action = await self._actions.Get(own)
        if self._breaker.open:
            raise DbUnavailable
        kind = await self._ledger.give_up(action_id, user_id, action.action_type)
        if kind != "given_up":
            raise ActionAwarded
        # Before the answer, unlike after an award: the next request counts on the slot.
        await self._actions.Settle(actions_pb2.SettleRequest(given_up=[action_id]))
