"""`--help` of every program: each setting with its name, default and what it is for."""

import os
import re
import subprocess
import sys

import pytest

from chassis import usage
from chassis.settings import variables
from deploy.units import SETTINGS
from local.settings import Settings as LocalSettings
from tests.suite import ROOT

PROGRAMS = {f"services.{unit}": cls for unit, cls in SETTINGS.items() if unit != "gateway"}
PROGRAMS |= {"gateway": SETTINGS["gateway"]}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_of_a_unit_has_every_setting(program: str) -> None:
    shown = run(program, "--help")

    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"usage: python -m {program} ")
    found = entries(shown.stdout)
    for variable in variables(PROGRAMS[program]):
        terms, note = found[variable.name]
        default = usage.shown(variable.default)
        assert terms.endswith(default if default == "required" else f"default {default}")
        assert len(note) > 10, variable.name


def test_the_help_of_the_suite_has_its_settings_and_those_it_passes_on() -> None:
    shown = run("local", "--help").stdout

    found = entries(shown)
    decided = shown.rpartition("Decided by the suite")[2]
    classes: list[type] = [LocalSettings, *SETTINGS.values()]
    for cls in classes:
        for variable in variables(cls):
            assert variable.name in found or f" {variable.name}," in decided.replace("\n", ",")
    assert found["DRAIN_S"][0].endswith("default 4")


@pytest.mark.parametrize("program", ["services.scores", "gateway", "local"])
def test_an_argument_that_is_not_known_is_refused_with_the_usage(program: str) -> None:
    refused = run(program, "nonsense")

    assert refused.returncode == 2
    assert refused.stderr.startswith(f"usage: python -m {program} ")
    assert "nonsense" in refused.stderr


def test_commands_keep_a_help_of_their_own() -> None:
    assert "--repair" in run("services.scores", "audit", "--help").stdout
    assert "--action-types" in run("services.auth", "client", "create", "--help").stdout


def entries(text: str) -> dict[str, tuple[str, str]]:
    """By the names of settings: kind and default, and what it is for."""
    found = re.findall(r"^  ([A-Z0-9_]+)  \((.*)\)\n((?:      .*\n?)*)", text, re.MULTILINE)
    return {name: (terms, " ".join(note.split())) for name, terms, note in found}
