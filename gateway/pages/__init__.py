"""The pages and what they load: the files beside this one, served from memory."""

import mimetypes
from pathlib import Path

from aiohttp import web

from gateway.edge.errors import NotFound
from gateway.edge.request import Request

# Nothing is loaded from elsewhere, and no text of a player can become a program.
_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

_FILES = {
    path.name: (path.read_bytes(), mimetypes.guess_type(path.name)[0] or "text/plain")
    for path in Path(__file__).parent.iterdir()
    if path.is_file() and path.suffix not in (".py", ".md")
}


async def file(request: Request) -> web.Response:
    """What the address names, else the live scoreboard. Raises NotFound."""
    return respond(request.params.get("name", "index.html"))


def respond(name: str) -> web.Response:
    """One file. Raises NotFound."""
    if name not in _FILES:
        raise NotFound
    body, content_type = _FILES[name]
    return web.Response(
        body=body,
        headers={
            "Content-Type": f"{content_type}; charset=utf-8",
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "no-referrer",
        },
    )
