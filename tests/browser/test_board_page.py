"""The page, served by the real suite and shown by a real browser, moves when a player scores."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from scoreboard_client import Client
from tests.people import address, new_type, newcomer
from tests.suite import Suite

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@pytest.fixture
async def page(chromium: str) -> AsyncIterator[Page]:
    """A page in a browser of its own; any complaint of the browser fails the test."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = await browser.new_page(extra_http_headers=address())
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"no answer: {request.url}"))
        yield page
        await browser.close()
    assert complaints == []


async def test_the_page_shows_the_board_and_moves_when_a_player_scores(
    suite: Suite, page: Page, tmp_path: Path
) -> None:
    name = await new_type(suite, points=100)
    async with newcomer(suite) as ada, newcomer(suite) as bob:
        await score(ada, name)
        await page.goto(suite.url)
        rows = page.locator("#rows tr")
        hers, his = rows.filter(has_text=ada.username), rows.filter(has_text=bob.username)
        await expect(hers.locator(".number")).to_have_text("100")
        await expect(his).to_have_count(0)

        await score(bob, name)
        await expect(his.locator(".number")).to_have_text("100")
        await score(bob, name)
        await expect(his.locator(".number")).to_have_text("200")

        await expect(page.locator("#status")).to_have_text("Live")
        shown = await rows.locator(".name").all_inner_texts()
        assert shown.index(bob.username) < shown.index(ada.username)
        top = await ada.leaderboard(limit=10)
        assert shown == [entry["username"] for entry in top["entries"]]
        await expect(page.locator("#total")).to_have_text(re.compile(rf"^{top['total']}$"))
    await page.screenshot(path=tmp_path / "board.png", full_page=True)
    print(f"\nscreenshot: {tmp_path / 'board.png'}")


async def score(player: Client, action_type: str) -> None:
    action = await player.request_action(action_type)
    await player.complete(action, completion_time_ms=0)
