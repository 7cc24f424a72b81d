"""Tests of the development CA."""

import argparse
import shutil
import ssl
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from chassis import clock
from deploy import certificate_commands, certificates
from deploy.__main__ import main

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


def run(folder: Path, *arguments: str) -> str:
    parser = argparse.ArgumentParser()
    certificate_commands.add_to(parser)
    given = parser.parse_args(["--directory", str(folder), *arguments])
    return "\n".join(certificate_commands.run(given, UNITS))


def test_the_steps_replace_the_ca_and_all_trust_all_in_between(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    states = [_copied(folder, tmp_path_factory)]
    for step in certificates.STEPS:
        run(folder, step, "--force")
        states.append(_copied(folder, tmp_path_factory))

    # Units read late: at every step each end may have the files of before or after it.
    for before, after in pairwise(states):
        for caller, called in ((before, after), (after, before), (after, after)):
            assert _handshake(caller / "gateway", called / "auth") == "TLSv1.3"
    first, *_, last = states
    assert (last / "ca" / "tls.crt").read_bytes() != (first / "ca" / "tls.crt").read_bytes()
    for caller, called in ((first, last), (last, first)):
        with pytest.raises(ssl.SSLError):
            _handshake(caller / "gateway", called / "auth")


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_step_out_of_turn_is_refused_and_changes_nothing(folder: Path, taken: int) -> None:
    turn, *_ = list(certificates.STEPS)[taken:]
    for step in list(certificates.STEPS)[:taken]:
        run(folder, step, "--force")
    before = _contents(folder)

    for step in set(certificates.STEPS) - {turn}:
        with pytest.raises(certificates.Refused, match=f"{step}: it is the turn of {turn}"):
            run(folder, step, "--force")

    assert _contents(folder) == before
    assert f"the next step is {turn}" in run(folder, "status")


@pytest.mark.parametrize("step", ["rotate-ca-issue", "rotate-ca-end"])
def test_a_step_waits_until_units_have_read_the_last_one_unless_forced(
    folder: Path, step: str
) -> None:
    run(folder, "rotate-ca-begin")
    if step == "rotate-ca-end":
        run(folder, "rotate-ca-issue", "--force")
    before = _contents(folder)

    with pytest.raises(certificates.Refused, match=f"{step}: units may not have read"):
        run(folder, step)
    with clock.ahead(61), pytest.raises(certificates.Refused, match="wait"):
        run(folder, step, "--read-within-s", "65")
    assert _contents(folder) == before
    with clock.ahead(301):
        run(folder, step)
    assert _contents(folder) != before


def test_a_step_is_refused_while_a_unit_lacks_the_last_one(folder: Path) -> None:
    left_behind = (folder / "auth" / "ca.crt").read_bytes()
    run(folder, "rotate-ca-begin")
    (folder / "auth" / "ca.crt").write_bytes(left_behind)

    with pytest.raises(certificates.Refused, match="rotate-ca-issue: auth have no valid files"):
        run(folder, "rotate-ca-issue", "--force")
    with clock.ahead(1000):
        run(folder, "renew")
        with pytest.raises(certificates.Refused, match="may not have read"):
            run(folder, "rotate-ca-issue")  # auth was given it just now
    assert (folder / "auth" / "ca.crt").read_bytes() != left_behind


@pytest.mark.parametrize("taken", [1, 2])
def test_renewal_in_the_middle_keeps_the_phase_and_trusts_both_cas(
    folder: Path, taken: int
) -> None:
    for step in list(certificates.STEPS)[:taken]:
        run(folder, step, "--force")
    before = _contents(folder)
    run(folder, "renew")
    assert _contents(folder) == before, "nothing to renew"

    (folder / "auth" / "tls.key").unlink()
    run(folder, "renew")

    trust = (folder / "auth" / "ca.crt").read_bytes()
    assert len(x509.load_pem_x509_certificates(trust)) == 2
    assert trust == before[folder / "auth" / "ca.crt"]
    issuer = x509.load_pem_x509_certificate((folder / "ca" / "tls.crt").read_bytes())
    _certificate(folder, "auth").verify_directly_issued_by(issuer)


def test_no_certificate_outlasts_its_ca_and_a_ca_that_has_ended_is_replaced(folder: Path) -> None:
    before = _contents(folder)
    with clock.ahead(timedelta(days=3600).total_seconds()):
        run(folder, "renew")
        ca = x509.load_pem_x509_certificate((folder / "ca" / "tls.crt").read_bytes())
        assert _contents(folder)[folder / "ca" / "tls.crt"] == before[folder / "ca" / "tls.crt"]
        assert _certificate(folder, "auth").not_valid_after_utc == ca.not_valid_after_utc
    with clock.ahead(timedelta(days=3651).total_seconds()):
        run(folder, "renew")
        new = x509.load_pem_x509_certificate((folder / "ca" / "tls.crt").read_bytes())
        _certificate(folder, "auth").verify_directly_issued_by(new)
        assert new.not_valid_after_utc > clock.now()


def test_status_says_when_each_certificate_ends_and_writes_nothing(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run(folder, "rotate-ca-begin")
    lines = run(folder, "status").splitlines()

    assert f"auth: ends {_certificate(folder, 'auth').not_valid_after_utc:%FT%TZ}" in lines
    assert {line.partition(": ends ")[0] for line in lines[2:]} == {"ca", "new ca", *UNITS}
    empty = tmp_path_factory.mktemp("empty")
    assert run(empty, "status") == "there is no CA that can be read"
    assert list(empty.iterdir()) == []


def test_the_command_line_prints_and_refuses(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["deploy", "certificates", "--directory", str(folder)]

    monkeypatch.setattr(sys, "argv", [*command, "status"])
    main()
    assert "the next step is rotate-ca-begin" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", [*command, "rotate-ca-end"])
    with pytest.raises(SystemExit, match="rotate-ca-end: it is the turn of rotate-ca-begin"):
        main()


def _copied(folder: Path, elsewhere: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(folder, elsewhere.mktemp("state") / "tls"))


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
