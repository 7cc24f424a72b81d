"""Ports of loopback that stay the same from one run to the next."""

import json
import os
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from deploy import secrets

# Below those that systems give to outgoing connections, which could take the port of a
# process while it is being started again.
_RANGE = range(20_000, 30_000)


def keep(path: Path, names: Sequence[str]) -> dict[str, int]:
    """A free port for each name: the one kept in `path`, or another where that is taken now.

    Raises OSError.
    """
    try:
        kept = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        kept = {}
    chosen: dict[str, int] = {}
    candidates = iter(random.sample(_RANGE, len(_RANGE)))
    for name in names:
        port = kept.get(name)
        while port not in _RANGE or port in chosen.values() or problem(port):
            port = next(candidates)
        chosen[name] = port
    secrets.write(path, json.dumps(chosen, indent=2) + "\n")
    return chosen


def kept(path: Path) -> dict[str, int]:
    """The ports that `keep` wrote last. Raises OSError."""
    ports: dict[str, int] = json.loads(path.read_text())
    return ports


def problem(port: int, host: str = "127.0.0.1") -> str:
    """Why a process of ours could not listen there now; empty where it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except socket.gaierror as refusal:
        return str(refusal.strerror)
    except OSError as refusal:
        # Not its `strerror`, to which Python adds the address.
        return os.strerror(refusal.errno or 0)
    return ""
