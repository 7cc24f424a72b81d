"""Tests of who may call what."""

from collections.abc import Awaitable

import pytest

from chassis.errors import Failed
from chassis.testing import Certificates
from protos import actions_pb2 as pb
from services.actions.tests.players import UNITS, Actions, caller_of

DRAWN = {
    "Catalogue": {"gateway"},
    "CreateType": {"gateway"},
    "Issue": {"gateway"},
    "Complete": {"gateway"},
    "Get": {"gateway"},
    "Verify": {"scores"},
    "Settle": {"scores"},
}
REQUESTS = {
    "Catalogue": pb.CatalogueRequest(),
    "CreateType": pb.ActionType(),
    "Issue": pb.IssueRequest(),
    "Complete": pb.CompleteRequest(),
    "Get": pb.GetActionRequest(),
    "Verify": pb.VerifyRequest(),
    "Settle": pb.SettleRequest(),
}


def test_every_method_of_the_contract_is_drawn() -> None:
    service = pb.DESCRIPTOR.services_by_name["Actions"]

    assert {method.name for method in service.methods} == set(DRAWN) == set(REQUESTS)


@pytest.mark.parametrize("unit", UNITS)
async def test_a_unit_may_call_what_is_drawn_and_nothing_else(
    actions: Actions, certificates: Certificates, unit: str
) -> None:
    async with caller_of(actions, certificates, unit) as stub:
        answers = {
            method: await refusal(getattr(stub, method)(request))
            for method, request in REQUESTS.items()
        }

    for method, code in answers.items():
        assert (code == "CALLER_REFUSED") is (unit not in DRAWN[method]), method


async def refusal(call: Awaitable[object]) -> str:
    """The code that a call fails with; what an empty request is answered matters not."""
    try:
        await call
    except Failed as failed:
        return failed.code
    return ""
