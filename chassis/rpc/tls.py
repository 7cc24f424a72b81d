"""Mutual TLS between the units: certificates from files, identity from the URI SAN."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

URI_PREFIX = "spiffe://scoreboard/"


@dataclass(frozen=True)
class Identity:
    """This unit's certificate chain, private key and the authorities it trusts, as PEM."""

    certificate: bytes
    key: bytes
    trust: bytes

    @classmethod
    def read(cls, folder: Path) -> "Identity":
        """Reads tls.crt, tls.key and ca.crt. Raises OSError."""
        names = ("tls.crt", "tls.key", "ca.crt")
        return cls(*((folder / name).read_bytes() for name in names))

    def for_server(self) -> grpc.ServerCredentials:
        """Credentials of a server that refuses callers without a trusted certificate."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], self.trust, require_client_auth=True
        )

    def for_client(self) -> grpc.ChannelCredentials:
        """Credentials that show this unit's certificate to the peer."""
        return grpc.ssl_channel_credentials(self.trust, self.key, self.certificate)


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
