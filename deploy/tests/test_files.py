"""The folder of all secrets: what is in it, for whom, and what stays when it is made again."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chassis.settings import load
from deploy import databases, files
from deploy.units import SETTINGS, UNITS, configuration, keys, stores, targets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("secrets")
    files.make(made, postgres="db.example:5432", redis="cache.example:6379")
    return made


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_reads_its_settings_from_its_own_parts(unit: str, folder: Path) -> None:
    given = {"TLS_DIR": str(folder / "tls" / unit), "ISSUER": "i", "AUDIENCE": "a"}
    given |= {f"{key.upper()}_FILE": str(folder / "keys" / unit / key) for key in keys(unit)}
    given |= {f"{each.upper()}_FILE": str(folder / "stores" / unit / each) for each in stores(unit)}
    given |= {f"{other.upper()}_TARGET": "127.0.0.1:1" for other in targets(unit)}

    settings = load(SETTINGS[unit], given)

    for store, address in {"database_url": "db.example", "redis_url": "cache.example"}.items():
        if store in stores(unit):
            url = getattr(settings, store)
            assert f"//{unit}:" in url
            assert f"@{address}:" in url
    # What is left has defaults or is an operator's: it needs no secret.
    assert configuration(unit).isdisjoint(
        name.removesuffix("_FILE") for name in given if "_" in name
    )


def test_made_again_it_stays_as_it_is(folder: Path) -> None:
    before = contents(folder)

    files.make(folder, postgres="other.example:5432", redis="other.example:6379")

    assert contents(folder) == before


def test_what_is_missing_is_made_and_the_rest_stays(folder: Path) -> None:
    before = contents(folder)
    lost = folder / "keys" / "auth" / "pepper"
    lost.unlink()

    files.make(folder, postgres="db.example:5432", redis="cache.example:6379")

    after = contents(folder)
    assert after.pop(lost) != before.pop(lost)
    assert after == before


def test_only_the_owner_reads_them_and_the_stores_theirs_by_their_group(folder: Path) -> None:
    for path in contents(folder):
        shared = path.parent.name in ("owner", "redis")
        assert path.stat().st_mode & 0o7777 == (0o640 if shared else 0o600), path
        assert path.parent.stat().st_mode & 0o7777 == (0o750 if shared else 0o700), path


def test_roles_are_made_with_the_passwords_that_services_connect_with(folder: Path) -> None:
    for unit in databases.UNITS:
        used = (folder / "stores" / unit / "database_url").read_text()
        assert (folder / "roles" / unit).read_text() == used
    password = (folder / "owner" / "password").read_text().strip()
    url = urlsplit((folder / "owner" / "database_url").read_text())
    assert (url.username, url.password) == (files.OWNER, password)


def test_redis_gets_a_user_for_each_units_url(folder: Path) -> None:
    users = (folder / "redis" / "users.acl").read_text()

    with_redis = [unit for unit in UNITS if "redis_url" in stores(unit)]
    assert [line.split()[1] for line in users.splitlines()] == ["default", *with_redis]
