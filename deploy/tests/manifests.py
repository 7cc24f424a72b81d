"""The manifests of `deploy/k8s` as Kubernetes would get them."""

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


@cache
def text(path: str) -> str:
    """What `kubectl kustomize` makes of a folder of `deploy/k8s`. Raises CalledProcessError."""
    made = subprocess.run(
        [_KUBECTL, "kustomize", K8S / path], check=True, capture_output=True, text=True
    )
    return made.stdout


def rendered(path: str) -> list[Manifest]:
    """The manifests of a folder of `deploy/k8s`, the caller's own copy."""
    return [manifest for manifest in yaml.safe_load_all(text(path)) if manifest]


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    """Those of the kinds, by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] in kinds}
