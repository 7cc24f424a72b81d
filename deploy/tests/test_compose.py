"""compose.yaml and the table of what each unit is given are one."""

import re
from pathlib import Path

import pytest

from chassis.settings import load
from deploy import databases, files
from deploy.tests import compose
from deploy.tests.compose import COMPOSE, FOLDER, MOUNTED, SERVICES
from deploy.units import SETTINGS, UNITS, configuration, keys, stores, targets

OURS = (*UNITS, "files", "migrate")
STORES = ("postgres", "redis")
# All that a service may say; other words give it more of the machine.
CONFINED = frozenset(
    {
        *("image", "restart", "read_only", "tmpfs", "cap_drop", "security_opt", "volumes"),
        *("env_file", "environment", "command", "healthcheck", "stop_grace_period", "depends_on"),
        *("ports", "network_mode", "user", "group_add"),
    }
)
# What is written, of each service that writes.
WRITTEN = {
    "files": [f"files:{MOUNTED}"],
    "postgres": ["postgres:/var/lib/postgresql"],
    "redis": ["redis:/data"],
}
OPTIONAL = {"path": "settings.env", "required": False}


def image(service: str) -> str:
    return str(SERVICES[service]["image"])


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_given_what_the_table_says(unit: str) -> None:
    expected = {"TLS_DIR": f"{MOUNTED}/tls"}
    expected |= {f"{name.upper()}_FILE": f"{MOUNTED}/keys/{name}" for name in keys(unit)}
    expected |= {f"{name.upper()}_FILE": f"{MOUNTED}/stores/{name}" for name in stores(unit)}
    expected |= {f"{name.upper()}_TARGET": f"dns:///{name}:50051" for name in targets(unit)}
    if unit == "gateway":
        expected["PORT"] = "8080"

    assert SERVICES[unit]["environment"] == expected


@pytest.mark.parametrize("unit", UNITS)
def test_an_operator_sets_all_else_of_a_unit(unit: str) -> None:
    """Settings come by file, the operator's last; none of them is decided above it."""
    assert SERVICES[unit]["env_file"] == ["compose.env", OPTIONAL]
    decided = {name.removesuffix("_FILE") for name in SERVICES[unit]["environment"]}
    assert not decided & configuration(unit)
    required = {"ISSUER", "AUDIENCE"} & configuration(unit)
    assert required <= compose.preset().keys()


def test_what_is_preset_is_read() -> None:
    known = frozenset[str]().union(*map(configuration, UNITS))

    assert compose.preset().keys() <= known


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_has_its_own_secrets_and_reads_them(unit: str, tmp_path: Path) -> None:
    files.make(tmp_path, postgres="postgres:5432", redis="redis:6379")
    mounted = compose.files(unit)
    assert mounted == {
        f"{MOUNTED}/{kind}": f"{kind}/{unit}"
        for kind in ("tls", "keys", "stores")
        if kind != "keys" or keys(unit)
    }

    given = compose.preset() | SERVICES[unit]["environment"]
    for target, part in mounted.items():
        given = {k: v.replace(target, str(tmp_path / part)) for k, v in given.items()}

    load(SETTINGS[unit], given)


