"""Giving an action up: of it and an award one is written, and the other refused."""

import asyncio

import pytest

from chassis.errors import Conflict, Missing, Unavailable
from chassis.ids import uuid7
from protos import scores_pb2
from services.scores.tests.conftest import Scores, item
from services.scores.tests.test_grants import grant
from services.scores.tests.test_journal import cut_off, waiting
from services.scores.tests.test_reversals import board

__all__ = ["cut_off"]

ADA, BOB = uuid7(), uuid7()
COPIES, ACTIONS = 5, 20


def issued(scores: Scores, user_id: str = ADA) -> str:
    """An action of that player, as actions has it."""
    action_id = uuid7()
    scores.actions.owners[action_id] = user_id
    return action_id


async def give_up(scores: Scores, action_id: str, user_id: str = ADA) -> None:
    await scores.stub.GiveUp(scores_pb2.GiveUpRequest(user_id=user_id, action_id=action_id))


async def kinds(scores: Scores) -> list[str]:
    """The kinds of the ledger's rows, sorted."""
    rows = await scores.pool.fetch("SELECT kind FROM scores.ledger ORDER BY kind")
    return [row["kind"] for row in rows]


async def test_what_is_given_up_is_never_awarded(scores: Scores) -> None:
    action = issued(scores)
    await give_up(scores, action)
    # Verify found nothing against these: it looked before, or goes by the seal alone.
    answers = await scores.award(
        item(ADA, action_id=action), item(BOB), item(ADA, action_id=action, key=b"k" * 32)
    )

    assert (answers[0], answers[2]) == ("ACTION_CLOSED", "ACTION_CLOSED")
    assert answers[1].new_score == 50
    assert await kinds(scores) == ["award", "given_up"]
    assert await board(scores) == [(BOB, 50)]
    assert (scores.actions.given_up, scores.actions.settled[:1]) == ([action], [])
    await scores.awards.drain()
    assert scores.fraud.incidents == []


async def test_a_player_of_whom_there_is_no_award_yet_may_give_up(scores: Scores) -> None:
    await give_up(scores, issued(scores))
    answer = (await scores.award(item(ADA, 7)))[0]

    assert (answer.old_score, answer.new_score, answer.version) == (0, 7, 1)


async def test_giving_up_again_does_no_harm(scores: Scores) -> None:
    action = issued(scores)
    await asyncio.gather(*(give_up(scores, action) for _ in range(COPIES)))
    await give_up(scores, action)

    assert await kinds(scores) == ["given_up"]


async def test_what_was_awarded_is_not_given_up(scores: Scores) -> None:
    action = issued(scores)
    award = (await scores.award(item(ADA, action_id=action)))[0]
    with pytest.raises(Conflict, match="ACTION_AWARDED"):
        await give_up(scores, action)

    assert (await kinds(scores), scores.actions.given_up) == (["award"], [])
    receipt = await scores.stub.Receipt(scores_pb2.ReceiptRequest(user_id=ADA, action_id=action))
    assert receipt.new_score == award.new_score


async def test_what_is_not_ones_own_is_not_found(scores: Scores) -> None:
    for action in (issued(scores, BOB), uuid7()):
        with pytest.raises(Missing, match="ACTION_NOT_FOUND"):
            await give_up(scores, action)

    assert await kinds(scores) == []


