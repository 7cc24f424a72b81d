"""One server being started: its claim on the data, its processes, what is said when it fails."""

import ctypes
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from local import ports
from local.servers import binaries
from local.servers.binaries import Unavailable

_START_S = 30.0
_STOP_S = 15.0
# How long to wait for a server that is on its way out to release its data.
_CLAIM_S = 3.0
_POLL_S = 0.01
_LOG_TAIL_BYTES = 64 * 1024

_RUNS = Path("/tmp")  # noqa: S108  Each run makes a folder of its own there.
_OPEN_FILES = Path("/proc/self/fd")
_PR_SET_PDEATHSIG = 1
# Loaded now, because nothing may be loaded between a fork and its exec.
_LIBC = ctypes.CDLL(None)


class Launch:
    """Starts one server on the data in `directory`. All it opens ends with `stack`.

    `run` is a folder for sockets and copies, the server's alone. It lies in /tmp,
    because the path of a Unix socket holds 103 bytes at most, and because TMPDIR
    may be closed to the account.
    """

    def __init__(self, stack: ExitStack, directory: Path, *, name: str, variable: str) -> None:
        self.directory = directory.absolute()
        self._stack = stack
        self._name = name
        self._variable = variable
        self._log = self.directory / f"{name.lower()}.log"
        self._passed: list[int] = []

    def claim(self) -> None:
        """Makes the folders and takes the data, waiting a moment for an earlier server to end.

        The processes started inherit the locked file, so the claim holds until the
        last of them ends, whichever of us is killed. Raises Unavailable, OSError.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / f"{self._name.lower()}.lock"
        self._claimed = self._stack.enter_context(path.open("a+"))
        self._passed.append(self._claimed.fileno())
        deadline = time.monotonic() + _CLAIM_S
        while not lock(self._claimed.fileno()):
            if time.monotonic() > deadline:
                pid = "".join(path.read_text().splitlines()[:1])
                raise self.unavailable(f"{self.directory} is in use by process {pid}")
            time.sleep(_POLL_S)
        for left in map(Path, path.read_text().splitlines()[1:]):
            # Of a run that was killed. Nothing else is removed, even if the file names it.
            if left.parent == _RUNS and left.name.startswith("sb-"):
                shutil.rmtree(left, ignore_errors=True)
        self.run = Path(tempfile.mkdtemp(prefix="sb-", dir=_RUNS))
        self._stack.callback(shutil.rmtree, self.run, ignore_errors=True)
        binaries.give(self.run)
        self._sign(os.getpid())

    def expect_free(self, port: int) -> None:
        """Raises Unavailable when the port cannot be listened on."""
        if problem := ports.problem(port):
            raise self.unavailable(f"port {port}: {problem}")

    def reach(self, folder: Path) -> Path:
        """The name by which the servers reach a folder of theirs.

        To leave root is to lose the way through folders closed to the account, so
        then they get it open, and name it by the open file. Raises OSError.
        """
        if binaries.account() is None or not _OPEN_FILES.exists():
            return folder
        file = os.open(folder, os.O_RDONLY)
        self._stack.callback(os.close, file)
        self._passed.append(file)
        return _OPEN_FILES / str(file)

    def start(
        self, command: Sequence[str | Path], *, stop_by: signal.Signals, config: str = ""
    ) -> subprocess.Popen[bytes]:
        """Starts a process with `config` as its input; the stack's end stops it.

        Its output is the server's log, begun again. Raises OSError.
        """
        with tempfile.TemporaryFile() as stdin, self._log.open("wb") as log:
            stdin.write(config.encode())
            stdin.seek(0)
            process = subprocess.Popen(
                command,
                cwd=self.run,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C is for the supervisor alone, which stops its children in order.
                start_new_session=True,
                pass_fds=self._passed,
                preexec_fn=dying_with_parent(stop_by),  # noqa: PLW1509  It makes one system call.
                **binaries.run_as(),
            )
        self._stack.callback(end, process, stop_by, grace_s=_STOP_S)
        self._sign(process.pid)
        return process

    def wait(self, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        """Returns when the process is ready. Raises Unavailable if it ends or takes too long."""
        deadline = time.monotonic() + _START_S
        while True:
            # Looked at first, since what is waited for may be its end.
            ended = process.poll() is not None
            if ready():
                return
            if ended or time.monotonic() > deadline:
                raise self.unavailable(self._cause())
            time.sleep(_POLL_S)

    def unavailable(self, reason: str) -> Unavailable:
        """The error of a server that cannot start."""
        return Unavailable(f"{self._name} cannot start: {reason}", self._variable)

    def _sign(self, pid: int) -> None:
        self._claimed.truncate(0)
        self._claimed.write(f"{pid}\n{self.run}\n")
        self._claimed.flush()

    def _cause(self) -> str:
        said = last_lines(self._log)
        # The cause comes before what follows from it.
        for pattern in ("No space left on device", "(error|FATAL|PANIC): "):
            if lines := [line for line in said if re.search(pattern, line)]:
                return lines[-1]
        return said[-1] if said else "it said nothing"


def dying_with_parent(signal_: signal.Signals) -> Callable[[], None]:
    """What a child does before its program, to be sent `signal_` when this thread ends (Linux)."""
    parent = os.getpid()

    def request() -> None:
        # Runs in the child after it has left root, which would undo this.
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal_))
            if os.getppid() != parent:
                os._exit(1)

    return request


def end(process: subprocess.Popen[bytes], signal_: signal.Signals, *, grace_s: float) -> None:
    """Sends a child `signal_`, and kills it when it has not ended within `grace_s`."""
    process.send_signal(signal_)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_lines(path: Path, *, start_byte: int = 0) -> list[str]:
    """The lines with text near the end of a log, of what was written from `start_byte` on."""
    with path.open("rb") as log:
        log.seek(max(start_byte, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def lock(file: int) -> bool:
    """Locks an open file for this process and its children; False where another holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
