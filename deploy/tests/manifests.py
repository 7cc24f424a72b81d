"""The manifests of `deploy/k8s` as Kubernetes would get them."""

import copy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[1] / "k8s"
OVERLAYS = ("dev", "small", "production", "verify")

# Of the kubectl that the development lock brings.
_KUBECTL = Path(sys.executable).with_name("kubectl")

Manifest = dict[str, Any]


def render(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder. Raises CalledProcessError."""
    made = subprocess.run(
        [_KUBECTL, "kustomize", folder], check=True, capture_output=True, text=True
    )
    return made.stdout


@cache
def text(path: str) -> str:
    """What `kubectl kustomize` makes of a folder of `deploy/k8s`. Raises CalledProcessError."""
    return render(K8S / path)


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
