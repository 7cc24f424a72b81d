"""Settings: every problem at once, secrets from files, never repeated in a message."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from chassis.keyring import Keyring
from chassis.settings import Between, Named, OneOf, SettingsError, load

KEY = "A" * 43


@dataclass(frozen=True, kw_only=True)
class Example:
    url: str
    keys: Keyring
    size: Annotated[int, Between(1, 9)] = 3
    mode: Annotated[str, Named("EXAMPLE_MODE"), OneOf("on", "off")] = "on"
    names: tuple[str, ...] = ()
    loud: bool = False
    folder: Path = Path()


def test_values_come_from_the_environment_with_defaults() -> None:
    example = load(
        Example,
        {
            "URL": "u",
            "KEYS": f"1:{KEY}",
            "SIZE": "9",
            "EXAMPLE_MODE": "off",
            "NAMES": "a, b",
            "LOUD": "true",
            "FOLDER": "/x",
        },
    )

    assert (example.url, example.size, example.mode) == ("u", 9, "off")
    assert (example.names, example.loud, example.folder) == (("a", "b"), True, Path("/x"))
    assert load(Example, {"URL": "u", "KEYS": f"1:{KEY}"}).size == 3


def test_a_value_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("from a file\n")

    example = load(Example, {"URL_FILE": str(tmp_path / "url"), "KEYS": f"1:{KEY}"})

    assert example.url == "from a file"


def test_every_problem_is_reported_at_once_and_no_value_of_a_secret() -> None:
    with pytest.raises(SettingsError) as problems:
        load(
            Example,
            {"KEYS": "1:secret", "SIZE": "12", "EXAMPLE_MODE": "loud", "LOUD": "maybe"},
        )

    text = str(problems.value)
    assert [line.split(":")[0] for line in text.splitlines()] == [
        "URL",
        "KEYS",
        "SIZE",
        "EXAMPLE_MODE",
        "LOUD",
    ]
    assert "secret" not in text


def test_a_value_given_twice_or_in_a_missing_file_is_a_problem() -> None:
    with pytest.raises(SettingsError, match=r"URL: is given twice"):
        load(Example, {"URL": "a", "URL_FILE": "/x", "KEYS": f"1:{KEY}"})
    with pytest.raises(SettingsError, match=r"URL: .*No such file"):
        load(Example, {"URL_FILE": "/nowhere/x", "KEYS": f"1:{KEY}"})


def test_a_number_that_is_none_is_a_problem() -> None:
    with pytest.raises(SettingsError, match="SIZE: must be of type int"):
        load(Example, {"URL": "a", "KEYS": f"1:{KEY}", "SIZE": "three"})


def test_a_keyring_makes_with_the_last_and_opens_with_each() -> None:
    ring = Keyring(f"1:{KEY}\n3:{'B' * 43}\n")

    assert ring.current == 3
    assert len(ring[1]) == 32
    assert 2 not in ring
    assert "A" * 10 not in repr(ring)


@pytest.mark.parametrize(
    "text", ["", "1:short", f"x:{KEY}", f"300:{KEY}", f"1:{KEY},1:{KEY}", "1:" + "*" * 43]
)
def test_a_keyring_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must (not )?hold"):
        Keyring(text)
