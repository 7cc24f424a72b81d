"""The address of the live channel; what happens on it is `gateway.live`'s."""

from aiohttp import web

from gateway.edge.resources import Request


async def leaderboard(request: Request) -> web.StreamResponse:
    """One socket, from its handshake to its end."""
    return await request.parts.live.handle(request.http, request.stamp())
