"""Ports of loopback that stay the same from one run to the next."""

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from local import secrets

# Below those that systems give to outgoing connections, which could take the port of a
# process while it is being started again.
_RANGE = range(20_000, 30_000)


def keep(path: Path, names: Sequence[str]) -> dict[str, int]:
    """A free port for each name: the one kept in `path`, or another where that is taken now.

    Raises OSError.
    """
    kept = _read(path)
    chosen: dict[str, int] = {}
    candidates = iter(random.sample(_RANGE, len(_RANGE)))
    for name in names:
        port = kept.get(name)
        while port is None or port in chosen.values() or not is_free(port):
            port = next(candidates)
        chosen[name] = port
    secrets.write(path, json.dumps(chosen, indent=2) + "\n")
    return chosen


def is_free(port: int) -> bool:
    """Whether a process of ours could listen there now."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _read(path: Path) -> dict[str, int]:
    try:
        kept = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: port for name, port in kept.items() if port in _RANGE}
