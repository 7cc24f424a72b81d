"""The limits of the live channel; the defaults are the contract's."""

from dataclasses import dataclass, replace
from typing import Annotated

from chassis.settings import Between, Group

KIB = 1024
Bytes = Annotated[int, Between(1 * KIB, 64 * KIB * KIB)]
Seconds = Annotated[float, Between(0.01, 3600)]
Count = Annotated[int, Between(1, 1_000_000)]


@dataclass(frozen=True, kw_only=True)
class LiveLimits(Group):
    """Settings of the gateway, read from `LIVE_…`."""

    message_bytes: Bytes = 16 * KIB  # the longest message from a client
    frames_per_s: Annotated[float, Between(1, 10_000)] = 20.0  # frames from a client, on average
    frames_burst: Count = 40  # frames from a client at once
    bad_frames: Count = 3  # frames that cannot be read, after which the socket is closed
    subscriptions: Count = 32  # channels of a socket
    sockets_per_user: Count = 5  # of a player, in this process
    sockets_per_address: Count = 20  # of an address (IPv6: its /64), in this process
    sockets_per_process: Count = 20_000  # of all, in this process
    handshakes_per_s: Count = 200  # new sockets, in this process
    connect_s: Seconds = 10.0  # until the first frame
    ping_s: Seconds = 25.0  # between two pings to a client
    dead_s: Seconds = 35.0  # without a frame from the client, after which the socket is closed
    expiring_s: Seconds = 60.0  # how long before a token's end a notice is sent
    expired_s: Seconds = 25.0  # how long after a token's end the socket is closed
    tick_s: Seconds = 1.0  # how often sockets are looked at for the above
    send_buffer_bytes: Bytes = 64 * KIB  # of a socket in the kernel; what follows waits beyond it
    conflate_frames: Count = 64  # waiting frames above which a board's changes become one snapshot
    conflate_bytes: Bytes = 128 * KIB  # the same, of waiting bytes
    frames_max: Count = 256  # waiting frames above which the socket is closed
    bytes_max: Bytes = 512 * KIB  # the same, of waiting bytes
    blocked_s: Seconds = 10.0  # how long a queue may stay before the socket is closed
    closing_s: Seconds = 5.0  # for the client to answer a close frame

    def disabled(self) -> "LiveLimits":
        """Without the thresholds that count connections; the counting is still done."""
        most = 1_000_000
        return replace(self, sockets_per_user=most, sockets_per_address=most, handshakes_per_s=most)
