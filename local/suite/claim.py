"""What one `make run` must have for itself: its data directory and its public port."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.suite.supervisor import Refused


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within it the folder is there, and ours alone until we end. Raises Refused, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "supervisor.lock"
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = path.read_text().strip()
            raise Refused(
                f"{folder} is in use by process {pid}; choose another by SCOREBOARD_DATA_DIR"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def expect_free(host: str, port: int) -> None:
    """Raises Refused when the port cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as refusal:
        # Python adds the address to its `strerror`; a name's failure has no number of the system.
        is_name = isinstance(refusal, socket.gaierror)
        reason = refusal.strerror if is_name else os.strerror(refusal.errno or 0)
        raise Refused(
            f"port {port} of {host}: {reason}; choose another by SCOREBOARD_PORT"
        ) from refusal
