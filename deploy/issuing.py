"""Certificates and their keys, as a CA issues them and as PEM has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chassis import clock
from deploy import secrets

_UNIT_LASTS, _CA_LASTS = timedelta(days=365), timedelta(days=3650)
# Clocks of two machines differ a little.
_BACKDATED = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def read(cls, files: Mapping[str, bytes], name: str = "tls") -> "Pair | None":
        """Of <name>.crt and <name>.key; None where one is missing, unreadable or another's."""
        try:
            certificate = x509.load_pem_x509_certificate(files[f"{name}.crt"])
            key = serialization.load_pem_private_key(files[f"{name}.key"], password=None)
        except (KeyError, ValueError):
            return None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            return None
        if key.public_key() != certificate.public_key():
            return None
        return cls(certificate=certificate, key=key)

    def as_files(self, name: str = "tls") -> dict[str, bytes]:
        """The contents of <name>.key and <name>.crt."""
        return {f"{name}.key": secrets.pem(self.key).encode(), f"{name}.crt": pem(self.certificate)}

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether this CA signed the certificate."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, InvalidSignature):
            return False
        return True


def new_ca() -> Pair:
    """A CA for ten years, which issues certificates of units and none of other CAs."""
    # Two CAs that are trusted at a time should differ by name, for people.
    return _issue(f"Live Scoreboard CA of {clock.now():%Y-%m-%dT%H:%M:%SZ}")


def new_certificate(unit: str, ca: Pair) -> Pair:
    """A unit's certificate for a year, or as long as the CA's."""
    return _issue(unit, ca=ca)


def pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _issue(name: str, *, ca: Pair | None = None) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing_key = (ca.certificate.subject, ca.key) if ca else (subject, key)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    now = clock.now()
    ends = min(now + _UNIT_LASTS, ca.certificate.not_valid_after_utc) if ca else now + _CA_LASTS
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(ends)
        .add_extension(_usage(is_ca=ca is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_id, critical=False)
    )
    if ca is None:
        basic = x509.BasicConstraints(ca=True, path_length=0)
    else:
        basic = x509.BasicConstraints(ca=False, path_length=None)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        uri = x509.UniformResourceIdentifier(f"spiffe://scoreboard/{name}")
        identity = x509.SubjectAlternativeName([uri, x509.DNSName(name)])
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        builder = builder.add_extension(identity, critical=False)
    builder = builder.add_extension(basic, critical=True)
    return Pair(certificate=builder.sign(signing_key, hashes.SHA256()), key=key)


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
