"""The pages and what they load, held in memory from the start."""

import mimetypes
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.edge.errors import NotFound
from gateway.edge.request import Request

FOLDER = Path(__file__).parent

# Nothing is loaded from elsewhere, and no text of a player can become a program.
_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


@dataclass(frozen=True)
class _File:
    body: bytes
    content_type: str


def _read(folder: Path) -> dict[str, _File]:
    return {
        path.name: _File(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "text/plain")
        for path in folder.iterdir()
        if path.is_file() and path.suffix not in (".py", ".md")
    }


_FILES = _read(FOLDER)


async def page(request: Request) -> web.Response:
    """The live scoreboard."""
    return respond("index.html")


async def file(request: Request) -> web.Response:
    """What the page loads. Raises NotFound."""
    return respond(request.params["name"])


def respond(name: str) -> web.Response:
    """One file. Raises NotFound."""
    found = _FILES.get(name)
    if found is None:
        raise NotFound
    return web.Response(
        body=found.body,
        headers={
            "Content-Type": f"{found.content_type}; charset=utf-8",
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "no-referrer",
        },
    )
