"""Plays that are given up, and what refusals say, through the public API alone."""

from chassis.clock import parse_rfc3339
from scoreboard_client import ApiError, Client
from tests.journeys import shapes
from tests.journeys.refusals import refusal
from tests.people import new_type, newcomer
from tests.suite import Suite

AWARDED, CLOSED = (409, "ACTION_AWARDED"), (409, "ACTION_CLOSED")
UNKNOWN = (404, "ACTION_NOT_FOUND")


async def test_a_play_that_is_given_up_frees_its_slot_and_is_worth_nothing(
    anywhere: Suite,
) -> None:
    name = await new_type(anywhere, points=3)
    async with newcomer(anywhere, kind=shapes.Exacting) as ada, newcomer(anywhere) as bob:
        plays = [await ada.request_action(name) for _ in range(3)]
        full = await refused(ada, name)
        assert (full.status, full.code, full.problem["maxOpen"]) == (429, "TOO_MANY_PENDING", 3)
        first_s = parse_rfc3339(plays[0].expires_at) / 1000
        assert 0 < full.retry_after_s <= first_s - parse_rfc3339(plays[0].issued_at) / 1000

        plays[1] = await ada.verify(plays[1], completion_time_ms=0)
        assert await refusal(bob.give_up(plays[0].action_id)) == UNKNOWN
        for play in (*plays[:2], *plays[:2]):
            await ada.give_up(play.action_id)
        assert await refusal(ada.give_up(ada.user_id)) == UNKNOWN

        for play in plays[:2]:
            again = [ada.complete(play, completion_time_ms=0), ada.update(play)]
            again += [ada.increment(play)]
            assert [await refusal(one) for one in again] == [CLOSED] * 3
            assert await refusal(ada.verify(play, completion_time_ms=0)) == CLOSED
            state = await ada.call("GET", f"/actions/{play.action_id}")
            assert state["state"] == "given_up"
        plays += [await ada.request_action(name) for _ in range(2)]
        assert (await refused(ada, name)).code == "TOO_MANY_PENDING"

        award = await ada.complete(plays[2], completion_time_ms=0)
        assert await refusal(ada.give_up(plays[2].action_id)) == AWARDED
        assert (award.old_score, award.new_score, award.version) == (0, 3, 1)
        assert [row["kind"] async for row in ada.history()] == ["award"]


async def test_a_play_out_of_bounds_says_which_bound(anywhere: Suite) -> None:
    async with newcomer(anywhere) as ada:
        play = await ada.request_action("COMPLETE_LEVEL")
        try:
            await ada.complete(play, completion_time_ms=999)
        except ApiError as error:
            refused = error

    assert (refused.status, refused.code) == (400, "SUSPICIOUS_ACTIVITY")
    assert refused.problem["claimedMs"] == 999
    assert refused.problem["bound"] in ("minDurationMs", "elapsedMs")
    assert refused.problem["limitMs"] in (1000, refused.problem["elapsedMs"] + 250)
    assert f"{refused.problem['limitMs']} ms" in refused.detail or "250 ms more" in refused.detail


async def refused(player: Client, action_type: str) -> ApiError:
    """The refusal of a request for a token."""
    try:
        await player.request_action(action_type)
    except ApiError as error:
        return error
    raise AssertionError("a token was issued")
