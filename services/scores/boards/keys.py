"""How a board lies in Redis: its keys, and the bytes of players and of places among equals.

Boards hold players' ids; names stand in one hash. Everything of a board's period shares a hash
tag, so that one script can touch it on a cluster too.
"""

from typing import NamedTuple

NAMES = "leaderboard:{names}"
INVALIDATE = "cache:invalidate"  # the channel of changes to what readers may have cached
REBUILD = "rebuild:boards"  # hash: the progress of the last rebuild
SEQ_MAX = 2**63 - 1
KEPT_MS = 24 * 3600 * 1000  # how long a period stays after its end: closed ones are in Postgres


class BoardKeys(NamedTuple):
    """The keys of a board's period, in the order in which scripts get them."""

    entries: str  # sorted set: place among equals and player, by score
    members: str  # hash: version, place and time, by player
    meta: str  # hash: version of the board, time of its last change
    ready: str  # there while the board is complete
    scores: str  # sorted set: the distinct scores; dense boards only
    top: str  # the cached answer of the first entries


def board_keys(tag: str) -> BoardKeys:
    """The keys of the period that has this tag."""
    entries = f"leaderboard:{{{tag}}}"
    return BoardKeys(
        entries=entries,
        members=f"{entries}:members",
        meta=f"{entries}:meta",
        ready=f"{entries}:ready",
        scores=f"{entries}:scores",
        top=f"cache:{{{tag}}}:top",
    )


def place(seq: int, *, descending: bool) -> bytes:
    """A place among equal scores, so that who reached it first is ahead: 8 bytes."""
    return (SEQ_MAX - seq if descending else seq).to_bytes(8)


def seq(place: int, *, descending: bool) -> int:
    """The ledger's sequence in that place."""
    return SEQ_MAX - place if descending else place


def member(version: int, seq: int | None, at_ms: int, *, descending: bool) -> bytes:
    """What a board's `members` has of a player: version; place and time where on the board."""
    head = version.to_bytes(8)
    if seq is None:
        return head
    return head + place(seq, descending=descending) + at_ms.to_bytes(8)


def packed(user_id: str) -> bytes:
    """The id as 16 bytes. Raises ValueError when it is none."""
    return bytes.fromhex(user_id.replace("-", ""))


def unpacked(user: bytes) -> str:
    """The id of those 16 bytes."""
    digits = user.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
