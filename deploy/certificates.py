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
from deploy import secrets

_UNIT_LASTS, _CA_LASTS = timedelta(days=365), timedelta(days=3650)
_RENEWED_BEFORE = timedelta(days=30)
# Clocks of two machines differ a little.
_BACKDATED = timedelta(minutes=5)

_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def make(directory: Path, units: Sequence[str]) -> None:
    """Makes what is missing of `directory`/ca and `directory`/<unit>/{tls.crt,tls.key,ca.crt}.

    All PEM. A unit's certificate serves both ends of a connection and carries the URI
    spiffe://scoreboard/<unit> and the DNS name <unit>. What ends within 30 days, does
    not match its key, has another CA or cannot be read as PEM is made again. Raises OSError.
    """
    ca = _kept(directory / "ca")
    if ca is None:
        ca = _issue("Live Scoreboard development CA")
        _write(directory / "ca", ca)
    for unit in units:
        if _kept(directory / unit, ca=ca) is None:
            _write(directory / unit, _issue(unit, ca=ca))
        secrets.write(directory / unit / "ca.crt", _pem(ca[0]))


def _issue(name: str, *, ca: _Pair | None = None) -> _Pair:
    """A unit's certificate by `ca` with its key, or a CA's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing_key = (ca[0].subject, ca[1]) if ca else (subject, key)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    now = clock.now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + (_UNIT_LASTS if ca else _CA_LASTS))
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


def _kept(folder: Path, *, ca: _Pair | None = None) -> _Pair | None:
    """The certificate and key in a folder, unless missing, unfit, near their end or not by `ca`."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / "tls.key").read_bytes(), password=None)
        if ca:
            certificate.verify_directly_issued_by(ca[0])
    except (FileNotFoundError, ValueError, InvalidSignature):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    fits = key.public_key() == certificate.public_key()
    lasts = certificate.not_valid_after_utc - clock.now() > _RENEWED_BEFORE
    return (certificate, key) if fits and lasts else None


def _write(folder: Path, pair: _Pair) -> None:
    certificate, key = pair
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets.write(folder / "tls.key", secrets.pem(key))
    secrets.write(folder / "tls.crt", _pem(certificate))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
