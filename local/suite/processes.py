"""The parts of the suite as processes: a program of ours, or one of the two servers."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Protocol

from local.servers import embedded as servers
from local.servers.launch import dying_with_parent
from local.suite import probe

ROOT = Path(__file__).parents[2]

_LOG_BYTES_MAX = 10_000_000
_LOG_TAIL_BYTES = 4096
_WORDS_MAX = 300
# What a program inherits from the environment.
_INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE")


class Part(Protocol):
    """What the supervisor keeps running."""

    @property
    def name(self) -> str: ...

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process last started."""

    def start(self) -> None:
        """Starts it, once more where it has ended. Raises Unavailable, OSError."""

    def ready(self) -> bool:
        """Whether it does its work."""

    def stop(self) -> None:
        """Lets it end in order; returns when it has ended."""

    def described(self) -> dict[str, int | str]:
        """What others need to find it."""

    def last_words(self) -> str:
        """What it said last, on one line; empty where it said nothing."""


@dataclass(kw_only=True)
class Program:
    """A program of ours. Its output goes to `log`, or where ours goes if it `speaks`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    grace_s: float  # from being asked to end until it is killed
    ports: Mapping[str, int] = field(default_factory=dict)
    ready_urls: Sequence[str] = ()
    speaks: bool = False
    process: subprocess.Popen[bytes] = field(init=False)
    _said_before_bytes: int = field(init=False, default=0)

    def start(self) -> None:
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._said_before_bytes = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT,
                env=environment(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=None if self.speaks else log,
                stderr=log,
                # A Ctrl-C is for the supervisor alone, which stops its children in order.
                start_new_session=True,
                # Killed, since no one is left who would make an end of a program that hangs.
                preexec_fn=dying_with_parent(SIGKILL),  # noqa: PLW1509  It makes one system call.
            )

    def ready(self) -> bool:
        return all(probe.status(url) == 200 for url in self.ready_urls)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def described(self) -> dict[str, int | str]:
        return {"pid": self.process.pid, **self.ports}

    def last_words(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(self._said_before_bytes, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        return said[-1][:_WORDS_MAX] if said else ""


class Server:
    """Postgres or Redis, as `open_server` starts it."""

    def __init__(
        self, name: str, open_server: Callable[[], AbstractContextManager[servers.Server]]
    ) -> None:
        self.name = name
        self._open_server = open_server
        self._stack = ExitStack()
        self._server: servers.Server

    @property
    def url(self) -> str:
        """Where it answers, with the password."""
        return self._server.url

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._server.process

    def start(self) -> None:
        self._stack.close()
        self._server = self._stack.enter_context(self._open_server())

    def ready(self) -> bool:
        # It was when `start` returned.
        return True

    def stop(self) -> None:
        self._stack.close()

    def described(self) -> dict[str, int | str]:
        return {"pid": self.process.pid, "url": self.url}

    def last_words(self) -> str:
        return ""


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program: this and little else."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, **given}
