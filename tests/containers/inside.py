"""What a process in a container of ours can do and what is there, seen from inside."""

import json
from collections.abc import Sequence
from typing import Any

from tests.containers.machine import UID, Podman

# What no image needs, and where nothing may be written.
_PROGRAMS = ("gcc", "cc", "clang", "make", "pip", "pip3", "curl")
_CLOSED = ("/app/x", "/venv/x", "/etc/x", "/etc/scoreboard/tls/x")
# Printed inside a container: given the above and the modules to look for.
_LOOK = r"""
import importlib.util, json, os, shutil, sys

def found(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False

def writable(path):
    try:
        open(path, "w")
    except OSError:
        return False
    return True

closed, programs, modules = map(json.loads, sys.argv[1:])
lines = open("/proc/1/status").read().splitlines()
process = dict(line.split(":\t") for line in lines if ":\t" in line)
components = json.load(open("/venv/sbom.cdx.json"))["components"]
print(json.dumps({
    "ids": process["Uid"].split() + process["Gid"].split(),
    "capabilities": int(process["CapEff"], 16) | int(process["CapBnd"], 16),
    "new_privileges": process["NoNewPrivs"] == "0",
    "any_system_call": process["Seccomp"] != "2",
    "read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
    "writable": [path for path in closed if writable(path)],
    "tmp": writable("/tmp/x"),
    "programs": [program for program in programs if shutil.which(program)],
    "modules": [module for module in modules if found(module)],
    "sbom": {each["name"]: each["version"] for each in components},
}))
"""
CONFINED: dict[str, Any] = {
    "ids": [str(UID)] * 8,
    "capabilities": 0,
    "new_privileges": False,
    "any_system_call": False,
    "read_only": True,
    "writable": [],
    "tmp": True,
    "programs": [],
    "modules": [],
}


def look(podman: Podman, name: str, *, modules: Sequence[str]) -> tuple[Any, dict[str, str]]:
    """What the first process of a container can do, CONFINED where it is as it should be, and the
    packages of the list in it. `modules` are those that should not be there."""
    given = map(json.dumps, (_CLOSED, _PROGRAMS, modules))
    seen = json.loads(podman("exec", name, "python", "-c", _LOOK, *given))
    return seen, seen.pop("sbom")
