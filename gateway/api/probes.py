"""What load balancers ask: whether the suite is healthy, and this process alive and ready."""

from aiohttp import web

from gateway.edge.middleware import json
from gateway.edge.resources import Request


async def health(request: Request) -> web.Response:
    """How the suite is doing; 503 where nobody can play."""
    report = request.parts.health.report()
    return json(report, status=503 if report.status == "unhealthy" else 200)


async def livez(request: Request) -> web.Response:
    """Whether the event loop turns."""
    return web.Response(text="ok\n")


async def readyz(request: Request) -> web.Response:
    """Whether new requests are welcome."""
    if request.parts.traffic.draining:
        return web.Response(text="no\n", status=503)
    return web.Response(text="ready\n")
