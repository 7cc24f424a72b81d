"""The development CA and the units' certificates; in production an issuer makes these files."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chassis import clock

_RENEWED_BEFORE = timedelta(days=30)
_CA_DAYS = 3650
# Clocks of two machines differ a little.
_BACKDATED = timedelta(minutes=5)


def make(directory: Path, units: Sequence[str], *, days: int = 365) -> None:
    """Makes what is missing of `directory`/ca and `directory`/<unit>/{tls.crt,tls.key,ca.crt}.

    All PEM. A unit's certificate serves both ends of a connection and carries the URI
    spiffe://scoreboard/<unit> and the DNS name <unit>. What ends within 30 days, does
    not match its key, has another CA or cannot be read as PEM is made again. Raises OSError.
    """
    authority = directory / "ca"
    ca = _kept(authority)
    if ca is None:
        ca = _issue("Live Scoreboard development CA", days=_CA_DAYS)
        _write(authority, ca)
    for unit in units:
        folder = directory / unit
        kept = _kept(folder)
        if kept is None or not _issued_by(ca[0], kept[0]):
            _write(folder, _issue(unit, days=days, ca=ca))
        _replace(folder / "ca.crt", ca[0].public_bytes(serialization.Encoding.PEM), mode=0o644)


_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _issue(name: str, *, days: int, ca: _Pair | None = None) -> _Pair:
    """A unit's certificate by `ca` with its key, or a CA's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing_key = (ca[0].subject, ca[1]) if ca else (subject, key)
    now = clock.now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(_usage(is_ca=ca is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
    )
    if ca is None:
        basic = x509.BasicConstraints(ca=True, path_length=0)
    else:
        basic = x509.BasicConstraints(ca=False, path_length=None)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        identity = [
            x509.UniformResourceIdentifier(f"spiffe://scoreboard/{name}"),
            x509.DNSName(name),
        ]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(identity), critical=False)
    builder = builder.add_extension(basic, critical=True)
    return builder.sign(signing_key, hashes.SHA256()), key


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


def _kept(folder: Path) -> _Pair | None:
    """The certificate and key in a folder, unless they are missing, unfit or near their end."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / "tls.key").read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    if key.public_key() != certificate.public_key():
        return None
    if certificate.not_valid_after_utc - clock.now() <= _RENEWED_BEFORE:
        return None
    return certificate, key


def _issued_by(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError):
        return False
    return True


def _write(folder: Path, pair: _Pair) -> None:
    certificate, key = pair
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _replace(folder / "tls.key", pem, mode=0o600)
    _replace(folder / "tls.crt", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    """Writes the file whole or not at all, never readable for more than `mode` says."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=mode, exist_ok=False)
    unfinished.write_bytes(content)
    unfinished.rename(path)
