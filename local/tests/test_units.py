"""Tests of what the units are given: by the suite, by its user, and by default."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest

from chassis.settings import Between, Named, OneOf, SettingsError, Variable, load, variables
from deploy import secrets
from deploy.units import SETTINGS, UNITS, stores
from local.settings import Settings
from local.suite import processes, units

Reads = Callable[[str], Any]

# Variables that units read with the same meaning, but with defaults of their own.
OWN_DEFAULTS = {
    "CONNECTION_AGE_S",  # realtime's callers are gateways, which stay attached
    "DATABASE_POOL_MAX",  # scores' batches need few connections
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> units.Places:
    """A data directory with secrets, as it is when the stores have been started."""
    folder = tmp_path_factory.mktemp("data")
    found = units.Places(data_dir=folder, ports=dict.fromkeys(units.PORT_NAMES, 1))
    urls = [f"{unit}_{store}" for unit in UNITS for store in stores(unit)]
    secrets.make(found.secrets, passwords=tuple(urls))
    return found


@pytest.fixture
def reads(places: units.Places) -> Reads:
    """What a unit's process reads as its settings when the suite starts it now."""

    def read(unit: str) -> Any:
        program = units.program(unit, Settings(), places)
        return load(SETTINGS[unit], processes.environment(program.environment))

    return read


def free() -> Iterator[tuple[str, Variable]]:
    """Every setting of every unit that the suite's user may set."""
    nowhere = units.Places(data_dir=Path(), ports=dict.fromkeys(units.PORT_NAMES, 1))
    for unit, cls in SETTINGS.items():
        decided = {name.removesuffix("_FILE") for name in units.decided(unit, Settings(), nowhere)}
        yield from ((unit, each) for each in variables(cls) if each.name not in decided)


@pytest.mark.parametrize(
    ("unit", "variable"), [pytest.param(*each, id=f"{each[0]}-{each[1].name}") for each in free()]
)
def test_every_setting_reaches_the_process_by_its_own_name(
    unit: str, variable: Variable, reads: Reads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = other_value(variable)
    wanted = load(variable_alone(variable), {variable.name: text}).value

    monkeypatch.setenv(variable.name, text)
    assert str(value_of(reads(unit), variable)) == str(wanted) != str(variable.default)

    (tmp_path / "value").write_text(text)
    monkeypatch.delenv(variable.name)
    monkeypatch.setenv(f"{variable.name}_FILE", str(tmp_path / "value"))
    assert str(value_of(reads(unit), variable)) == str(wanted)


def test_what_the_suite_decides_cannot_be_set(
    reads: Reads, monkeypatch: pytest.MonkeyPatch, places: units.Places
) -> None:
    before = {unit: units.environment(unit, Settings(), places) for unit in UNITS}
    for unit in UNITS:
        for name in units.decided(unit, Settings(), places):
            monkeypatch.setenv(name.removesuffix("_FILE"), "mine")
            monkeypatch.setenv(f"{name.removesuffix('_FILE')}_FILE", "/mine")

    assert {unit: units.environment(unit, Settings(), places) for unit in UNITS} == before
    assert reads("scores").actions_target == "127.0.0.1:1"


def test_a_process_gets_no_variable_that_it_does_not_read(
    monkeypatch: pytest.MonkeyPatch, places: units.Places
) -> None:
    monkeypatch.setenv("POINTS_MAX", "7")
    monkeypatch.setenv("UNRELATED", "7")

    given = units.environment("actions", Settings(), places)
    assert given["POINTS_MAX"] == "7"
    assert "UNRELATED" not in given
    assert "POINTS_MAX" not in units.environment("gateway", Settings(), places)


def test_a_process_has_the_time_to_drain_that_its_settings_give(
    places: units.Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAIN_S", "60")
    monkeypatch.setenv("DRAIN_PAUSE_S", "5")

    assert units.program("auth", Settings(), places).grace_s > 65


def test_the_operations_port_is_asked_where_it_is_opened(places: units.Places) -> None:
    settings = dataclasses.replace(Settings(), host="::1")

    assert units.program("gateway", settings, places).ready_urls == [
        "http://127.0.0.1:1/readyz",
        "http://[::1]:8080/readyz",
    ]


def test_problems_name_variable_and_units_before_there_are_stores(
    places: units.Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places = dataclasses.replace(places, data_dir=tmp_path)
    secrets.make(places.secrets, passwords=())
    units.check(Settings(), places)
    monkeypatch.setenv("POINTS_MAX", "0")
    monkeypatch.setenv("ISSUER", "a")
    monkeypatch.setenv("ISSUER_FILE", "/b")

    with pytest.raises(SettingsError) as refused:
        units.check(Settings(), places)

    assert str(refused.value).splitlines() == [
        "auth, gateway: ISSUER: is given twice, as ISSUER and as ISSUER_FILE",
        "actions: POINTS_MAX: must be between 1 and 9007199254740991, not 0",
    ]


def test_a_variable_that_several_units_read_is_one_setting() -> None:
    seen: dict[str, tuple[str, Variable]] = {}
    for unit, cls in SETTINGS.items():
        for variable in variables(cls):
            other, first = seen.setdefault(variable.name, (unit, variable))
            same = (first.kind, str(first.default)) == (variable.kind, str(variable.default))
            same |= variable.name in OWN_DEFAULTS and first.kind == variable.kind
            assert same, f"{variable.name} of {unit} and of {other}"


def other_value(variable: Variable) -> str:
    """A legal value that is not the default, as text."""
    kind, *bounds = (
        get_args(variable.kind) if get_origin(variable.kind) is Annotated else (variable.kind,)
    )
    if kind is bool:
        return "off" if variable.default else "on"
    for bound in bounds:
        if isinstance(bound, OneOf):
            return next(value for value in bound.values if value != variable.default)
        if isinstance(bound, Between):
            least = int(bound.low) if kind is int else bound.low
            return str(least if least != variable.default else kind(bound.high))
    if kind in (int, float):
        return str(variable.default + 1)
    return "10.0.0.0/8" if kind.__name__ == "Proxies" else "http://other.example"


def variable_alone(variable: Variable) -> Any:
    """A settings class of that variable alone."""
    return dataclasses.make_dataclass(
        "Alone", [("value", Annotated[variable.kind, Named(variable.name)])], frozen=True
    )


def value_of(settings: Any, variable: Variable) -> Any:
    """What the settings hold of a variable, of a group too."""
    holders = [settings, *(getattr(settings, field.name) for field in dataclasses.fields(settings))]
    return next(
        getattr(holder, variable.field) for holder in holders if isinstance(holder, variable.owner)
    )
