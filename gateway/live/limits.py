"""The limits of the live channel; the defaults are the contract's."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class LiveLimits:
    message_bytes: int = 16 * 1024
    frames_per_s: float = 20.0
    frames_burst: int = 40
    bad_frames: int = 3
    subscriptions: int = 32
    sockets_per_user: int = 5
    sockets_per_address: int = 20
    sockets_per_process: int = 20_000
    handshakes_per_s: int = 200
    connect_s: float = 10.0  # until the first frame
    ping_s: float = 25.0
    dead_s: float = 35.0  # without a frame from the client
    expiring_s: float = 60.0  # before expiry a notice is sent
    expired_s: float = 25.0  # after expiry the socket is closed
    tick_s: float = 1.0  # how often sockets are looked at for the above
    send_buffer_bytes: int = 64 * 1024  # in the kernel
    # Of what waits beyond it for one socket to read.
    conflate_frames: int = 64  # above it a board's deltas give way to one snapshot
    conflate_bytes: int = 128 * 1024
    frames_max: int = 256  # above it the socket is closed
    bytes_max: int = 512 * 1024
    blocked_s: float = 10.0
    closing_s: float = 5.0  # for the peer to answer a close frame

    def disabled(self) -> "LiveLimits":
        """Without the thresholds that count connections; the counting is still done."""
        most = 1_000_000
        return replace(self, sockets_per_user=most, sockets_per_address=most, handshakes_per_s=most)
