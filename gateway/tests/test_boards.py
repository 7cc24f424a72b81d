"""Reading boards: tops, pages and closed periods, places, friends, would-be ranks; what a caller
that has something already is answered."""

from typing import Any

import pytest

from chassis.errors import Missing, Unauthenticated
from gateway.edge import request as edge_request
from gateway.tests.edge import UPDATE, Edge
from gateway.tests.services import ADA, AT, AT_MS, BOB, PLACE, TOP
from protos import scores_pb2

API = "/api/v1"
ROW = {
    "position": 2,
    "rank": 2,
    "userId": ADA,
    "username": "ada",
    "score": 100,
    "reachedAt": AT,
}
FIRST = ROW | {"position": 1, "rank": 1, "userId": BOB, "username": "bob", "score": 150}


async def test_the_top_of_a_board(edge: Edge) -> None:
    answer = await edge.call("GET", "/api/v1/leaderboard?limit=3")

    assert answer.json() == {
        "board": "all_time",
        "period": "all",
        "entries": [FIRST, ROW],
        "total": 7,
        "updatedAt": AT,
        "degraded": False,
        "resetsAt": None,
        "nextCursor": None,
    }
    await edge.call("GET", "/api/v1/leaderboards/daily")
    assert [(i.board, i.limit) for i in edge.fakes.calls["Top"]] == [("all_time", 3), ("daily", 10)]


async def test_a_board_that_never_changed_has_no_time_of_its_last_change(edge: Edge) -> None:
    edge.fakes.answers["Top"] = scores_pb2.Top(board="all_time", period="all")

    found = (await edge.call("GET", f"{API}/leaderboard")).json()

    assert (found["entries"], found["updatedAt"]) == ([], None)


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.0", "x", "", "٣", "9" * 40])
async def test_a_limit_outside_its_bounds_is_named(edge: Edge, limit: str) -> None:
    answer = await edge.call("GET", f"/api/v1/leaderboard?limit={limit}")

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["field"] == "limit"


async def test_a_place_with_its_own_row_marked(edge: Edge) -> None:
    path = "/api/v1/leaderboards/all_time/players"
    answer = await edge.call("GET", f"{path}/{ADA}?radius=2")
    own = await edge.call("GET", f"{path}/me", token=edge.fakes.signer.token())

    found = answer.json()
    assert found["percentile"] == 71.4
    assert found["pointsToNextRank"] == 50
    assert [row["own"] for row in found["neighbours"]] == [False, True]
    assert own.json() == found
    assert [(i.user_id, i.radius) for i in edge.fakes.calls["Around"]] == [(ADA, 2), (ADA, 5)]


@pytest.mark.parametrize(
    ("behind", "total", "percentile"),
    [
        (1999, 2000, 99.9),  # 99.95
        (9_999_999, 10_000_000, 99.9),
        (2, 3, 66.6),
        (29, 100, 29.0),
        (2**53 - 2, 2**53 - 1, 99.9),
        (0, 1, 0.0),
        (0, 0, 0.0),
    ],
)
async def test_a_percentile_is_rounded_down_to_one_decimal(
    edge: Edge, behind: int, total: int, percentile: float
) -> None:
    place = scores_pb2.Place()
    place.CopyFrom(PLACE)
    place.behind, place.total = behind, total
    edge.fakes.answers["Around"] = place

    answer = await edge.call("GET", f"{API}/leaderboards/all_time/players/{ADA}")
    assert answer.json()["percentile"] == percentile


async def test_the_boards_and_the_ranks_of_friends(edge: Edge) -> None:
    boards = await edge.call("GET", "/api/v1/leaderboards")
    ranks = await edge.call("POST", "/api/v1/leaderboards/all_time/ranks", {"userIds": [ADA, BOB]})

    assert boards.json()["boards"][0]["resetsAt"] == AT
    assert ranks.json()["entries"][1] == ROW
    assert list(edge.fakes.received("Ranks").user_ids) == [ADA, BOB]


async def test_more_friends_than_200_are_refused(edge: Edge) -> None:
    answer = await edge.call(
        "POST", "/api/v1/leaderboards/all_time/ranks", {"userIds": [ADA] * 201}
    )

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")


