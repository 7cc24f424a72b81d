"""The supervisor: starts parts, starts those again that die, stops all in order, logs."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import psutil

from local import secrets
from local.servers.binaries import Unavailable
from local.suite.processes import Part

PAUSE_MIN_S, PAUSE_MAX_S = 0.5, 10.0
SETTLED_S = 30.0  # who lived that long and dies has the first, short pause again

_ROUND_S = 0.05
_READY_S = 60.0
# One Ctrl-C may come twice: from the terminal, and from the parent process.
_SAME_WISH_S = 0.5


class Refused(Exception):
    """The suite cannot run; the message is one line that says why."""


class Stopped(Exception):
    """Someone asked for the end."""


@dataclass
class _Kept:
    part: Part
    started_at: float
    pause_s: float = PAUSE_MIN_S  # before the next start
    start_at: float | None = None  # None: it runs


class Supervisor:
    """Keeps parts running within its context, and stops them at the end, the last one first.

    `record` is a file that names, as JSON, every part's process and ports and the suite's
    `url`. It is there as long as the context, and readable to its owner alone.
    """

    def __init__(
        self,
        record: Path,
        *,
        url: str,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._record = record
        self._url = url
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._kept: list[_Kept] = []
        self._known: dict[str, object] = {"url": url}
        self._asked_at: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def heed(self, *signals: signal.Signals) -> None:
        """From now on the first of these asks for the end, and the second kills everything."""
        for number in signals:
            signal.signal(number, self._asked)

    def start(self, *parts: Part) -> None:
        """Starts the parts, none waiting for another. Raises Stopped, Unavailable, OSError."""
        for part in parts:
            self._heeded()
            part.start()
            self._kept.append(_Kept(part, self._clock()))
        self._write()

    def know(self, name: str, url: str) -> None:
        """Names in the record what runs without us."""
        self._known[name] = {"url": url}

    def until_ready(self) -> None:
        """Returns when every part does its work. Raises Refused, Stopped, OSError."""
        latest = self._clock() + _READY_S
        waiting = [kept.part for kept in self._kept]
        while waiting := [part for part in waiting if not part.ready()]:
            if self._clock() > latest:
                names = ", ".join(part.name for part in waiting)
                raise Refused(f"not ready within {_READY_S:g} s: {names}")
            self._heeded()
            self.tend()
            self._sleep(_ROUND_S)

    def run(self) -> None:
        """Keeps all parts running until someone asks for the end. Raises OSError."""
        while self._asked_at is None:
            self.tend()
            self._sleep(_ROUND_S)

    def tend(self) -> None:
        """Looks after every part once: notes who died, starts those whose pause is over."""
        for kept in self._kept:
            if kept.start_at is None:
                if kept.part.process.poll() is not None:
                    self._mourn(kept, _how(kept.part))
            elif self._clock() >= kept.start_at:
                self._revive(kept)

    def stop(self) -> None:
        """Stops all parts, the last one first, each after the one before is unavailable."""
        if self._asked_at is None:
            self._asked_at = self._clock()
        while self._kept:
            self._kept[-1].part.stop()
            self._kept.pop()
        self._record.unlink(missing_ok=True)

    def _mourn(self, kept: _Kept, how: str) -> None:
        if self._clock() - kept.started_at >= SETTLED_S:
            kept.pause_s = PAUSE_MIN_S
        kept.start_at = self._clock() + kept.pause_s
        self._say(f"{kept.part.name} {how}; it starts again in {kept.pause_s:g} s")
        kept.pause_s = min(PAUSE_MAX_S, 2 * kept.pause_s)
        self._write()

    def _revive(self, kept: _Kept) -> None:
        kept.started_at, kept.start_at = self._clock(), None
        try:
            kept.part.start()
        except (Unavailable, OSError) as refusal:
            self._mourn(kept, f"did not start: {refusal}")
        else:
            self._write()

    def _heeded(self) -> None:
        if self._asked_at is not None:
            raise Stopped

    def _write(self) -> None:
        running = {
            kept.part.name: kept.part.described() for kept in self._kept if kept.start_at is None
        }
        secrets.write(self._record, json.dumps({**self._known, **running}, indent=2) + "\n")

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._asked_at is None:
            self._asked_at = self._clock()
            self._say("stopping…")
        elif self._clock() - self._asked_at > _SAME_WISH_S:
            self._end_at_once()

    def _end_at_once(self) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._record.unlink(missing_ok=True)
        os._exit(1)


def _how(part: Part) -> str:
    """How a part's process ended, in words."""
    code = part.process.returncode
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    said = f": {words}" if (words := part.last_words()) else ""
    return f"ended with code {code}{said}"
