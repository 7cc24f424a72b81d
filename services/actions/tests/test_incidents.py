"""Tests of incidents: which strikes are reported, once, and by whom."""

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from chassis import clock
from chassis.errors import Unavailable
from chassis.testing import eventually
from protos import actions_pb2 as pb
from protos import fraud_pb2
from services.actions.tests.players import Play, new_user
from services.actions.tests.serving import Actions


async def reported(actions: Actions) -> list[fraud_pb2.Incident]:
    while await actions.relay.send():
        pass
    return actions.fraud.incidents


async def test_impossible_times_are_reported_with_what_was_seen(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        await actions.verify(play, play.update(completion_ms=100))

    (incident,) = await reported(actions)
    assert (incident.rule, incident.user_id) == ("time", play.user_id)
    assert (incident.observed, incident.threshold) == (100, 1000)
    assert incident.action_id == play.issued.action_id
    assert incident.action_type == "WIN_GAME"
    assert abs(incident.at_ms - clock.now_ms() - 6000) < 5000


async def test_a_signed_amount_is_reported_and_an_unsigned_one_is_not(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        claims = play.update(amount=100)
        signed = claims.client_signature
        claims.client_signature = "0" * 64
        await actions.verify(play, claims)
        assert await reported(actions) == []
        claims.client_signature = signed
        await actions.verify(play, claims)

    (incident,) = await reported(actions)
    assert (incident.rule, incident.observed, incident.threshold) == ("amount", 100, 50)


async def test_anothers_token_is_reported_only_where_its_owners_key_signed(
    actions: Actions,
) -> None:
    play, thief = await actions.issue(new_user()), new_user()
    with clock.ahead(6):
        claims = play.update()
        own_name = Play(thief, play.issued).update()
        await actions.verify(play, own_name, caller=thief)
        await actions.verify(play, pb.Claims(timestamp=claims.timestamp), caller=thief)
        assert await reported(actions) == []
        await actions.verify(play, claims, caller=thief)

    (incident,) = await reported(actions)
    assert (incident.rule, incident.user_id) == ("foreign", thief)
    assert incident.other_user_id == play.user_id


async def test_a_wrong_signature_is_reported_as_proof(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        claims = play.update()
        claims.client_signature = "0" * 64
        await actions.verify(play, claims)
        completion = play.completion()
        completion.proof.checksum = "0" * 64
        await actions.complete(play, completion)

    assert [incident.rule for incident in await reported(actions)] == ["proof", "proof"]


async def test_an_attempt_reported_again_is_one_incident(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        claims = play.update()
        claims.client_signature = "0" * 64
        await actions.verify(play, claims, attempt="one")
        await actions.verify(play, claims, attempt="one")
        (first,) = await reported(actions)
        await actions.verify(play, claims, attempt="one")

    # Fraud recognises its id when it is sent again after the outbox forgot.
    assert {one.incident_id for one in await reported(actions)} == {first.incident_id}


async def test_innocent_refusals_are_no_incidents(actions: Actions) -> None:
    play = await actions.issue(new_user())
    spoil: list[Callable[[pb.Claims], None]] = [
        lambda claims: claims.ClearField("proof"),
        lambda claims: setattr(claims, "timestamp", "now"),
        lambda claims: setattr(claims, "action_type", "COMPLETE_QUEST"),
    ]
    with clock.ahead(6):
        for change in spoil:
            claims = play.update()
            change(claims)
            assert (await actions.verify(play, claims)).HasField("failure")

    assert await reported(actions) == []


async def test_incidents_wait_while_fraud_is_unavailable(
    actions: Actions, pool: asyncpg.Pool
) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        await actions.verify(play, play.update(completion_ms=100))
    actions.fraud.unavailable = True
    with pytest.raises(Unavailable):
        await actions.relay.send()

    relaying = asyncio.create_task(actions.relay.run())
    actions.fraud.unavailable = False

    async def drained() -> bool:
        return bool(await pool.fetchval("SELECT count(*) = 0 FROM actions.incidents"))

    await eventually(drained)
    relaying.cancel()
    assert [incident.rule for incident in actions.fraud.incidents] == ["time"]


async def test_the_relay_survives_an_outage_of_fraud(actions: Actions) -> None:
    play = await actions.issue(new_user())
    actions.fraud.unavailable = True
    relaying = asyncio.create_task(actions.relay.run())
    with clock.ahead(6):
        await actions.verify(play, play.update(completion_ms=100))
    await asyncio.sleep(0.1)
    actions.fraud.unavailable = False

    async def reported() -> bool:
        return len(actions.fraud.incidents) == 1

    await eventually(reported)
    relaying.cancel()
