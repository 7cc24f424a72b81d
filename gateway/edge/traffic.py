"""Requests in flight, so that a stop can wait for them."""

import asyncio


class Traffic:
    """Counts what is in flight. While `draining`, answers end their connections."""

    def __init__(self) -> None:
        self.draining = False
        self.in_flight = 0
        self._ended = asyncio.Event()
        self._ended.set()

    def enter(self) -> None:
        """A request begins."""
        if self.in_flight == 0:
            self._ended.clear()
        self.in_flight += 1

    def leave(self) -> None:
        """A request ends, answered or not."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self._ended.set()

    async def ended(self) -> None:
        """Returns when nothing is in flight."""
        await self._ended.wait()
