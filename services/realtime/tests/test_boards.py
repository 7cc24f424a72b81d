"""What watchers of a board receive."""

import asyncio
import itertools
from typing import Any

from chassis import clock
from chassis.redis import Redis
from chassis.redis.stream import Bound
from services.realtime.channels import HISTORY_MAX
from services.realtime.frames import Position, Publication
from services.realtime.store import Draft, LiveStore
from services.realtime.tests.gateway import BOARD, Gateway, decoded
from services.realtime.tests.replica import Attach, NewReplica, Replica
from services.realtime.tests.scores import FakeBoard, FakeScores


async def test_a_board_that_never_had_an_event_has_a_state_at_once(
    replica: Replica, attach: Attach
) -> None:
    gateway = await attach(replica, BOARD, "leaderboard:daily")

    await gateway.until(lambda: gateway.states() and gateway.states("leaderboard:daily"))

    first = gateway.states()[0]
    assert first.epoch
    assert first.offset == 1
    assert gateway.window()["entries"] == []
    assert gateway.window()["board"] == "all_time"
    assert gateway.window()["updatedAt"] is None


async def test_a_board_that_does_not_exist_is_unknown(replica: Replica, attach: Attach) -> None:
    gateway = await attach(replica, "leaderboard:nope", "nonsense")

    await gateway.until(lambda: gateway.states("leaderboard:nope") and gateway.states("nonsense"))

    assert gateway.states("leaderboard:nope")[0].unknown
    assert gateway.states("nonsense")[0].unknown