def test_the_other_services_have_the_files_they_read(tmp_path: Path) -> None:
    files.make(tmp_path, postgres="postgres:5432", redis="redis:6379")
    read = {
        "migrate": list(SERVICES["migrate"]["environment"].values()),
        "postgres": [SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"]],
        "redis": [each for each in SERVICES["redis"]["command"] if each.startswith(MOUNTED)],
    }

    for service, paths in read.items():
        parts = compose.files(service)
        for path in map(Path, paths):
            target = next(each for each in parts if path.is_relative_to(each))
            assert (tmp_path / parts[target] / path.relative_to(target)).exists(), path
    assert SERVICES["migrate"]["environment"] == {
        "DATABASE_URL_FILE": f"{MOUNTED}/owner/database_url",
        "ROLES_DIR": f"{MOUNTED}/roles",
    }
    roles = tmp_path / compose.files("migrate")[f"{MOUNTED}/roles"]
    assert {path.name for path in roles.iterdir()} == set(databases.UNITS)
    assert SERVICES["postgres"]["environment"]["POSTGRES_USER"] == files.OWNER
    assert SERVICES["postgres"]["environment"]["POSTGRES_DB"] == files.OWNER
    # Their users are others than ours; a group of ours is what they have in common.
    for part in ("owner", "redis"):
        assert (tmp_path / part).stat().st_mode & 0o7777 == 0o750
        for path in (tmp_path / part).iterdir():
            assert path.stat().st_mode & 0o7777 == 0o640, path


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_confined(service: str) -> None:
    about = SERVICES[service]

    assert about.keys() <= CONFINED
    assert about["read_only"] is True
    assert "/tmp" in about["tmpfs"]
    assert about["cap_drop"] == ["ALL"]
    assert about["security_opt"] == ["no-new-privileges:true"]
    assert about.get("network_mode") == ("none" if service == "files" else None)
    # Ours have a user of their own in the image.
    own_user = re.fullmatch(r"[1-9]\d*:[1-9]\d*", about.get("user", ""))
    assert own_user if service in STORES else "user" not in about
    assert about.get("group_add") == (["10001"] if service in STORES else None)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_no_more_of_the_machine_than_its_volumes(service: str) -> None:
    mounts = SERVICES[service]["volumes"]
    secret = [mount for mount in mounts if isinstance(mount, dict)]

    assert [mount for mount in mounts if mount not in secret] == WRITTEN.get(service, [])
    for mount in secret:
        assert (mount["type"], mount["source"], mount["read_only"]) == ("volume", "files", True)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_image_that_it_is_named_after(service: str) -> None:
    if service in STORES:
        assert re.fullmatch(r"docker\.io/\w+/\w+:\d[\w.]*", image(service))
    else:
        name = service if service in UNITS else "deploy"
        assert image(service) == f"${{REPOSITORY:-docker.io/scoreboard}}/{name}:${{TAG:-dev}}"


def test_what_prepares_runs_once_and_all_else_again_when_it_ends() -> None:
    restarts = {service: about["restart"] for service, about in SERVICES.items()}

    assert restarts == {
        **dict.fromkeys((*UNITS, *STORES), "unless-stopped"),
        **dict.fromkeys(("files", "migrate"), "no"),
    }
    files_command = ["files", "--directory", MOUNTED]
    files_command += ["--postgres", "postgres:5432", "--redis", "redis:6379"]
    assert SERVICES["files"]["command"] == files_command
    assert SERVICES["migrate"]["command"] == ["migrate"]


def test_redis_refuses_users_without_rights_and_loses_nothing_that_it_took() -> None:
    program, *words = SERVICES["redis"]["command"]
    given = dict(zip(words[::2], words[1::2], strict=True))

    assert program == "valkey-server"
    assert given["--aclfile"] == f"{MOUNTED}/redis/users.acl"
    assert (given["--appendonly"], given["--maxmemory-policy"]) == ("yes", "noeviction")


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_has_time_to_end_in_order(unit: str) -> None:
    preset = SETTINGS[unit]
    needed_s = preset.drain_pause_s + preset.drain_s + 10
    grace_s = int(SERVICES[unit]["stop_grace_period"].removesuffix("s"))

    assert grace_s >= needed_s + (15 if unit == "gateway" else 0)


def test_only_the_gateway_is_reached_and_from_this_machine_alone() -> None:
    published = {name: about["ports"] for name, about in SERVICES.items() if "ports" in about}

    assert published == {"gateway": ["127.0.0.1:8080:8080"]}


def test_every_unit_waits_for_its_schema_and_says_when_it_is_ready() -> None:
    assert set(SERVICES) == {*OURS, "postgres", "redis"}
    for unit in UNITS:
        awaited = {name: each["condition"] for name, each in SERVICES[unit]["depends_on"].items()}
        others = dict.fromkeys(targets(unit), "service_healthy") if unit == "gateway" else {}
        assert awaited == {
            "migrate": "service_completed_successfully",
            "redis": "service_healthy",
            **others,
        }
        assert "http://127.0.0.1:9100/readyz" in SERVICES[unit]["healthcheck"]["test"][-1]
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for store in STORES:
        done = {"files": {"condition": "service_completed_successfully"}}
        assert SERVICES[store]["depends_on"] == done
        assert "healthcheck" in SERVICES[store]


def test_an_operator_s_settings_are_not_committed() -> None:
    assert "deploy/settings.env" in (FOLDER.parent / ".gitignore").read_text().splitlines()
    assert set(COMPOSE["volumes"]) == {"files", "postgres", "redis"}
