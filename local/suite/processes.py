"""The parts of the suite as processes: a program of ours, or one of the two servers."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from signal import SIGKILL, SIGTERM
from urllib.parse import urlsplit

from local.servers import embedded as servers
from local.servers.launch import dying_with_parent, end, last_lines

ROOT = Path(__file__).parents[2]

_LOG_BYTES_MAX = 10_000_000
_LINE_CHARS_MAX = 300
_STATUS_TIMEOUT_S = 2.0
# What a program inherits from the environment.
_INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE")


@dataclass(kw_only=True)
class Program:
    """A program of ours. Its output goes to `log`, or where ours goes if it `speaks`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    grace_s: float  # from the request to end until it is killed
    ports: Mapping[str, int] = field(default_factory=dict)
    ready_urls: Sequence[str] = ()
    speaks: bool = False
    process: subprocess.Popen[bytes] = field(init=False)  # the one last started
    _start_byte: int = field(init=False, default=0)  # of its output in the log

    def start(self) -> None:
        """Starts it, once more where it has ended. Raises OSError."""
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._start_byte = log.tell()
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
        """Whether it does its work."""
        return all(status(url) == 200 for url in self.ready_urls)

    def stop(self) -> None:
        """Lets it end in order; returns when it has ended."""
        end(self.process, SIGTERM, grace_s=self.grace_s)

    def described(self) -> dict[str, int | str]:
        """What others need to find it."""
        return {"pid": self.process.pid, **self.ports}

    def last_line(self) -> str:
        """The end of its output; empty where there is none."""
        return "".join(last_lines(self.log, start_byte=self._start_byte)[-1:])[:_LINE_CHARS_MAX]


@dataclass
class Server:
    """Postgres or Redis, as `open_server` starts it. Its URL has the password."""

    name: str
    open_server: Callable[[], AbstractContextManager[servers.Server]]
    url: str = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)
    _stack: ExitStack = field(init=False, default_factory=ExitStack)

    def start(self) -> None:
        """Starts it and waits until it is ready. Raises Unavailable, OSError."""
        self._stack.close()
        server = self._stack.enter_context(self.open_server())
        self.url, self.process = server.url, server.process

    def ready(self) -> bool:
        return True  # It was when `start` returned.

    def stop(self) -> None:
        self._stack.close()

    def described(self) -> dict[str, int | str]:
        return {"pid": self.process.pid, "url": self.url}

    def last_line(self) -> str:
        return ""


Part = Program | Server


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program: this and little else."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | dict(given)


def status(url: str) -> int | None:
    """The status of a GET of `url` on this machine; None where nothing responds."""
    parts = urlsplit(url)
    # Not urllib, which would go by way of a proxy that the environment names.
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_STATUS_TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