def top(version: int, **changed: Any) -> scores_pb2.Top:
    """The top of a board as of that version."""
    found = scores_pb2.Top()
    found.CopyFrom(TOP)
    found.version = version
    found.MergeFrom(scores_pb2.Top(**changed))
    return found


async def test_a_page_of_a_closed_period_is_sealed_and_marks_what_is_missing(edge: Edge) -> None:
    entry = scores_pb2.Entry(rank=1, user_id=BOB, username="", score=9, removed=True)
    edge.fakes.answers["Top"] = scores_pb2.Top(
        board="daily",
        period="20270114T000000Z",
        entries=[entry],
        next_cursor="more",
        seal=scores_pb2.Seal(
            closed_at_ms=AT_MS, hash=b"\x01" * 32, signature=b"\x02" * 32, key_id=7
        ),
    )
    path = f"{API}/leaderboards/daily?period=20270114T000000Z&cursor=page-2&limit=100"
    found = (await edge.call("GET", path)).json()

    assert found["entries"][0]["removed"] is True
    assert found["nextCursor"] == "more"
    assert found["seal"] == {
        "hash": "01" * 32,
        "signature": "02" * 32,
        "keyId": 7,
        "closedAt": AT,
    }
    sent = edge.fakes.received("Top")
    assert (sent.period, sent.cursor, sent.limit) == ("20270114T000000Z", "page-2", 100)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("period=last", "period"),
        ("period=20270114", "period"),
        ("period=", "period"),
        ("cursor=a%00b", "cursor"),
        ("cursor=" + "x" * 600, "cursor"),
    ],
)
async def test_a_period_or_cursor_that_is_none_is_named(edge: Edge, query: str, field: str) -> None:
    answer = await edge.call("GET", f"{API}/leaderboards/daily?{query}")

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["field"] == field


async def test_every_read_names_its_period_and_the_caller(edge: Edge) -> None:
    board, token = f"{API}/leaderboards/daily", edge.fakes.signer.token()
    calls = {
        "Top": ("GET", board, None),
        "Around": ("GET", f"{board}/players/{ADA}", None),
        "Ranks": ("POST", f"{board}/ranks", {"userIds": [ADA]}),
        "WouldBe": ("GET", f"{board}/would-be", None),
    }
    for method, (verb, path, body) in calls.items():
        for period, sent in (("current", ""), ("previous", "previous")):
            query = f"?period={period}" + ("&score=1" if method == "WouldBe" else "")
            assert (await edge.call(verb, path + query, body)).status == 200
            assert (await edge.call(verb, path + query, body, token=token)).status == 200
            anonymous, named = edge.fakes.calls[method][-2:]
            assert (anonymous.period, anonymous.anonymous) == (sent, True)
            assert (named.period, named.anonymous) == (sent, False)


async def test_a_board_that_is_not_public_is_closed_without_a_token(edge: Edge) -> None:
    def closed(item: Any) -> Any:
        return Unauthenticated(code="UNAUTHENTICATED") if item.anonymous else TOP

    edge.fakes.answers["Top"] = closed
    refused = await edge.call("GET", f"{API}/leaderboards/staff")
    shown = await edge.call("GET", f"{API}/leaderboards/staff", token=edge.fakes.signer.token())

    assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert shown.status == 200


async def test_the_boards_show_their_rules_and_keep_closed_ones_from_strangers(
    edge: Edge,
) -> None:
    path = f"{API}/leaderboards"
    anonymous = (await edge.call("GET", path)).json()["boards"]
    player = (await edge.call("GET", path, token=edge.fakes.signer.token())).json()["boards"]

    assert [board["board"] for board in anonymous] == ["daily"]
    assert player[0] == anonymous[0]
    assert anonymous[0]["reset"] == {"every": "day", "at": "00:00"}
    assert player[1] == {
        "board": "staff",
        "title": "Staff",
        "operator": "best",
        "order": "ascending",
        "ties": "dense",
        "actionTypes": ["WIN_GAME"],
        "reset": {"every": "none", "at": "00:00"},
        "zone": "Europe/Berlin",
        "window": 50,
        "public": False,
        "resetsAt": None,
    }


