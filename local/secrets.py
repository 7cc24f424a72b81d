"""Development secrets: made once, kept in files that only their owner reads."""

import base64
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

KEYRINGS = (
    "pepper",
    "refresh_keys",
    "sealing_keys",
    "signing_keys",
    "journal_keys",
    "cursor_keys",
    "seal_keys",
    "idempotency_keys",
)


def make(folder: Path, *, passwords: tuple[str, ...]) -> None:
    """Makes what is missing of `folder`: signing_key, the keyrings and `passwords`, a file each.

    What is there stays as it is. Raises OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _keep(folder / "signing_key", _rsa_key)
    for name in KEYRINGS:
        _keep(folder / name, _keyring)
    for name in passwords:
        _keep(folder / name, password)


def password() -> str:
    """A password that needs no quoting anywhere."""
    return secrets.token_urlsafe(18)


def write(path: Path, text: str) -> None:
    """Writes the file whole or not at all, never readable by others. Raises OSError."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600, exist_ok=False)
    unfinished.write_text(text)
    unfinished.replace(path)


def _keep(path: Path, new: Callable[[], str]) -> None:
    if not path.exists():
        write(path, f"{new()}\n")


def _rsa_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _keyring() -> str:
    return f"1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip('=')}"
