"""Tests of the development CA."""

import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from chassis import clock
from deploy import certificates

UNITS = ("auth", "gateway")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificates.make(tmp_path, UNITS)
    return tmp_path


@pytest.mark.parametrize("unit", UNITS)
def test_a_certificate_is_verified_as_server_and_as_client(folder: Path, unit: str) -> None:
    trust = x509.load_pem_x509_certificate((folder / unit / "ca.crt").read_bytes())
    builder = verification.PolicyBuilder().store(verification.Store([trust]))

    chain = builder.build_server_verifier(x509.DNSName(unit)).verify(_certificate(folder, unit), [])
    client = builder.build_client_verifier().verify(_certificate(folder, unit), [])

    assert chain[-1] == trust
    assert client.chain[-1] == trust


@pytest.mark.parametrize("unit", UNITS)
def test_a_certificate_names_its_unit_by_uri_and_by_dns_name_only(folder: Path, unit: str) -> None:
    extensions = _certificate(folder, unit).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value

    assert list(names) == [
        x509.UniformResourceIdentifier(f"spiffe://scoreboard/{unit}"),
        x509.DNSName(unit),
    ]
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_a_unit_cannot_issue_certificates(folder: Path) -> None:
    extensions = _certificate(folder, "auth").extensions

    basic = extensions.get_extension_for_class(x509.BasicConstraints)

    assert basic.critical
    assert not basic.value.ca
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_two_units_complete_a_mutual_handshake_and_a_stranger_does_not(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    certificates.make(elsewhere, UNITS)

    assert _handshake(folder / "gateway", folder / "auth") == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        _handshake(elsewhere / "gateway", folder / "auth")


def test_keys_are_readable_by_their_owner_only(folder: Path) -> None:
    keys = list(folder.glob("*/tls.key"))

    assert len(keys) == len(UNITS) + 1
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    assert {key.parent.stat().st_mode & 0o777 for key in keys} == {0o700}


def test_making_them_again_keeps_every_file(folder: Path) -> None:
    before = _contents(folder)

    certificates.make(folder, UNITS)

    assert _contents(folder) == before


def test_a_new_unit_gets_its_certificate_from_the_kept_ca(folder: Path) -> None:
    before = _contents(folder)

    certificates.make(folder, [*UNITS, "scores"])

    assert before.items() <= _contents(folder).items()
    assert (folder / "scores" / "ca.crt").read_bytes() == before[folder / "ca" / "tls.crt"]


@pytest.mark.parametrize(("days_left", "kept"), [(31, True), (29, False)])
def test_a_certificate_is_made_again_in_its_last_thirty_days(
    folder: Path, days_left: int, kept: bool
) -> None:
    before = _contents(folder)

    with clock.ahead(timedelta(days=365 - days_left).total_seconds()):
        certificates.make(folder, UNITS)
    after = _contents(folder)

    assert (after[folder / "auth" / "tls.crt"] == before[folder / "auth" / "tls.crt"]) is kept
    assert after[folder / "ca" / "tls.crt"] == before[folder / "ca" / "tls.crt"]


@pytest.mark.parametrize("lost", ["tls.key", "tls.crt", "ca.crt"])
def test_a_lost_file_is_made_again_and_fits_the_others(folder: Path, lost: str) -> None:
    (folder / "auth" / lost).unlink()

    certificates.make(folder, UNITS)

    assert _handshake(folder / "gateway", folder / "auth") == "TLSv1.3"


def test_a_new_ca_renews_every_unit(folder: Path) -> None:
    (folder / "ca" / "tls.key").unlink()

    certificates.make(folder, UNITS)

    assert _handshake(folder / "gateway", folder / "auth") == "TLSv1.3"


def test_a_key_of_another_certificate_is_replaced(folder: Path) -> None:
    (folder / "auth" / "tls.key").write_bytes((folder / "gateway" / "tls.key").read_bytes())

    certificates.make(folder, UNITS)

    assert _handshake(folder / "gateway", folder / "auth") == "TLSv1.3"


def _certificate(folder: Path, unit: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / unit / "tls.crt").read_bytes())


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.glob("*/*")}


def _handshake(caller: Path, called: Path) -> str | None:
    """The protocol that the two agree on; raises ssl.SSLError when either refuses."""
    ends = []
    to_called, to_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
    for folder, purpose, incoming, outgoing in (
        (caller, ssl.Purpose.SERVER_AUTH, to_caller, to_called),
        (called, ssl.Purpose.CLIENT_AUTH, to_called, to_caller),
    ):
        context = ssl.create_default_context(purpose, cafile=str(folder / "ca.crt"))
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        context.verify_mode = ssl.CERT_REQUIRED
        is_server = folder == called
        ends.append(
            context.wrap_bio(
                incoming,
                outgoing,
                server_side=is_server,
                server_hostname=None if is_server else called.name,
            )
        )
    pending = ends
    for _ in range(10):
        pending = [end for end in pending if not _shaken(end)]
    assert not pending
    return ends[0].version()


def _shaken(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
