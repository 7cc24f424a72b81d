"""A DNS server on loopback that has the same addresses for every name, as a headless service."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_A, _IN, _TTL_S = 1, 1, 0
_RESPONSE = 0x8580  # authoritative, recursion available, no error


class Names(asyncio.DatagramProtocol):
    """`addresses` may change at any time."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Names"]:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        try:
            yield self
        finally:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(0, 12) + 5  # of the question: a name, its type and class
        kind = struct.unpack_from("!H", data, end - 4)[0]
        found = self.addresses if kind == _A else []
        head = data[:2] + struct.pack("!HHHHH", _RESPONSE, 1, len(found), 0, 0)
        answers = [
            struct.pack("!HHHLH", 0xC00C, _A, _IN, _TTL_S, 4) + socket.inet_aton(address)
            for address in found
        ]
        self._transport.sendto(head + data[12:end] + b"".join(answers), addr)
