"""The manifests of `deploy/k8s` as Kubernetes would get them."""

import copy
import hashlib
import os
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[1] / "k8s"

# Of the kubectl that the development lock brings.
KUBECTL = Path(sys.executable).with_name("kubectl")

# What was rendered of the files as they are, for all workers of a session and for the next one.
_RENDERED = K8S.parents[1] / ".pytest_cache" / "manifests"
_KEPT_S = 86400

Manifest = dict[str, Any]


def render(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder. Raises CalledProcessError."""
    made = subprocess.run(
        [KUBECTL, "kustomize", folder], check=True, capture_output=True, text=True
    )
    return made.stdout


@cache
def text(path: str) -> str:
    """As `render`, of a folder of `deploy/k8s`: once for as long as no file there changes."""
    kept = _kept() / f"{path.replace('/', '-')}.yaml"
    if not kept.exists():
        # Another worker may read it: it is there whole or not at all.
        own = kept.with_suffix(f".{os.getpid()}")
        own.write_text(render(K8S / path))
        own.replace(kept)
    return kept.read_text()


@cache
def _kept() -> Path:
    """The folder for renderings of the files as they are; a day later those of others go."""
    state = hashlib.sha256(str(KUBECTL.stat().st_mtime_ns).encode())
    for file in sorted(each for each in K8S.rglob("*") if each.is_file()):
        state.update(f"{file.relative_to(K8S)} {file.stat().st_size} ".encode())
        state.update(file.read_bytes())
    folder = _RENDERED / state.hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    for other in _RENDERED.iterdir():
        if other != folder and other.stat().st_mtime < time.time() - _KEPT_S:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def parsed(text: str) -> list[Manifest]:
    """The manifests of a text."""
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]


def rendered(path: str) -> list[Manifest]:
    """The manifests of a folder of `deploy/k8s`, the caller's own copy."""
    return copy.deepcopy(_rendered(path))


@cache
def _rendered(path: str) -> list[Manifest]:
    return parsed(text(path))


def folders(kind: str) -> list[str]:
    """The kustomizations of `overlays` or `tests`, by their paths under `deploy/k8s`."""
    found = K8S.glob(f"{kind}/*/kustomization.yaml")
    return sorted(path.parent.relative_to(K8S).as_posix() for path in found)


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    """Those of the kinds, by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] in kinds}