async def test_the_rank_that_a_score_would_have(edge: Edge) -> None:
    path = f"{API}/leaderboards/all_time/would-be"
    for score in (1 - 2**53, 0, 2**53 - 1):
        answer = await edge.call("GET", f"{path}?score={score}")
        assert answer.json() == {
            "board": "all_time",
            "period": "all",
            "score": score,
            "rank": 3,
            "total": 7,
            "degraded": False,
        }
        assert edge.fakes.calls["WouldBe"][-1].score == score


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "REQUIRED"),
        ("?score=", "EMPTY"),
        ("?score=1.5", "OUT_OF_RANGE"),
        ("?score=%2B5", "OUT_OF_RANGE"),
        (f"?score={2**53}", "OUT_OF_RANGE"),
        (f"?score={-(2**53)}", "OUT_OF_RANGE"),
        (f"?score={2**63 - 1}", "OUT_OF_RANGE"),
        ("?score=" + "9" * 5000, "OUT_OF_RANGE"),
    ],
)
async def test_a_score_that_is_none_is_named(edge: Edge, query: str, code: str) -> None:
    answer = await edge.call("GET", f"{API}/leaderboards/all_time/would-be{query}")

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    [error] = answer.json()["errors"]
    assert (error["field"], error["code"]) == ("score", code)
    if code == "OUT_OF_RANGE":
        assert error["detail"] == "A whole number from -9007199254740991 to 9007199254740991."
    assert edge.fakes.calls["WouldBe"] == []


async def test_what_is_not_ranked_or_degraded_is_said(edge: Edge) -> None:
    path = f"{API}/leaderboards/all_time"
    place = scores_pb2.Place()
    place.CopyFrom(PLACE)
    place.degraded = True
    edge.fakes.answers["Around"] = place
    ranks = scores_pb2.RanksReply(degraded=True, period="all")
    edge.fakes.answers["Ranks"] = ranks
    assert (await edge.call("GET", f"{path}/players/{ADA}")).json()["degraded"] is True
    found = (await edge.call("POST", f"{path}/ranks", {"userIds": [ADA]})).json()
    assert found == {"board": "all_time", "period": "all", "entries": [], "degraded": True}

    edge.fakes.answers["Around"] = Missing(code="NOT_RANKED")
    answer = await edge.call("GET", f"{path}/players/{ADA}")
    assert (answer.status, answer.code) == (404, "NOT_RANKED")


# ---- what the caller has already ----


async def test_a_caller_that_has_the_answer_already_gets_304(edge: Edge) -> None:
    path = f"{API}/leaderboard"
    first = await edge.call("GET", path)
    tag = first.headers["ETag"]
    again = await edge.call("GET", path, headers={"If-None-Match": tag})

    assert first.headers["Cache-Control"] == "no-cache"
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == tag
    assert again.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ("{tag}", 304),
        ("W/{tag}", 304),
        ('"other", {tag}', 304),
        ("*", 304),
        ('"9-0000000000000000-0000000000000000"', 200),
        ("nonsense", 200),
        ("", 200),
        ("x" * 3000, 200),
    ],
)
async def test_tags_are_compared_as_rfc_9110_has_it(edge: Edge, shown: str, status: int) -> None:
    path = f"{API}/leaderboard"
    tag = (await edge.call("GET", path)).headers["ETag"]

    answer = await edge.call("GET", path, headers={"If-None-Match": shown.format(tag=tag)})

    assert answer.status == status


async def test_a_tag_changes_with_the_version_and_with_any_byte(edge: Edge) -> None:
    tags = set()
    for found in (top(9), top(10), top(10, degraded=True)):
        edge.fakes.answers["Top"] = found
        tags.add((await edge.call("GET", f"{API}/leaderboard")).headers["ETag"])
    tags.add((await edge.call("GET", f"{API}/leaderboard?limit=3")).headers["ETag"])

    # The last two differ in nothing but how they were requested.
    assert len(tags) == 3


async def test_a_shown_tag_s_version_is_the_least_that_is_answered(edge: Edge) -> None:
    path = f"{API}/leaderboards/monthly"
    tags = []
    for version in (41, 42):
        edge.fakes.answers["Top"] = top(version)
        # Each on a connection of its own, which has been shown nothing.
        answer = await edge.call("GET", path, headers={"Connection": "close"})
        tags.append(answer.headers["ETag"])
    older, newer = tags
    for shown in (older, f'"x", W/{older}', f"{newer}, {older}"):
        headers = {"If-None-Match": shown, "Connection": "close"}
        await edge.call("GET", path, headers=headers)

    assert [item.version_min for item in edge.fakes.calls["Top"]] == [0, 0, 41, 41, 42]


