"""The page, in a real browser."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect

from chassis.testing import Certificates
from gateway import pages
from gateway.live import frames
from gateway.live.hub import HubLimits
from gateway.live.limits import LiveLimits
from gateway.tests.feed import Live, live
from protos import realtime_pb2

NAMES = ["ada", "bob", "cleo", "dmitri", "eve_the_third", "Farouk-77", "gwen", "hal", "ines", "jo"]


def entry(name: str, score: int, position: int, *, rank: int | None = None) -> dict[str, Any]:
    """A place of the window; `rank` where it is not the position."""
    return {
        "position": position,
        "rank": rank or position,
        "userId": f"id-{name}",
        "username": name,
        "score": score,
    }


def board(*names: str) -> dict[str, Any]:
    return {
        "board": "all_time",
        "period": "all",
        "entries": [
            entry(name, 12_000 - 870 * rank, rank) for rank, name in enumerate(names, start=1)
        ],
        "total": 1_284,
        "updatedAt": "2026-11-02T12:00:00.000Z",
    }


@pytest.fixture(scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
            ],
        )
        yield browser
        await browser.close()


@pytest.fixture
async def server(certificates: Certificates) -> AsyncIterator[Live]:
    async def page(request: web.Request) -> web.Response:
        return pages.respond(request.match_info.get("name", "index.html"))

    routes = [web.get("/", page), web.get("/static/{name}", page)]
    async with live(
        certificates,
        routes=routes,
        limits=LiveLimits(ping_s=0.5, dead_s=5, tick_s=0.1),
        hub_limits=HubLimits(linger_s=60),
    ) as running:
        # The browser names its origin, which is fixed only now.
        running.handler._allowed_origins = frozenset({running.url})
        running.feed.board.data = board(*NAMES)
        yield running


@pytest.fixture
async def page(browser: Browser, server: Live) -> AsyncIterator[Page]:
    """The page as it stands open, its console recorded: it must stay silent."""
    context = await browser.new_context(viewport={"width": 1100, "height": 900})
    page = await context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto(server.url)
    await expect(page.locator("#status")).to_have_text("Live")
    yield page
    await context.close()
    assert problems == []


async def names(page: Page) -> list[str]:
    return await page.locator("#rows .name").all_inner_texts()


def overtake(server: Live, name: str, score: int) -> None:
    """`name` goes to the top with `score`, everybody it passes one place down."""
    entries = server.feed.board.data["entries"]
    old = next(e["rank"] for e in entries if e["username"] == name)
    moved = [{**entry(name, score, 1), "oldRank": old}] + [
        {**e, "position": e["rank"] + 1, "rank": e["rank"] + 1, "oldRank": e["rank"]}
        for e in entries
        if e["rank"] < old
    ]
    by_user = {change["userId"]: change for change in moved}
    server.feed.board.data["entries"] = sorted(
        (
            entry(e["username"], c["score"], c["rank"]) if (c := by_user.get(e["userId"])) else e
            for e in entries
        ),
        key=lambda e: int(e["rank"]),
    )
    server.feed.publish(changes=moved, removed=[], total=1_285)


async def test_the_board_is_shown_and_moves(page: Page, server: Live, tmp_path: Path) -> None:
    await expect(page.locator("#rows tr")).to_have_count(10)
    assert await names(page) == NAMES
    await expect(page.locator("#rows tr").first).to_contain_text("11,130")
    await expect(page.locator("#total")).to_have_text("1,284")
    assert await page.locator("#board").get_attribute("aria-busy") is None
    await page.wait_for_timeout(500)
    await page.screenshot(path=tmp_path / "still.png")

    overtake(server, "cleo", 12_345)

    await expect(page.locator("#rows tr").first).to_contain_text("cleo")
    await page.wait_for_timeout(150)
    await page.screenshot(path=tmp_path / "moving.png")
    assert await names(page) == ["cleo", "ada", "bob", *NAMES[3:]]
    first = page.locator("#rows tr").first
    await expect(first).to_contain_text("moved up 2")
    await expect(first).to_contain_text("12,345")
    await expect(first).to_contain_text("+2,955")
    await expect(page.locator("#total")).to_have_text("1,285")
    await expect(page.locator("#news")).to_have_text("cleo takes the lead with 12,345.")
    await page.wait_for_timeout(700)
    await page.screenshot(path=tmp_path / "moved.png")


async def test_equal_ranks_stand_in_the_order_of_positions(page: Page, server: Live) -> None:
    await expect(page.locator("#rows tr")).to_have_count(10)
    ada, bob, cleo = (entry(name, 9_000, n, rank=1) for n, name in enumerate(NAMES[:3], 1))
    tied = [{**one, "oldRank": None} for one in (ada, bob, cleo)]
    server.feed.publish(changes=tied, removed=[], total=1_284)
    await expect(page.locator("#rows tr").nth(2).locator(".rank span")).to_have_text("1")

    # Only the order changes, and no rank.
    turned = [{**ada, "position": 3}, {**bob, "position": 1}, {**cleo, "position": 2}]
    changes = [{**one, "oldRank": 1} for one in turned]
    server.feed.publish(changes=changes, removed=[], total=1_284)

    await expect(page.locator("#rows .name").first).to_have_text("bob")
    assert await names(page) == ["bob", "cleo", "ada", *NAMES[3:]]


async def test_a_board_that_never_changed_shows_no_time(page: Page, server: Live) -> None:
    never = {**board(), "total": 0, "updatedAt": None}
    server.feed.board.epoch, server.feed.board.data = "e2", never
    state = server.feed.board.state(realtime_pb2.Position())
    server.feed.send(realtime_pb2.FeedFrame(state=state))

    await expect(page.locator("#empty")).to_be_visible()
    await expect(page.locator("#updated")).to_have_text("\N{EN DASH}")


async def test_on_a_phone_nothing_is_cut_off(page: Page, server: Live, tmp_path: Path) -> None:
    for scheme in ("light", "dark"):
        await page.set_viewport_size({"width": 360, "height": 740})
        await page.emulate_media(color_scheme=scheme)
        overtake(server, "eve_the_third" if scheme == "light" else "gwen", 20_000)
        await expect(page.locator("#rows .hint").first).not_to_be_empty()
        await page.wait_for_timeout(800)
        await page.screenshot(path=tmp_path / f"phone-{scheme}.png")
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360


async def test_a_player_who_falls_out_goes_and_a_new_one_comes(page: Page, server: Live) -> None:
    await expect(page.locator("#rows tr")).to_have_count(10)
    changes = [{**entry("kim", 3_500, 10), "oldRank": None}]
    server.feed.publish(changes=changes, removed=["id-jo"], total=1_285)

    last = page.locator("#rows tr").last
    await expect(last).to_contain_text("kim")
    await expect(last).to_contain_text("new")
    await expect(page.locator("#rows tr")).to_have_count(10)


async def test_no_name_becomes_an_element(page: Page, server: Live) -> None:
    hostile = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
    changes = [{**entry(hostile, 3_500, 10), "oldRank": None}]
    server.feed.publish(changes=changes, removed=["id-jo"], total=1)

    await expect(page.locator("#rows .name").last).to_have_text(hostile)
    assert await page.locator("#rows img, #rows script").count() == 0
    assert await page.locator("#total-unit").inner_text() == "player"


async def test_a_lost_connection_is_shown_and_repaired(page: Page, server: Live) -> None:
    await expect(page.locator("#rows tr")).to_have_count(10)
    for session in list(server.handler._sessions):
        session.outlet.close(4002)
    await expect(page.locator("#status")).to_have_text("Reconnecting")
    overtake(server, "jo", 50_000)

    await expect(page.locator("#status")).to_have_text("Live")
    await expect(page.locator("#rows tr").first).to_contain_text("jo")


async def test_a_gap_is_noticed_and_repaired(page: Page, server: Live) -> None:
    await expect(page.locator("#rows tr")).to_have_count(10)
    frame = {"type": "delta", "channel": "leaderboard:all_time", "epoch": "e1", "offset": 9}
    (session,) = server.handler._sessions
    server.feed.board.data = board("zoe", *NAMES[1:])
    server.feed.board.offset = 9
    channel = await server.hub.hold("leaderboard:all_time")
    channel.offset, channel.snapshot = 9, json.dumps(server.feed.board.data).encode()
    session.outlet.write(frames.ready(json.dumps(frame | {"event": "x", "data": {}}).encode()))

    await expect(page.locator("#rows tr").first).to_contain_text("zoe")


async def test_a_code_to_stop_at_stops_the_page(page: Page, server: Live) -> None:
    for session in list(server.handler._sessions):
        session.outlet.close(4503)
    await expect(page.locator("#status")).to_have_text("Disconnected")


async def test_an_empty_board_says_so(page: Page, server: Live) -> None:
    server.feed.publish(changes=[], removed=[f"id-{name}" for name in NAMES], total=0)
    await expect(page.locator("#empty")).to_be_visible()
    await expect(page.locator("#rows tr")).to_have_count(0)


async def test_the_page_may_load_and_reach_nothing_but_its_own_server(server: Live) -> None:
    async with server.client.get(server.url) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
