"""compose.yaml, read: what it gives each unit, and how podman runs one of its services."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1]
COMPOSE: Mapping[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
# Where the secrets are in every container.
MOUNTED = "/etc/scoreboard"


def preset() -> dict[str, str]:
    """What compose.env sets."""
    lines = (FOLDER / "compose.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def files(service: str) -> dict[str, str]:
    """The parts of the volume of secrets that a service is given: where, and which."""
    mounts = SERVICES[service]["volumes"]
    return {
        mount["target"]: mount["volume"]["subpath"]
        for mount in mounts
        if isinstance(mount, dict) and mount["source"] == "files"
    }


def options(service: str, *, secrets: Path, settings: Path) -> list[str]:
    """Of `podman run`: what compose.yaml says of a service of ours, but networks and restarts.

    `secrets` is the folder that the volume of secrets would be, `settings` the operator's file.
    """
    about = SERVICES[service]
    found = ["--read-only"] if about["read_only"] else []
    found += [f"--tmpfs={path}" for path in about["tmpfs"]]
    found += [f"--cap-drop={name}" for name in about["cap_drop"]]
    found += [f"--security-opt={name}" for name in about["security_opt"]]
    if "env_file" in about:
        found += [f"--env-file={FOLDER / 'compose.env'}", f"--env-file={settings}"]
    found += [f"--env={name}={value}" for name, value in about.get("environment", {}).items()]
    for target, part in files(service).items():
        found.append(f"--volume={secrets / part}:{target}:ro")
    if f"files:{MOUNTED}" in about["volumes"]:
        found.append(f"--volume={secrets}:{MOUNTED}")
    return found
