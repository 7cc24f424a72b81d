"""The supervisor: starts parts, restarts those that end, stops all in order, logs."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from deploy import secrets
from local.servers import launch
from local.servers.binaries import Unavailable
from local.suite.processes import Part

_PAUSE_MIN_S, _PAUSE_MAX_S = 0.5, 10.0
_SETTLED_S = 30.0  # a part that ends after so long has the first, short pause again
_ROUND_S = 0.05
_READY_S = 60.0
# One Ctrl-C may come twice: from the terminal, and from the parent process.
_SAME_SIGNAL_S = 0.5


class Refused(Exception):
    """The suite cannot run; the message is one line that says why."""


class Stopped(Exception):
    """A signal requested the end."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within it the folder is there, and ours alone until we end. Raises Refused, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "supervisor.lock"
    with path.open("a+") as file:
        if not launch.lock(file.fileno()):
            holder = f"{folder} is in use by process {path.read_text().strip()}"
            raise Refused(f"{holder}; choose another by SCOREBOARD_DATA_DIR")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@dataclass
class _Kept:
    part: Part
    started_at: float
    pause_s: float = _PAUSE_MIN_S  # before the next start
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
        self.say = say
        self._record = record
        self._clock = clock
        self._sleep = sleep
        self._kept: list[_Kept] = []
        self._elsewhere: dict[str, object] = {"url": url}
        self._stopping_at: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def stop_by(self, *signals: signal.Signals) -> None:
        """From now on the first of these requests the end, and the second kills everything."""
        for number in signals:
            signal.signal(number, self._on_signal)

    def start(self, *parts: Part) -> None:
        """Starts the parts, none waiting for another. Raises Stopped, Unavailable, OSError."""
        for part in parts:
            self._expect_running()
            part.start()
            self._kept.append(_Kept(part, self._clock()))
        self._write()

    def add(self, name: str, url: str) -> None:
        """Names in the record what runs without us."""
        self._elsewhere[name] = {"url": url}

    def wait_until_ready(self) -> None:
        """Returns when every part does its work. Raises Refused, Stopped, OSError."""
        latest = self._clock() + _READY_S
        waiting = [kept.part for kept in self._kept]
        while waiting := [part for part in waiting if not part.ready()]:
            if self._clock() > latest:
                names = ", ".join(part.name for part in waiting)
                raise Refused(f"not ready within {_READY_S:g} s: {names}")
            self._expect_running()
            self.check()
            self._sleep(_ROUND_S)

    def run(self) -> None:
        """Keeps all parts running until a signal requests the end. Raises OSError."""
        while self._stopping_at is None:
            self.check()
            self._sleep(_ROUND_S)

    def check(self) -> None:
        """Checks every part once: notes those that ended, restarts those whose pause is over."""
        for kept in self._kept:
            if kept.start_at is None:
                if kept.part.process.poll() is not None:
                    self._schedule(kept, _how_ended(kept.part))
            elif self._clock() >= kept.start_at:
                self._restart(kept)

    def stop(self) -> None:
        """Stops all parts, the last one first, each after the one before has ended."""
        if self._stopping_at is None:
            self._stopping_at = self._clock()
        while self._kept:
            self._kept[-1].part.stop()
            self._kept.pop()
        self._record.unlink(missing_ok=True)

    def _schedule(self, kept: _Kept, reason: str) -> None:
        if self._clock() - kept.started_at >= _SETTLED_S:
            kept.pause_s = _PAUSE_MIN_S
        kept.start_at = self._clock() + kept.pause_s
        self.say(f"{kept.part.name} {reason}; it starts again in {kept.pause_s:g} s")
        kept.pause_s = min(_PAUSE_MAX_S, 2 * kept.pause_s)
        self._write()

    def _restart(self, kept: _Kept) -> None:
        kept.started_at, kept.start_at = self._clock(), None
        try:
            kept.part.start()
        except (Unavailable, OSError) as refusal:
            self._schedule(kept, f"did not start: {refusal}")
        else:
            self._write()

    def _expect_running(self) -> None:
        if self._stopping_at is not None:
            raise Stopped

    def _write(self) -> None:
        running = {
            kept.part.name: kept.part.described() for kept in self._kept if kept.start_at is None
        }
        secrets.write(self._record, json.dumps({**self._elsewhere, **running}, indent=2) + "\n")

    def _on_signal(self, *_: object) -> None:
        if self._stopping_at is None:
            self._stopping_at = self._clock()
            self.say("stopping…")
        elif self._clock() - self._stopping_at > _SAME_SIGNAL_S:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._record.unlink(missing_ok=True)
            os._exit(1)


def _how_ended(part: Part) -> str:
    code = part.process.returncode
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    line = part.last_line()
    return f"ended with code {code}{f': {line}' if line else ''}"
