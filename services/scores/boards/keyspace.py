"""How a board lies in Redis: its keys, and the bytes of players and of places among equals.

Boards hold players' ids; names stand in one hash. Everything of a board and period
shares a hash tag, so that one script can touch it on a cluster too.
"""

from services.scores.boards.rules import Board, Period

NAMES = "leaderboard:{names}"
INVALIDATE = "cache:invalidate"  # the channel that tells what was changed since it was read
REBUILD = "rebuild:boards"  # hash: how far the last rebuild is
SEQ_MAX = 2**63 - 1
KEPT_MS = 24 * 3600 * 1000  # how long a period stays after its end: closed ones are in Postgres


def tag(board: Board, period: Period) -> str:
    """What the keys of a board and period share."""
    return board.name if period.end_ms is None else f"{board.name}:{period.id}"


def keys(board: Board, period: Period) -> list[str]:
    """What each script is given.

    The entries (sorted set), each player's version, place and time (hash), version and time of the
    board (hash), the mark that it is complete, the distinct scores (sorted set; dense boards
    only), the kept answer of the first entries.
    """
    shared = tag(board, period)
    key = f"leaderboard:{{{shared}}}"
    return [
        key,
        f"{key}:members",
        f"{key}:meta",
        f"{key}:ready",
        f"{key}:scores",
        f"cache:{{{shared}}}:top",
    ]


def place(board: Board, seq: int) -> bytes:
    """A place among equal scores, so that who reached it first is ahead: 8 bytes."""
    return (SEQ_MAX - seq if board.descending else seq).to_bytes(8)


def seq(board: Board, place: int) -> int:
    """The ledger's sequence in that place."""
    return SEQ_MAX - place if board.descending else place


def packed(user_id: str) -> bytes:
    """The id as 16 bytes. Raises ValueError when it is none."""
    return bytes.fromhex(user_id.replace("-", ""))


def unpacked(user: bytes) -> str:
    """The id of those 16 bytes."""
    digits = user.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
