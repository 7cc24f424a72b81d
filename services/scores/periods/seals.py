"""Seals of final tables: a hash, and the signature of the hash."""

import hashlib
import hmac
from collections.abc import Iterable

from chassis.keyring import Keyring


class TableHash:
    """SHA-256 over a final table: a header, its rows in their order, then who was left out.

    Each a line in UTF-8 that ends with a line feed, its parts separated by tabs:
    `final.v1 board period`, `position userId score seq reachedAtMs`, `left_out userId`.
    """

    def __init__(self, board: str, period_id: str) -> None:
        self._sha = hashlib.sha256(f"final.v1\t{board}\t{period_id}\n".encode())

    def add(self, lines: Iterable[str]) -> None:
        """Adds the next lines, without their line feeds."""
        self._sha.update("".join(f"{line}\n" for line in lines).encode())

    def digest(self) -> bytes:
        """The hash of what was added so far; 32 bytes."""
        return self._sha.digest()


class Seals:
    """Signs hashes by HMAC-SHA-256 with the current key of a keyring."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    def sign(self, table: bytes) -> tuple[int, bytes]:
        """The number of the key, and its signature of the hash."""
        return self._keys.current, self._signature(table, self._keys.current)

    def verify(self, table: bytes, signature: bytes, *, key_id: int) -> bool:
        """Whether the signature is ours. Raises KeyError when the ring lacks the key."""
        return hmac.compare_digest(self._signature(table, key_id), signature)

    def _signature(self, table: bytes, key_id: int) -> bytes:
        return hmac.digest(self._keys[key_id], table, "sha256")
