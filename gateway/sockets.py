"""The address of the live channel; what happens on it is `gateway.live`'s."""

from aiohttp import web

from gateway.resources import LIVE


async def leaderboard(request: web.Request) -> web.StreamResponse:
    """One socket, from its handshake to its end."""
    return await request.app[LIVE].handle(request)
