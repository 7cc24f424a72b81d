"""The folder of secrets, kept as Secrets of a Kubernetes namespace.

For clusters whose operator brings no other source of secrets. Each Secret has one reader:
`tls-<unit>`, `<unit>-keys`, `db-<unit>`, `redis-<unit>`; `postgres-owner`, `redis-users`; and
`tls-ca`, which no pod mounts.
"""

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp

from deploy import certificates, databases, files, redis_users, units

# What every container with a service account finds; the API is Kubernetes' own, v1.
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Refused(Exception):
    """The API server did not take a request."""


def paths() -> Mapping[str, tuple[Path, ...]]:
    """By the name of a Secret, where its files are in the folder of `files.make`.

    Not all are there of those of certificates. The CA stands behind the units, as
    `certificates.renewed` has it.
    """
    folders: dict[str, tuple[Path, tuple[str, ...]]] = {
        f"tls-{name}": (Path("tls", name), certificates.FILES)
        for name in (*units.UNITS, certificates.CA)
    }
    for unit in units.UNITS:
        if units.keys(unit):
            folders[f"{unit}-keys"] = Path("keys", unit), units.keys(unit)
    for unit in databases.UNITS:
        folders[f"db-{unit}"] = Path("stores", unit), ("database_url",)
    for unit in redis_users.UNITS:
        folders[f"redis-{unit}"] = Path("stores", unit), ("redis_url",)
    folders["postgres-owner"] = Path("owner"), ("password", "database_url")
    folders["redis-users"] = Path("redis"), ("users.acl",)
    return {name: tuple(folder / file for file in held) for name, (folder, held) in folders.items()}


async def make(
    api: "Api", *, postgres: str, redis: str, rotate_ca: str = "", read_within: timedelta
) -> list[str]:
    """Makes the Secrets that are missing, and those again whose files `files.make` changed.

    Returns their names. `postgres` and `redis` are `host:port`; `rotate_ca` names a step of
    `certificates.STEPS` to be taken. Raises Refused, certificates.Refused, OSError.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        held = {secret: await api.get(secret) for secret in paths()}
        for secret, found in held.items():
            for path in paths()[secret]:
                if found is not None and path.name in found.files:
                    (root / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    (root / path).write_bytes(found.files[path.name])
        files.make(root, postgres=postgres, redis=redis)
        if rotate_ca:
            certificates.take(root / "tls", units.UNITS, rotate_ca, read_within=read_within)
        changed = []
        for secret, found in held.items():
            there = [root / path for path in paths()[secret] if (root / path).exists()]
            wanted = {path.name: path.read_bytes() for path in there}
            if found is None:
                await api.create(secret, wanted)
                changed.append(secret)
                continue
            ours = {path.name for path in paths()[secret]}
            wanted |= {name: text for name, text in found.files.items() if name not in ours}
            if wanted != found.files:
                await api.update(found, wanted)
                changed.append(secret)
        return changed


@dataclass(frozen=True)
class Secret:
    """A Secret as the API server holds it; its version refuses updates of an older one."""

    name: str
    version: str
    kind: str
    files: Mapping[str, bytes]


class Api:
    """The Secrets of one namespace, by the API server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @classmethod
    def of_this_pod(cls, namespace: str) -> "Api":
        """With the service account of the container this runs in. Raises Refused, OSError."""
        host, port = map(os.environ.get, ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"))
        if not host or not port:
            raise Refused("KUBERNETES_SERVICE_HOST and _PORT are not set: this is no pod")
        token = (_ACCOUNT / "token").read_text()
        trust = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        address = f"[{host}]" if ":" in host else host
        session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(ssl=trust),
            timeout=_TIMEOUT,
        )
        return cls(session, f"https://{address}:{port}/api/v1/namespaces/{namespace}/secrets")

    async def __aenter__(self) -> "Api":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, name: str) -> Secret | None:
        """The Secret; None where there is none. Raises Refused."""
        found = await self._request("GET", f"{self._url}/{name}", missing=True)
        if found is None:
            return None
        data: dict[str, str] = found.get("data") or {}
        return Secret(
            name=name,
            version=found["metadata"]["resourceVersion"],
            kind=found["type"],
            files={file: base64.b64decode(text) for file, text in data.items()},
        )

    async def create(self, name: str, files: Mapping[str, bytes]) -> None:
        """Raises Refused, also where it is there by now."""
        kind = "kubernetes.io/tls" if name.startswith("tls-") else "Opaque"
        await self._request("POST", self._url, json=_manifest(name, kind, files))

    async def update(self, old: Secret, files: Mapping[str, bytes]) -> None:
        """Raises Refused, also where it has been changed since `old` was read."""
        manifest = _manifest(old.name, old.kind, files)
        manifest["metadata"]["resourceVersion"] = old.version
        await self._request("PUT", f"{self._url}/{old.name}", json=manifest)

    async def _request(
        self, method: str, url: str, *, json: Any = None, missing: bool = False
    ) -> Any:
        try:
            async with self._session.request(method, url, json=json) as response:
                if response.status == 404 and missing:
                    return None
                if not response.ok:
                    reason = (await response.text())[:300]
                    raise Refused(f"{method} {url}: {response.status} {reason}")
                return await response.json()
        except aiohttp.ClientError as error:
            raise Refused(f"{method} {url}: {error}") from error


def _manifest(name: str, kind: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "scoreboard"}},
        "type": kind,
        "data": {file: base64.b64encode(text).decode() for file, text in files.items()},
    }
