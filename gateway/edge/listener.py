"""The public port: connections with deadlines, requests in flight, and the drain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from chassis.errors import Failed, Internal
from chassis.ids import uuid7
from chassis.process import stop_signal
from chassis.rpc.server import freeze_garbage, operations
from chassis.telemetry import log
from gateway.edge import errors, head
from gateway.edge.errors import BadRequest, HeadersTooLarge
from gateway.edge.gateway import Gateway
from gateway.edge.request import Seen
from gateway.settings import Settings

HEAD_S = 10.0  # for a request's head to arrive whole
KEEP_ALIVE_S = 75.0
BACKLOG = 1024


async def serve(gateway: Gateway, *, settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal stops at once."""
    stop, listens = stop_signal(), asyncio.Event()
    async with (
        # Around the other, so that it shows the drain too.
        operations(settings, ready=lambda: listens.is_set() and not stop.is_set()) as ops_port,
        listening(gateway, settings=settings) as port,
    ):
        listens.set()
        freeze_garbage()
        log.info("ready", port=port, ops_port=ops_port)
        await stop.wait()
        log.info("draining")
        gateway.draining = True
        await asyncio.sleep(settings.drain_pause_s)


@asynccontextmanager
async def listening(gateway: Gateway, *, settings: Settings) -> AsyncIterator[int]:
    """Accepts connections within the context and drains at its end; yields the port."""
    # What is left when the time to drain is over is cut off, so the rest may be short.
    server = web.Server(gateway.answer)
    runner = web.ServerRunner(server, shutdown_timeout=0.5)
    await runner.setup()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: Connection(server, loop=loop), settings.host, settings.port, backlog=BACKLOG
    )
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        gateway.draining = True
        listener.close()
        for connection in server.connections:
            if isinstance(connection, Connection) and connection.idle:
                connection.force_close()
        try:
            async with asyncio.timeout(settings.drain_s):
                await gateway.drained()
        except TimeoutError:
            log.warning("requests_cut_off", count=gateway.in_flight)
        await runner.cleanup()
        log.info("requests_drained")


class Connection(web.RequestHandler):
    """A client's connection. One whose request's head is not whole in time is closed.

    aiohttp has a time limit for idle connections only: one byte a minute would hold a
    connection forever.
    """

    __slots__ = ("_head_timer", "seen")

    def __init__(self, server: web.Server, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=KEEP_ALIVE_S,
            access_log=None,  # type: ignore[arg-type]  # We write a line of our own.
            auto_decompress=False,
        )
        self._head_timer: asyncio.TimerHandle | None = None
        self.seen = Seen()

    @property
    def idle(self) -> bool:
        """Whether no request is being read or answered."""
        return self._current_request is None and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(HEAD_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_timer()
        elif self._head_timer is None and self.idle:
            self._head_timer = self._loop.call_later(HEAD_S, self._give_up)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, as a problem like any other."""
        failed: Failed = head.refused(exc) or BadRequest()
        if isinstance(exc, LineTooLong):
            failed = HeadersTooLarge()
        if status >= 500:  # It is ours, since handlers' failures never come here.
            failed = Internal()
        request_id = uuid7()
        log.info("request_unreadable", code=failed.code, request_id=request_id)
        response = errors.response(failed, request_id)
        response.headers["X-Request-Id"] = request_id
        response.force_close()
        return response

    def _give_up(self) -> None:
        self._head_timer = None
        if self.idle:
            self.force_close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
