"""Tests of what `make run` is given, and of what it keeps: secrets and ports."""

import socket
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from chassis.keyring import Keyring
from chassis.settings import SettingsError, load
from deploy import secrets
from local import ports
from local.settings import Settings


def test_nothing_has_to_be_set() -> None:
    settings = load(Settings, {})

    assert settings.url == "http://127.0.0.1:8080"
    assert (settings.data_dir, settings.players) == (Path(".data"), 50)


def test_all_that_does_not_fit_is_reported_at_once() -> None:
    given = {"SCOREBOARD_PORT": "0", "SCOREBOARD_PLAYERS": "many"}

    with pytest.raises(SettingsError) as refused:
        load(Settings, given)

    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == list(given)


def test_a_port_open_to_all_is_reached_by_loopback() -> None:
    assert load(Settings, {"SCOREBOARD_HOST": "0.0.0.0"}).url == "http://127.0.0.1:8080"
    assert load(Settings, {"SCOREBOARD_HOST": "::1"}).url == "http://[::1]:8080"


def test_secrets_are_what_the_services_read_and_only_their_owner_opens(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"

    secrets.make(folder, passwords=("redis_password",))

    key = load_pem_private_key((folder / "signing_key").read_bytes(), password=None)
    assert isinstance(key, RSAPrivateKey)
    assert key.key_size == 3072
    rings = {name: (folder / name).read_text() for name in secrets.KEYRINGS}
    assert len({Keyring(text)[1] for text in rings.values()}) == len(rings)
    assert len((folder / "redis_password").read_text().strip()) >= 20
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_secrets_are_made_once_and_what_is_missing_is_made_later(tmp_path: Path) -> None:
    secrets.make(tmp_path, passwords=("one",))
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    (tmp_path / "pepper").unlink()

    secrets.make(tmp_path, passwords=("one", "two"))

    after = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"pepper", "two"}


def test_ports_stay_the_same_until_another_takes_one(tmp_path: Path) -> None:
    first = ports.keep(tmp_path / "ports.json", ["one", "two"])
    second = ports.keep(tmp_path / "ports.json", ["one", "two", "three"])
    with socket.create_server(("127.0.0.1", first["one"])):
        third = ports.keep(tmp_path / "ports.json", ["one", "two", "three"])

    assert {**second, **first} == second
    assert len(set(second.values())) == 3
    assert [name for name in third if third[name] != second[name]] == ["one"]