async def test_of_an_award_and_giving_up_at_once_exactly_one_happens(scores: Scores) -> None:
    actions = [issued(scores) for _ in range(ACTIONS)]
    await scores.award(item(ADA, 1))  # so that no batch waits for the player to be made

    async def tried(action: str) -> bool:
        try:
            await give_up(scores, action)
        except Conflict:
            return False
        return True

    async def outcome(action: str) -> tuple[set[bool], set[str], int]:
        """Whether each of several gave it up, how the awards failed, and how many did not."""
        redeemed = [scores.award(item(ADA, 1, action_id=action)) for _ in range(COPIES)]
        given, answers = await asyncio.gather(
            asyncio.gather(*(tried(action) for _ in range(COPIES))), asyncio.gather(*redeemed)
        )
        refused = {answer for (answer,) in answers if isinstance(answer, str)}
        return set(given), refused, sum(not isinstance(answer, str) for (answer,) in answers)

    outcomes = await asyncio.gather(*map(outcome, actions))

    awarded, given_up = ({False}, {"TOKEN_ALREADY_USED"}, 1), ({True}, {"ACTION_CLOSED"}, 0)
    assert all(one in (awarded, given_up) for one in outcomes), outcomes
    written = await kinds(scores)
    assert written.count("given_up") == outcomes.count(given_up)
    assert written.count("award") == outcomes.count(awarded) + 1
    assert await board(scores) == [(ADA, written.count("award"))]
    print(f"\n{outcomes.count(given_up)} of {ACTIONS} given up")


@pytest.mark.parametrize("first", ["award", "given_up"])
async def test_one_that_is_being_written_is_waited_for(scores: Scores, first: str) -> None:
    action = issued(scores)
    await scores.award(item(ADA, 1))
    async with scores.pool.acquire() as held, held.transaction():
        # Another replica's, not committed yet.
        await held.execute(
            "INSERT INTO scores.ledger (action_id, kind, user_id, action_type, points, old_score,"
            " new_score, version, seq, at, attempt_id)"
            " VALUES ($1, $2, $3, 'WIN_GAME', $4, 0, $4, $5, 0, now(), $1)",
            action,
            first,
            ADA,
            1 if first == "award" else 0,
            2 if first == "award" else 0,
        )
        giving = asyncio.create_task(give_up(scores, action))
        awarding = asyncio.create_task(scores.award(item(ADA, action_id=action)))
        await asyncio.wait((giving, awarding), timeout=0.2)
        assert not giving.done()
        assert not awarding.done()

    if first == "award":
        with pytest.raises(Conflict, match="ACTION_AWARDED"):
            await giving
        assert await awarding == ["TOKEN_ALREADY_USED"]
    else:
        await giving
        assert await awarding == ["ACTION_CLOSED"]


async def test_it_is_in_no_history_and_has_no_receipt(scores: Scores) -> None:
    action = issued(scores)
    await give_up(scores, action)
    await scores.award(item(ADA, 7))
    page = await scores.stub.History(scores_pb2.HistoryRequest(user_id=ADA, limit=20))

    assert [(row.kind, row.points) for row in page.rows] == [("award", 7)]
    with pytest.raises(Missing, match="AWARD_NOT_FOUND"):
        await scores.stub.Receipt(scores_pb2.ReceiptRequest(user_id=ADA, action_id=action))


async def test_a_game_server_cannot_award_what_was_given_up(scores: Scores) -> None:
    action = issued(scores)
    await give_up(scores, action)

    assert await scores.award(grant(action)) == ["IDEMPOTENCY_KEY_REUSED"]


async def test_it_is_done_once_actions_knows_and_may_be_sent_again(scores: Scores) -> None:
    action = issued(scores)
    scores.actions.unavailable = True
    with pytest.raises(Exception, match="INTERNAL"):
        await give_up(scores, action)
    assert await scores.award(item(ADA, action_id=action)) == ["ACTION_CLOSED"]
    scores.actions.unavailable = False
    await give_up(scores, action)

    assert scores.actions.given_up == [action]


async def test_an_award_that_waits_for_postgres_is_not_made_once_it_is_given_up(
    cut_off: Scores,
) -> None:
    action, other = issued(cut_off), issued(cut_off)
    queued = await cut_off.award(item(ADA, action_id=action), item(ADA, 7, action_id=other))
    with pytest.raises(Unavailable, match="DB_UNAVAILABLE"):
        await give_up(cut_off, action)
    cut_off.awards.breaker._tripped.clear()
    await give_up(cut_off, action)
    await cut_off.awards.journal.drain()

    assert queued == ["QUEUED_FOR_REPLAY"] * 2
    assert await kinds(cut_off) == ["award", "given_up"]
    assert await waiting(cut_off) == (0, 0)
    assert await board(cut_off) == [(ADA, 7)]
