"""One keep-alive HTTP/1.1 connection with as little work of its own as will do.

A client library costs as much for each request as the server does, on the same cores.
"""

import asyncio
import re
from collections.abc import Callable, Mapping

ANSWER_S = 15.0  # longer than the server's own deadline, so that the server says what was slow

BASE = "/api/v1"

_NOT_MODIFIED = 304  # which has no body
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Asks one request at a time; opens again by itself what the server closed."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]]
        self._received = bytearray()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises OSError, TimeoutError, ValueError."""
        async with asyncio.timeout(ANSWER_S):
            if self._transport is None:
                loop = asyncio.get_running_loop()
                self._transport, _ = await loop.create_connection(
                    lambda: self, self._host, self._port
                )
            self._received.clear()
            self._answer = asyncio.get_running_loop().create_future()
            self._transport.write(request)
            try:
                return await self._answer
            except BaseException:
                # What comes late must not be taken for the answer to the next request.
                self.close()
                raise

    def close(self) -> None:
        """Closes it."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0 or self._answer.done():
            return
        length = _LENGTH.search(self._received, 0, head_end)
        status = int(self._received[9:12])  # "HTTP/1.1 200 OK"
        if length is None and status != _NOT_MODIFIED:
            self._answer.set_exception(ValueError("an answer without a length"))
            return
        body_end = head_end + 4 + (int(length[1]) if length else 0)
        if len(self._received) >= body_end:
            self._answer.set_result((status, bytes(self._received[head_end + 4 : body_end])))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed before its answer"))


def post(path: str, headers: Mapping[str, str]) -> Callable[[bytes], bytes]:
    """What makes requests of one kind out of their JSON bodies; all but these is made once."""
    lines = [
        f"POST {BASE}{path} HTTP/1.1",
        "Content-Type: application/json",
        *(f"{name}: {value}" for name, value in headers.items()),
        "Content-Length: ",
    ]
    head = "\r\n".join(lines).encode()
    return lambda body: b"%b%d\r\n\r\n%b" % (head, len(body), body)
