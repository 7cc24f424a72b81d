"""Keys and passwords: made once, kept in files that only their owner reads."""

import base64
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

KEYRINGS = (
    "pepper refresh_keys sealing_keys signing_keys journal_keys cursor_keys seal_keys"
    " idempotency_keys"
).split()
# All keys that units read, by the names of their files.
KEYS = ("signing_key", *KEYRINGS)


def make(folder: Path, *, passwords: tuple[str, ...]) -> None:
    """Makes what is missing of `folder`: KEYS and `passwords`, a file each.

    What is there stays as it is. Raises OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    makers = dict.fromkeys(KEYS, key) | dict.fromkeys(passwords, lambda name: password())
    for name, new in makers.items():
        if not (folder / name).exists():
            write(folder / name, f"{new(name)}\n")


def key(name: str) -> str:
    """A new one of KEYS: a private key in PEM or a keyring of one key."""
    return _signing_key() if name == "signing_key" else _keyring()


def password() -> str:
    """A password that needs no quoting anywhere."""
    return secrets.token_urlsafe(18)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """The key as PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def write(path: Path, text: str) -> None:
    """Writes the file whole or not at all, never readable by others. Raises OSError."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600, exist_ok=False)
    unfinished.write_text(text)
    unfinished.replace(path)


def _signing_key() -> str:
    return pem(rsa.generate_private_key(public_exponent=65537, key_size=3072))


def _keyring() -> str:
    return f"1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip('=')}"