async def test_a_tag_that_is_not_ours_or_not_of_this_address_requests_nothing(edge: Edge) -> None:
    closing = {"Connection": "close"}
    tag = (await edge.call("GET", f"{API}/leaderboard", headers=closing)).headers["ETag"]
    version, digest, mac = tag.strip('"').split("-")
    for path, shown in (
        ("leaderboard", f'"{int(version) + 1}-{digest}-{mac}"'),
        ("leaderboard", f'"{10**17}-{digest}-{"0" * 16}"'),
        ("leaderboard", f'"{version}-{"0" * 16}-{mac}"'),
        ("leaderboards/monthly", tag),
    ):
        headers = {"If-None-Match": shown, **closing}
        assert (await edge.call("GET", f"{API}/{path}", headers=headers)).status == 200
        assert edge.fakes.calls["Top"][-1].version_min == 0


async def test_no_read_on_a_connection_is_older_than_one_before(edge: Edge) -> None:
    path = f"{API}/leaderboards/weekly"
    edge.fakes.answers["Top"] = top(20, board="weekly")
    await edge.call("GET", path)
    edge.fakes.answers["Top"] = top(19, board="weekly")
    for _ in range(2):
        await edge.call("GET", path)
    await edge.call("GET", f"{path}?period=previous")
    await edge.call("GET", f"{API}/leaderboards/daily", headers={"Connection": "close"})
    await edge.call("GET", path)

    least = [item.version_min for item in edge.fakes.calls["Top"]]
    # It means nothing in another period or on another connection.
    assert least == [0, 20, 20, 0, 0, 0]


async def test_places_and_ranks_count_as_reads_of_their_board(edge: Edge) -> None:
    board = f"{API}/leaderboards/monthly"
    edge.fakes.answers["Around"] = scores_pb2.Place(board_version=30, period="all", total=1)
    edge.fakes.answers["Ranks"] = scores_pb2.RanksReply(board_version=31, period="all")
    edge.fakes.answers["WouldBe"] = scores_pb2.WouldBe(board_version=32, period="all")
    least = []
    for verb, path, body in (
        ("GET", f"{board}/players/{ADA}", None),
        ("POST", f"{board}/ranks", {"userIds": [ADA]}),
        ("GET", f"{board}/would-be?score=1", None),
    ):
        await edge.call(verb, path, body)
        await edge.call("GET", board)
        least.append(edge.fakes.calls["Top"][-1].version_min)

    assert least == [30, 31, 32]


async def test_a_new_period_starts_to_count_again(edge: Edge) -> None:
    path = f"{API}/leaderboards/daily?limit=7"
    # The last one is a list that was begun before, and is read on.
    for version, period in (
        (50, "20270114T000000Z"),
        (3, "20270115T000000Z"),
        (51, "20270114T000000Z"),
    ):
        edge.fakes.answers["Top"] = scores_pb2.Top(board="daily", period=period, version=version)
        await edge.call("GET", path)
    await edge.call("GET", path)

    assert edge.fakes.calls["Top"][-1].version_min == 3


async def test_after_an_award_reads_on_its_connection_go_past_the_caches(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{API}/leaderboard"
    await edge.call("GET", path)
    await edge.play("/scores/update", UPDATE)
    await edge.call("GET", path, headers={"Connection": "close"})
    await edge.call("GET", path)
    await edge.play("/scores/update", UPDATE)
    monkeypatch.setattr(edge_request, "FRESH_S", 0.0)
    await edge.call("GET", path)

    assert [item.fresh for item in edge.fakes.calls["Top"]] == [False, True, False, False]


def test_a_connection_remembers_so_many_boards_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge_request, "BOARDS_MAX", 3)
    memory = edge_request.Seen()
    for number in range(1, 6):
        memory.show(f"b{number}", "", period="all", version=number)

    assert [memory.version(f"b{number}", "") for number in range(1, 6)] == [0, 0, 3, 4, 5]
