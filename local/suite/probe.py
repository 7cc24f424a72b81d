"""Asks an HTTP server of this machine what it answers."""

from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

_TIMEOUT_S = 2.0


def status(url: str) -> int | None:
    """The status that a GET of `url` is answered with; None where no one answers."""
    parts = urlsplit(url)
    # Not urllib, which would go by way of a proxy that the environment names.
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