async def test_the_state_comes_before_the_first_change(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    awarding = asyncio.create_task(_keep_awarding(scores))
    gateways = []
    for _ in range(5):
        gateway = await attach(replica, BOARD)
        await gateway.receives(2)
        gateways.append(gateway)
    awarding.cancel()

    for gateway in gateways[1:]:
        assert gateway.items[BOARD][0] == gateway.states()[0]
        offsets = [item.offset for item in gateway.items[BOARD]]
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


async def test_a_change_is_one_delta_with_absolute_values(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD)
    await scores.award(("ada", 50), ("bob", 20))
    await gateway.until(lambda: gateway.window()["total"] == 2)

    await scores.award(("bob", 40))
    await gateway.until(lambda: gateway.window()["entries"][0]["userId"] == "bob")

    frame = decoded(gateway.publications()[-1].frame)
    assert frame == {
        "type": "delta",
        "channel": BOARD,
        "epoch": gateway.position()[0],
        "offset": gateway.position()[1],
        "ts": frame["ts"],
        "event": "leaderboard.rank_change",
        "data": {
            "changes": [
                {
                    "userId": "bob",
                    "username": "BOB",
                    "score": 60,
                    "position": 1,
                    "rank": 1,
                    "oldRank": 2,
                },
                {
                    "userId": "ada",
                    "username": "ADA",
                    "score": 50,
                    "position": 2,
                    "rank": 2,
                    "oldRank": 1,
                },
            ],
            "removed": [],
            "total": 2,
        },
    }


async def test_who_comes_level_stands_behind_for_every_watcher(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    board = scores.boards["all_time"]
    board.shared = True
    await scores.award(*((f"filler-{n}", 1) for n in range(7)))
    await scores.award(("ada", 801), ("bob", 802), ("eve", 803))
    early = await attach(replica, BOARD)
    await early.leads(803)

    for player, score in (("ada", 801), ("eve", 803), ("bob", 802)):
        await scores.award((player, 900 - score))
        await early.until(lambda: _replayed(early) == early.window()["entries"])
    late = await attach(replica, BOARD)
    await late.until(lambda: _shown(late) == _top(board))

    await early.until(lambda: _shown(early) == _top(board))
    assert [e["userId"] for e in _replayed(early)[:3]] == ["ada", "eve", "bob"]
    assert _replayed(early) == late.window()["entries"]
    assert [(e["position"], e["rank"]) for e in _replayed(early)[:4]] == [
        (1, 1), (2, 1), (3, 1), (4, 4),
    ]  # fmt: skip


async def test_a_change_of_the_order_alone_is_published(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    scores.boards["all_time"].shared = True
    await scores.award(("ada", 5), ("bob", 5), *((f"p{n}", 1) for n in range(4)))
    gateway = await attach(replica, BOARD)
    await gateway.leads(5)

    # As when what brought her there is voided and she reaches it again: same score, same rank.
    await scores.award(("ada", 0))
    await gateway.until(lambda: gateway.window()["entries"][0]["userId"] == "bob")

    assert gateway.data(BOARD)[-1]["changes"] == [
        {
            "userId": user, "username": user.upper(), "score": 5,
            "position": position, "rank": 1, "oldRank": 1,
        }
        for position, user in enumerate(("bob", "ada"), 1)
    ]  # fmt: skip


async def test_a_player_who_leaves_the_window_is_removed(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    scores.boards["all_time"].window = scores.boards["daily"].window = 10
    await scores.award(*((f"p{n}", 100 - n) for n in range(10)))
    gateway = await attach(replica, BOARD)
    await gateway.until(lambda: gateway.window() and gateway.window()["total"] == 10)

    await scores.award(("late", 92))
    await gateway.until(lambda: gateway.window()["total"] == 11)

    data = decoded(gateway.publications()[-1].frame)["data"]
    assert data["removed"] == ["p9"]
    assert data["changes"][0] == {
        "userId": "late", "username": "LATE", "score": 92, "position": 10, "rank": 10,
        "oldRank": None,
    }  # fmt: skip


async def test_more_than_half_a_window_changed_is_a_snapshot(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD)
    await gateway.begun()

    await scores.award(*((f"p{n}", n + 1) for n in range(6)))
    await gateway.receives(1)

    frame = decoded(gateway.publications()[-1].frame)
    assert (frame["type"], frame["reason"]) == ("snapshot", "tooManyChanges")
    assert frame["data"] == gateway.window()
    assert len(frame["data"]["entries"]) == 6


async def test_500_rapid_events_are_few_contiguous_changes_that_end_at_the_board(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD)
    await gateway.begun()

    for n in range(500):
        await scores.award((f"p{n % 20}", n % 7 + 1))

    board = scores.boards["all_time"]
    await gateway.until(lambda: _shown(gateway) == _top(board))
    offsets = [publication.offset for publication in gateway.publications()]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
    times = [publication.at_ms for publication in gateway.publications()]
    assert len(times) > 1
    assert all(later - earlier >= 100 for earlier, later in itertools.pairwise(times))
    assert _replayed(gateway) == gateway.window()["entries"]


async def test_the_first_change_after_quiet_does_not_wait(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD)
    await gateway.begun()
    took_ms = []
    for n in range(5):
        before = len(gateway.publications())
        await asyncio.sleep(0.15)  # The quiet itself is tested.
        before_ms = clock.now_ms()
        await scores.award(("ada", n + 1))
        await gateway.receives(before + 1)
        took_ms.append(gateway.publications()[-1].at_ms - before_ms)

    assert sorted(took_ms)[2] < 50


async def test_a_gateway_that_comes_back_gets_exactly_what_it_missed(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD)
    for n in range(5):
        await scores.award(("ada", 1))
        await gateway.leads(n + 1)
    epoch, offset = gateway.position()

    again = await attach(replica)
    await again.watch(BOARD, epoch=epoch, offset=offset - 3)
    await again.until(again.states)

    state = again.states()[0]
    assert list(state.history) == gateway.publications()[-3:]
    assert (state.epoch, state.offset) == (epoch, offset)


async def test_a_gateway_behind_the_history_gets_all_that_is_kept(
    redis: Redis, new_replica: NewReplica, attach: Attach
) -> None:
    await _fill(redis, HISTORY_MAX + 50)
    replica = await new_replica()

    gateway = await attach(replica)
    await gateway.watch(BOARD, epoch="e", offset=49)
    await gateway.until(gateway.states)
    await gateway.watch(BOARD, epoch="e", offset=60)
    await gateway.until(lambda: len(gateway.states()) == 2)

    too_late, in_time = gateway.states()
    assert in_time.history[0].offset == 61
    assert too_late.history[0].offset == in_time.offset - HISTORY_MAX + 1


async def test_a_window_that_another_version_wrote_begins_a_new_epoch(
    redis: Redis, new_replica: NewReplica, attach: Attach, scores: FakeScores
) -> None:
    await scores.award(("ada", 5))
    await _fill(redis, 1, b'{"board":"all_time","period":"all","entries":[{"rank":1}],"total":1}')

    gateway = await attach(await new_replica(), BOARD)

    await gateway.moved_on("e")
    assert gateway.best() == 5


async def test_a_board_that_is_reset_begins_a_new_epoch_at_that_moment(
    new_replica: NewReplica, attach: Attach, scores: FakeScores
) -> None:
    channel, daily = "leaderboard:daily", scores.boards["daily"]
    daily.period, daily.resets_at_ms = "20261102T000000Z", clock.now_ms() + 3_600_000
    daily.scores["ada"] = 50
    gateway = await attach(await new_replica(), channel)
    await gateway.begun(channel)
    before = gateway.position(channel)

    # No event is published for it.
    daily.period, daily.resets_at_ms = "20261103T000000Z", clock.now_ms() + 7_200_000
    daily.scores.clear()
    with clock.ahead(3_601):
        await gateway.until(lambda: gateway.window(channel)["period"] == "20261103T000000Z")

    assert gateway.position(channel)[0] != before[0]
    assert gateway.window(channel)["entries"] == []


async def test_a_history_is_bounded_by_bytes_and_goes_with_its_last_publication(
    redis: Redis,
) -> None:
    store = LiveStore(redis, Bound(entries_max=100, bytes_max=50_000, kept_s=60))
    drafts = [
        Draft(
            Publication(BOARD, b"x" * 500, n, Position("e", n), b"y" * 500),
            fence=1,
            after=Position("e", n - 1) if n > 1 else Position(),
        )
        for n in range(1, 91)
    ]

    assert set(await store.publish(drafts)) == {"published"}

    key = f"live:{{channels}}:{BOARD}"
    assert 40 <= await redis.xlen(key) <= 50
    for one in (key, f"{key}:meta"):
        assert 0 < await redis.ttl(one) <= 60


async def _keep_awarding(scores: FakeScores) -> None:
    for n in range(1_000):
        await scores.award(("ada", n))
        await asyncio.sleep(0.01)


_WINDOW = b'{"board":"all_time","period":"all","entries":[],"total":0,"updatedAt":null}'


async def _fill(redis: Redis, publications: int, window: bytes = _WINDOW) -> None:
    """Publishes that many windows without changes."""
    store = LiveStore(redis)
    drafts = [
        Draft(
            Publication(BOARD, b"{}", n, Position("e", n), window),
            fence=1,
            after=Position("e", n - 1) if n > 1 else Position(),
        )
        for n in range(1, publications + 1)
    ]
    assert set(await store.publish(drafts)) == {"published"}


def _shown(gateway: Gateway) -> list[tuple[str, int]]:
    return [(entry["userId"], entry["score"]) for entry in gateway.window()["entries"]]


def _top(board: FakeBoard) -> list[tuple[str, int]]:
    return [(entry.user_id, entry.score) for entry in board.entries()[:10]]


def _replayed(gateway: Gateway) -> Any:
    """The window of a client that applied every frame from the first snapshot on."""
    entries: dict[str, Any] = {}
    for publication in gateway.publications():
        frame = decoded(publication.frame)
        if frame["type"] == "snapshot":
            entries = {entry["userId"]: entry for entry in frame["data"]["entries"]}
            continue
        for user_id in frame["data"]["removed"]:
            del entries[user_id]
        for change in frame["data"]["changes"]:
            entries[change["userId"]] = {k: v for k, v in change.items() if k != "oldRank"}
    return sorted(entries.values(), key=lambda entry: entry["position"])


async def test_a_publication_has_the_time_of_the_oldest_award_that_it_is_the_first_to_show(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD)
    await gateway.begun()
    for n in range(20):
        await scores.award(("ada", n + 1), at_ms=1_795_000_000_000 + n)
    board = scores.boards["all_time"]
    await gateway.until(lambda: _shown(gateway) == _top(board))

    times = [publication.awarded_at_ms for publication in gateway.publications()]
    assert times[0] == 1_795_000_000_000
    assert times == sorted(set(times))  # no award is the oldest of two


async def test_an_award_is_not_forgotten_while_scores_is_unavailable(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD)
    await gateway.begun()
    scores.unavailable = True
    await scores.award(("ada", 1), at_ms=1_795_000_000_000)
    await gateway.until(lambda: scores.refused >= 4)  # a call is tried three times
    await scores.award(("ada", 1), at_ms=1_795_000_000_001)
    scores.unavailable = False
    await gateway.leads(2)

    assert gateway.publications()[0].awarded_at_ms == 1_795_000_000_000


async def test_a_builder_that_takes_over_counts_from_no_award_that_was_shown_before(
    replica: Replica, new_replica: NewReplica, attach: Attach, scores: FakeScores
) -> None:
    """It follows the awards all the time, and publishes none of them."""
    gateway = await attach(replica, BOARD)
    await gateway.begun()
    second = await new_replica()
    behind = await attach(second, BOARD)
    await scores.award(("ada", 1), at_ms=1_795_000_000_000)
    await behind.leads(1)
    await replica.stop()
    await scores.award(("ada", 1), at_ms=1_795_000_000_500)
    await behind.leads(2)

    assert behind.publications()[-1].awarded_at_ms in (0, 1_795_000_000_500)
