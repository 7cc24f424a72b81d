"""Voids and restores among awards: in any order, there is one truth in the end."""

import asyncio
import itertools

from chassis.testing import eventually
from scoreboard_client import Award, Client
from tests import books
from tests.people import administrator, new_type, newcomer
from tests.suite import Suite

AWARDS = 60
TIMEOUT_S = 60.0  # for one of very many requests at once


async def test_voids_and_restores_among_awards_leave_no_gap_and_one_truth(
    unlimited: Suite,
) -> None:
    name = await new_type(unlimited, points=7, max_open=AWARDS)
    async with (
        newcomer(unlimited, timeout_s=TIMEOUT_S) as ada,
        administrator(unlimited) as one,
        administrator(unlimited) as other,
    ):
        actions = [await ada.request_action(name) for _ in range(AWARDS)]
        await ada.complete(actions[0], completion_time_ms=0)  # so that the ledger has her
        playing = asyncio.gather(
            *(ada.complete(action, completion_time_ms=0) for action in actions[1:])
        )
        orders = itertools.cycle(("void", "restore"))
        reversing = [order(admin, ada, orders, playing) for admin in (one, other)]
        await asyncio.gather(playing, *reversing)
        await reverse(one, ada, "restore")

        rows = await books.ledger(unlimited, [ada.user_id])
        print(f"\n{len(rows)} rows of {AWARDS} awards")
        assert len(rows) > AWARDS
        assert books.broken_chains(rows) == []
        assert rows[-1].new_score == 7 * AWARDS
        assert await books.wrong_totals(unlimited, [ada.user_id]) == []
        assert (await ada.place())["score"] == 7 * AWARDS
        await eventually(lambda: books.boards_agree(unlimited))


async def order(
    admin: Client,
    player: Client,
    kinds: "itertools.cycle[str]",
    playing: "asyncio.Future[list[Award]]",
) -> None:
    """Orders one after the other while the player plays, and twice more."""
    while not playing.done():
        await reverse(admin, player, next(kinds))
    for _ in range(2):
        await reverse(admin, player, next(kinds))


async def reverse(admin: Client, player: Client, kind: str) -> None:
    """Voids or restores all awards of a player."""
    body = {"userId": player.user_id, "reason": "made by a test", "dryRun": False}
    await admin.call("POST", f"/admin/scores/{kind}", body)
