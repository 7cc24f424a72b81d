"""Tests of completing without a token, and of redeeming what completing returned."""

import asyncio
import hashlib

import asyncpg
import pytest

from chassis import clock
from chassis.errors import Missing
from chassis.keyring import Keyring
from chassis.testing import Certificates
from protos import actions_pb2 as pb
from services.actions.tests.players import Play, key, new_user, stamp
from services.actions.tests.serving import Actions, open_actions


def redeem(play: Play, completed: pb.Completed) -> pb.Claims:
    at = stamp()
    return pb.Claims(timestamp=at, client_signature=play.signature(completed.score_increment, at))


async def test_a_completed_action_is_redeemed_by_signature_alone(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        completed = (await actions.complete(play, play.completion())).completed
        token = completed.action_token
        assert completed.action_id == play.issued.action_id
        assert completed.expires_in_s == 300
        assert completed.score_increment == 50
        assert await actions.state(play) == "completed"
        result = await actions.verify(play, redeem(play, completed), token=token)
        unsigned = await actions.verify(play, pb.Claims(timestamp=stamp()), token=token)

    assert not result.HasField("failure")
    assert result.points == 50
    assert unsigned.failure.code == "SIGNATURE_INVALID"


async def test_of_tokens_their_sha256_alone_is_stored(actions: Actions, pool: asyncpg.Pool) -> None:
    play = await actions.issue(new_user())
    tokens = [play.issued.action_token]
    with clock.ahead(6):
        claims = play.completion()
        completed = [(await actions.complete(play, claims)).completed for _ in range(2)]
    tokens += [each.action_token for each in completed]

    query = "SELECT * FROM actions.actions WHERE action_id = $1"
    (row,) = await pool.fetch(query, play.issued.action_id)
    assert row["token_sha256"] == _sha256(tokens[0])
    assert row["completed_sha256"] == _sha256(tokens[-1])
    for token in tokens:
        assert token not in repr(dict(row))


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def test_the_token_of_the_request_still_needs_its_proof(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        completed = (await actions.complete(play, play.completion())).completed
        without = await actions.verify(play, redeem(play, completed))
        with_proof = await actions.verify(play, play.update())

    assert without.failure.code == "PROOF_REQUIRED"
    assert not with_proof.HasField("failure")


async def test_the_fresh_token_lives_five_minutes_beyond_the_first_ones_end(
    actions: Actions,
) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(320):
        completed = (await actions.complete(play, play.completion())).completed
    with clock.ahead(615):
        late = await actions.verify(play, redeem(play, completed), token=completed.action_token)
        assert await actions.state(play) == "completed"
    with clock.ahead(621):
        later = await actions.verify(play, redeem(play, completed), token=completed.action_token)
        assert await actions.state(play) == "expired"

    assert not late.HasField("failure")
    assert later.failure.code == "TOKEN_EXPIRED"


async def test_the_same_request_gets_a_fresh_token_until_redemption(
    actions: Actions,
) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        claims = play.completion()
        first, second = [(await actions.complete(play, claims)).completed for _ in range(2)]
        other = await actions.complete(play, play.completion(completion_ms=4000))
    with clock.ahead(100):  # the timestamp is old by then
        third = (await actions.complete(play, claims)).completed
        moved = play.completion()
        moved.proof.CopyFrom(claims.proof)  # the old checksum beside a new timestamp
        forged = await actions.complete(play, moved)
        result = await actions.verify(play, redeem(play, third), token=third.action_token)
    await actions.settle(play, awarded=True)
    with clock.ahead(100):
        after = await actions.complete(play, claims)

    assert len({one.action_token for one in (first, second, third)}) == 3
    assert [one.repeat for one in (first, second, third)] == [False, True, True]
    assert not result.HasField("failure")
    assert other.failure.code == "ACTION_COMPLETED"
    assert forged.failure.code == "ACTION_COMPLETED"
    assert after.failure.code == "ACTION_COMPLETED"


async def test_of_two_proofs_at_once_one_completes(actions: Actions) -> None:
    one, other = [await actions.issue(new_user()) for _ in range(2)]
    with clock.ahead(6):
        items = [
            pb.CompleteItem(user_id=one.user_id, claims=one.completion(completion_ms=ms))
            for ms in (3000, 4000)
        ]
        together = await actions.gateway.Complete(pb.CompleteRequest(items=items))
        apart = await asyncio.gather(
            *(actions.complete(other, other.completion(completion_ms=ms)) for ms in (3000, 4000))
        )

    for results in (together.results, apart):
        assert sorted(one.failure.code for one in results) == ["", "ACTION_COMPLETED"]


async def test_the_same_request_twice_in_one_batch_gets_two_answers(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        item = pb.CompleteItem(user_id=play.user_id, claims=play.completion())
        reply = await actions.gateway.Complete(pb.CompleteRequest(items=[item, item]))

    assert [one.completed.repeat for one in reply.results] == [False, True]


@pytest.mark.parametrize("action_id", ["", "nonsense", "01900000-0000-7000-8000-000000000001"])
async def test_an_unknown_action_is_not_found(actions: Actions, action_id: str) -> None:
    play = await actions.issue(new_user())
    claims = play.completion()
    claims.action_id = action_id

    assert (await actions.complete(play, claims)).failure.code == "ACTION_NOT_FOUND"


async def test_of_many_copies_at_once_one_is_no_repeat(
    actions: Actions, pool: asyncpg.Pool, certificates: Certificates
) -> None:
    async with open_actions(pool, certificates) as other:
        play = await actions.issue(new_user())
        with clock.ahead(6):
            claims = play.completion()
            results = await asyncio.gather(
                *(replica.complete(play, claims) for _ in range(10) for replica in (actions, other))
            )

    assert all(result.HasField("completed") for result in results)
    assert [result.completed.repeat for result in results].count(False) == 1


async def test_another_players_action_is_not_found(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        result = await actions.complete(play, play.completion(), caller=new_user())

    assert result.failure.code == "ACTION_NOT_FOUND"


async def test_completing_is_refused_as_redeeming_is(actions: Actions) -> None:
    with clock.ahead(6):
        play = await actions.issue(new_user())
        other = play.completion()
        other.action_type = "COMPLETE_QUEST"
        stale = play.completion()
        stale.timestamp = stamp(-61)
        stale.proof.checksum = play.checksum(5000, stale.timestamp)
        no_proof = play.completion()
        no_proof.ClearField("proof")
        results = [await actions.complete(play, claims) for claims in (other, stale, no_proof)]
    with clock.ahead(337):
        results.append(await actions.complete(play, play.completion()))

    assert [result.failure.code for result in results] == [
        "TOKEN_MISMATCH",
        "TIMESTAMP_OUT_OF_RANGE",
        "PROOF_REQUIRED",
        "TOKEN_EXPIRED",
    ]


async def test_impossible_times_close_the_action(actions: Actions) -> None:
    play = await actions.issue(new_user())

    first = await actions.complete(play, play.completion(completion_ms=100))
    second = await actions.complete(play, play.completion())

    assert first.failure.code == "SUSPICIOUS_ACTIVITY"
    assert second.failure.code == "ACTION_CLOSED"
    assert await actions.state(play) == "refused"


async def test_the_third_wrong_checksum_closes_the_action(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        wrong = play.completion()
        wrong.proof.checksum = "0" * 64
        codes = [(await actions.complete(play, wrong)).failure.code for _ in range(4)]

    assert codes == ["SIGNATURE_INVALID"] * 3 + ["ACTION_CLOSED"]


async def test_an_action_keeps_its_keys_when_they_rotate(
    actions: Actions, pool: asyncpg.Pool, certificates: Certificates
) -> None:
    before = (Keyring(key(1, b"a")), Keyring(key(1, b"c")))
    async with open_actions(pool, certificates, keys=before) as old:
        play = await old.issue(new_user())
    with clock.ahead(6):
        completed = (await actions.complete(play, play.completion())).completed
        result = await actions.verify(play, redeem(play, completed), token=completed.action_token)

    # The signing key that the player was given opens the way to the end.
    assert not result.HasField("failure")


async def test_an_action_is_shown_to_its_owner_only(actions: Actions) -> None:
    play = await actions.issue(new_user())
    assert await actions.state(play) == "requested"
    with clock.ahead(331):
        assert await actions.state(play) == "expired"
    await actions.settle(play, awarded=True)
    with clock.ahead(331):
        assert await actions.state(play) == "awarded"

    stranger = Play(new_user(), play.issued)
    with pytest.raises(Missing, match="ACTION_NOT_FOUND"):
        await actions.state(stranger)
