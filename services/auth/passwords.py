"""Passwords: which are allowed, how they are hashed, and the threads that hash them.

A hash is bcrypt over `base64(HMAC-SHA-384(pepper, NFKC(password)))`: 64 characters, so
bcrypt's limit of 72 bytes cuts nothing off, and no NUL byte ends anything early.
"""

import base64
import hashlib
import hmac
import os
import threading
import unicodedata
from asyncio import wrap_future
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TypeVar

import bcrypt

from chassis.errors import FieldError, Unavailable
from chassis.keyring import Keyring

POINTS_MIN, POINTS_MAX = 8, 64

# No character has more than four in its place when taken apart canonically, so a text
# longer than this stays longer than POINTS_MAX, however it is put together again.
_LOOKED_AT = 4 * POINTS_MAX + 1

T = TypeVar("T")


class LoginBusy(Unavailable):
    """Too many passwords are being checked; try again shortly."""


class Bcrypt:
    """bcrypt of secrets of 64 bytes, with `cost` rounds as a power of two."""

    def __init__(self, cost: int) -> None:
        self._cost = cost

    def hash(self, secret: bytes) -> str:
        return bcrypt.hashpw(secret, bcrypt.gensalt(self._cost)).decode("ascii")

    def matches(self, secret: bytes, hashed: str) -> bool:
        return bcrypt.checkpw(secret, hashed.encode("ascii"))

    def outdated(self, hashed: str) -> bool:
        return int(hashed.split("$")[2]) != self._cost


@dataclass(frozen=True)
class StoredPassword:
    """A password's hash, and the number of the pepper in it."""

    hashed: str
    pepper: int


def problems(password: str, *, username: str) -> Iterator[FieldError]:
    """What makes `password` unfit for the account `username`."""
    text = _normal(password)
    if len(text) < POINTS_MIN:
        yield FieldError("password", "TOO_SHORT", f"Use at least {POINTS_MIN} characters.")
    if len(text) > POINTS_MAX:
        yield FieldError("password", "TOO_LONG", f"Use at most {POINTS_MAX} characters.")
    if text.casefold() == username.casefold():
        yield FieldError("password", "SAME_AS_USERNAME", "The password is the username.")
    if text.casefold() in _COMMON:
        yield FieldError("password", "TOO_COMMON", "This password is among the first to be tried.")


class Passwords:
    """Hashes and checks passwords, a few at a time, off the event loop.

    Every method raises LoginBusy at once when `waiting_max` calls wait for a thread.
    """

    def __init__(
        self,
        hasher: Bcrypt,
        pepper: Keyring,
        *,
        threads: ThreadPoolExecutor,
        room: threading.BoundedSemaphore,
    ) -> None:
        self._hasher = hasher
        self._pepper = pepper
        self._threads = threads
        self._room = room
        # What an unknown name's password is compared with, so that it takes as long.
        self._dummy = StoredPassword(hasher.hash(os.urandom(32).hex().encode()), pepper.current)

    async def hash(self, password: str) -> StoredPassword:
        """The password as it is stored."""
        pepper = self._pepper.current
        secret = self._secret(password, pepper)
        return StoredPassword(await self._run(lambda: self._hasher.hash(secret)), pepper)

    async def verify(self, password: str, stored: StoredPassword | None) -> bool:
        """Whether `password` is the stored one; as slow, and False, where there is none."""
        against = stored or self._dummy
        secret = self._secret(password, against.pepper)
        matches = await self._run(lambda: self._hasher.matches(secret, against.hashed))
        return matches and stored is not None

    def outdated(self, stored: StoredPassword) -> bool:
        """Whether a right password should be hashed again, by today's pepper and cost."""
        return stored.pepper != self._pepper.current or self._hasher.outdated(stored.hashed)

    def _secret(self, password: str, pepper: int) -> bytes:
        mac = hmac.digest(self._pepper[pepper], _normal(password).encode(), hashlib.sha384)
        return base64.b64encode(mac)

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._room.acquire(blocking=False):
            raise LoginBusy(retry_after_s=2)
        job = self._threads.submit(work)
        # A call that is cancelled while it waits leaves at once; one that a thread has
        # begun keeps its place until the thread is free again.
        job.add_done_callback(lambda _: self._room.release())
        return await wrap_future(job)


@contextmanager
def open_passwords(
    hasher: Bcrypt, pepper: Keyring, *, workers: int | None = None, waiting_max: int = 50
) -> Iterator[Passwords]:
    """Passwords with `workers` threads (by default one per core) within the context."""
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="passwords") as threads:
        room = threading.BoundedSemaphore(workers + waiting_max)
        yield Passwords(hasher, pepper, threads=threads, room=room)


def _normal(password: str) -> str:
    # Cut first: putting thousands of combining marks in order takes quadratic time. What
    # remains of a password that is cut is still too long.
    return unicodedata.normalize("NFKC", password[:_LOOKED_AT])


_COMMON = frozenset(
    resources.files("services.auth").joinpath("common_passwords.txt").read_text().split()
)
