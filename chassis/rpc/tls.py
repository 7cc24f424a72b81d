"""Mutual TLS between the units: certificates from files, read again when they change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from prometheus_client import Counter, Gauge

from chassis.process import background, repeat
from chassis.settings import ProcessSettings
from chassis.telemetry import log

URI_PREFIX = "spiffe://scoreboard/"

expires = Gauge(
    "tls_certificate_expires_seconds",
    "Unix time at which the unit's own certificate, or the first of its trusted CAs, ends",
    ["certificate"],
)
reloads = Counter("tls_reloads_total", "Times that changed certificates were taken into use")


class Unfit(Exception):
    """These files cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """This unit's certificate chain, private key and the authorities it trusts, as PEM."""

    certificate: bytes
    key: bytes
    trust: bytes

    @classmethod
    def read(cls, folder: Path) -> "Files":
        """Reads tls.crt, tls.key and ca.crt. Raises Unfit."""
        try:
            return cls(
                certificate=(folder / "tls.crt").read_bytes(),
                key=(folder / "tls.key").read_bytes(),
                trust=(folder / "ca.crt").read_bytes(),
            )
        except OSError as problem:
            raise Unfit(f"{problem.filename}: {problem.strerror}") from None

    def ends(self) -> dict[str, datetime]:
        """When `own`, the unit's certificate, ends, and when `ca`, the first of those trusted.

        Raises Unfit where a file is no PEM, the key is another certificate's, or the
        certificate is not valid now.
        """
        own = _certificates("tls.crt", self.certificate)[0]
        try:
            key = serialization.load_pem_private_key(self.key, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Unfit("tls.key: is no private key in PEM without a password") from None
        if key.public_key() != own.public_key():
            raise Unfit("tls.key: is not the key of the certificate in tls.crt")
        # The machine's clock, as in the handshake, which no offset moves.
        if not own.not_valid_before_utc <= datetime.now(UTC) < own.not_valid_after_utc:
            raise Unfit(
                f"tls.crt: is valid from {own.not_valid_before_utc} to {own.not_valid_after_utc}"
            )
        trusted = _certificates("ca.crt", self.trust)
        return {
            "own": own.not_valid_after_utc,
            "ca": min(certificate.not_valid_after_utc for certificate in trusted),
        }


class Identity:
    """What this unit shows its peers and whom it trusts: `files`, as its folder has them.

    A set of files that does not fit, such as one that is half written, is kept out: the
    last one that did stays in use.
    """

    def __init__(self, folder: Path, *, drain_s: float = 30.0) -> None:
        """Reads the folder. `drain_s`: for calls in flight with files that were replaced.

        Raises Unfit.
        """
        self.drain_s = drain_s
        self._folder = folder
        self._changed = asyncio.Event()
        self._refused = ("", 0)  # what is wrong with the folder, and how often it was seen
        self._take(Files.read(folder))

    def check(self) -> None:
        """Takes what the folder has now, if it fits."""
        try:
            found = Files.read(self._folder)
            if found != self.files:
                self._take(found)
                reloads.inc()
                self._changed.set()
                self._changed = asyncio.Event()
        except Unfit as unfit:
            problem, times = self._refused
            self._refused = (str(unfit), times + 1 if problem == str(unfit) else 1)
            # What is seen once may be half written; what stays is said once.
            if self._refused[1] == 2:
                log.error("certificates_refused", problem=str(unfit), folder=str(self._folder))
        else:
            self._refused = ("", 0)

    async def until_other_than(self, files: Files) -> None:
        """Returns when `files` are not those in use."""
        while self.files is files:
            await self._changed.wait()

    def for_server(self) -> grpc.ServerCredentials:
        """Credentials of a server that refuses callers without a trusted certificate.

        Each handshake is made with the files in use then.
        """
        shown = self.files

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            if shown is self.files:
                return None  # as at the last handshake
            shown = self.files
            return _server_configuration(shown)

        return grpc.dynamic_ssl_server_credentials(
            _server_configuration(shown),
            fetch,  # type: ignore[arg-type]  The stubs lack the None of the documentation.
            require_client_authentication=True,
        )

    def _take(self, found: Files) -> None:
        ends = found.ends()
        self.files = found
        for certificate, at in ends.items():
            expires.labels(certificate).set(at.timestamp())
        log.info(
            "certificates_read",
            stream="security",
            folder=str(self._folder),
            **{f"{certificate}_ends": at.isoformat() for certificate, at in ends.items()},
        )


@asynccontextmanager
async def open_identity(settings: ProcessSettings) -> AsyncIterator[Identity]:
    """The process's identity, up to date with `tls_dir` within the context. Raises Unfit."""
    identity = Identity(settings.tls_dir, drain_s=settings.drain_s)

    async def check() -> None:
        identity.check()

    async with background(repeat(check, pause_s=settings.tls_check_s)):
        yield identity


def for_client(files: Files) -> grpc.ChannelCredentials:
    """Credentials that show this unit's certificate to the peer; they do not change."""
    return grpc.ssl_channel_credentials(files.trust, files.key, files.certificate)


def caller(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The unit that calls, by its certificate's URI; empty for none of ours."""
    # A common name would come under another key: where there is no such name there is no unit.
    if context.peer_identity_key() != "x509_subject_alternative_name":
        return ""
    for name in context.peer_identities() or ():
        text = name.decode("ascii", "replace")
        if text.startswith(URI_PREFIX):
            return text.removeprefix(URI_PREFIX)
    return ""


def _server_configuration(files: Files) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(files.key, files.certificate)], root_certificates=files.trust
    )


def _certificates(name: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise Unfit(f"{name}: is no certificate in PEM") from None
