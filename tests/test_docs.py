"""The documents: their links lead somewhere, and what they name is what the code has."""

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chassis import usage
from chassis.errors import Failed
from chassis.settings import ProcessSettings, variables
from deploy.units import UNITS
from gateway.live import frames
from gateway.settings import Settings as GatewaySettings
from gateway.tests.edge import api
from local.settings import Settings as LocalSettings
from local.suite import units
from services.actions.settings import Settings as ActionsSettings
from services.auth.settings import Settings as AuthSettings
from services.fraud.settings import Settings as FraudSettings
from services.realtime.settings import Settings as RealtimeSettings
from services.scores.settings import Settings as ScoresSettings

ROOT = Path(__file__).parent.parent
DECISIONS = ROOT / "docs" / "decisions"
OPERATIONS = ROOT / "docs" / "operations.md"
API = ROOT / "docs" / "api.md"
LIVE = ROOT / "docs" / "live-channel.md"
WALK = "A walk with curl"

PROCESSES: Mapping[str, type] = {
    "auth": AuthSettings,
    "actions": ActionsSettings,
    "scores": ScoresSettings,
    "fraud": FraudSettings,
    "realtime": RealtimeSettings,
    "gateway": GatewaySettings,
}
HERE = re.compile(r"127(\.\d+){3}|localhost|([a-z0-9-]+\.)*example(\.(com|org|net))?")


def documents() -> list[Path]:
    """Every Markdown file of ours."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", documents(), ids=named)
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    assert broken_links(document.read_text(), document.parent) == []


def test_a_link_to_nowhere_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "there.md").touch()
    text = "[a](there.md#part) [b](missing.md) ![c](missing.png) [d](#here) `[e](code.md)`"

    assert broken_links(text, tmp_path) == ["missing.md", "missing.png"]


@pytest.mark.parametrize("document", documents(), ids=named)
def test_no_document_names_a_private_host(document: Path) -> None:
    assert foreign_hosts(document.read_text()) == []


def test_a_foreign_host_is_noticed() -> None:
    text = (
        "http://127.0.0.1:8080/x wss://board.example/y ftp://files.somewhere.io 10.1.2.3 127.1.2.3"
    )

    assert foreign_hosts(text) == ["files.somewhere.io", "10.1.2.3"]


@pytest.mark.parametrize("unit", PROCESSES)
def test_the_settings_of_a_process_are_those_it_reads(unit: str) -> None:
    common = {field.name for field in dataclasses.fields(ProcessSettings)}

    assert settings_table(unit) == settings_read(PROCESSES[unit], but=common)


def test_the_settings_of_every_process_and_of_make_run_are_those_they_read() -> None:
    assert settings_table("Every process") == settings_read(ProcessSettings)
    assert settings_table("make run") == settings_read(LocalSettings)


def test_the_readme_names_settings_of_make_run_with_their_defaults() -> None:
    rows = dict(table(section((ROOT / "README.md").read_text(), "Settings of `make run`")))

    assert rows
    read = settings_read(LocalSettings)
    for cls in PROCESSES.values():
        read = settings_read(cls) | read
    assert rows.items() <= read.items()


def test_the_operations_page_names_what_make_run_decides_and_its_own_defaults() -> None:
    text = section(OPERATIONS.read_text(), "make run")
    nowhere = units.Places(data_dir=Path(), ports=dict.fromkeys(units.PORT_NAMES, 1))
    decided = {
        re.sub(r"_FILE$|^.*(?=_TARGET$)", "", name)
        for unit in UNITS
        for name in units.decided(unit, LocalSettings(), nowhere)
    }

    for name in {*decided, *units.defaults(LocalSettings())}:
        assert re.search(rf"`(…)?{name}[`=]", text), name


def test_decisions_are_numbered_without_gaps_and_say_why() -> None:
    pages = sorted(DECISIONS.glob("*.md"))

    assert [page.name[:5] for page in pages] == [f"{n:04}-" for n in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {page.name[:4]}. "), page.name
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], page.name
        assert len(text.splitlines()) <= 60, page.name


def test_the_api_page_has_every_call_and_no_other() -> None:
    calls = re.findall(r"^\| `([A-Z]+ /[^`]*)`", API.read_text(), re.MULTILINE)
    routes = {f"{route.method} {_without_patterns(route.path)}" for route in api()}

    assert {_nameless(call) for call in calls} == {_nameless(route) for route in routes}


def test_every_code_of_the_api_page_is_one_that_is_raised() -> None:
    codes = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`", API.read_text()))
    # Not refusals: two warnings, the three built-in types, settings.
    codes -= {"RANK_UNAVAILABLE", "UNDER_REVIEW", "WIN_GAME", "COMPLETE_QUEST", "COMPLETE_LEVEL"}
    codes -= {variable.name for cls in PROCESSES.values() for variable in variables(cls)}
    codes -= field_codes()

    assert len(codes) > 30
    assert codes - raised_codes() == set()


def test_every_code_of_a_faulty_field_is_on_the_api_page() -> None:
    source = _source(tests=False)
    # As FieldError's second argument, or after a check, a field's name and a comma.
    given = set(re.findall(r'FieldError\([^"\n]*(?:"[^"]*")?[^"\n]*, "([A-Z_]+)"', source))
    given |= set(re.findall(r'_Refused\("([A-Z_]+)"', source))

    assert len(given) > 5
    assert given - field_codes() == set()
    assert [code for code in field_codes() if f'"{code}"' not in source] == []


def test_the_live_page_has_every_close_code_and_no_other() -> None:
    used = {str(number) for number in vars(frames).values() if _is_close_code(number)}

    assert used == {code for code, *_ in rows_of(section(LIVE.read_text(), "Close codes"))}


def test_the_walk_of_the_readme_can_be_taken_out_and_run() -> None:
    blocks = walk((ROOT / "README.md").read_text())
    text = "\n".join(blocks)

    assert len(blocks) >= 7
    assert "BASE=${BASE:-" in blocks[0]
    for step in (
        "/auth/register",
        "/auth/login",
        "/actions/request",
        "/actions/complete",
        "/scores/update",
        "/leaderboard?limit=10",
        "/me/scores/",
    ):
        assert step in text


def walk(readme: str) -> list[str]:
    """The blocks of bash under the walk's heading, in order."""
    return re.findall(r"^```bash\n(.*?)^```$", section(readme, WALK), re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, heading
    rest = text[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def rows_of(text: str) -> Iterator[list[str]]:
    """The cells of every row of the tables in `text`, without code marks, heads left out."""
    for line in text.splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] not in ("name", "variable", "code"):
            yield cells


def table(text: str) -> Iterator[tuple[str, str]]:
    for name, default, *_ in rows_of(text):
        yield name, default


def settings_table(heading: str) -> dict[str, str]:
    """Name to default, from the table under a heading of the operations page."""
    return dict(table(section(OPERATIONS.read_text(), heading)))


def settings_read(cls: Any, *, but: set[str] = frozenset()) -> dict[str, str]:  # type: ignore[assignment]
    """The same, from the code."""
    return {
        variable.name: usage.shown(variable.default)
        for variable in variables(cls)
        if variable.field not in but
    }


def broken_links(text: str, folder: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose)]
    return [
        target
        for target in targets
        if target and "://" not in target and not (folder / target).exists()
    ]


def foreign_hosts(text: str) -> list[str]:
    hosts = re.findall(r"\b(?!spiffe:)[a-z+]+://(?:[^\s/@]*@)?([A-Za-z0-9.-]+)", text)
    addresses = re.findall(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])", text)
    return [host for host in dict.fromkeys([*hosts, *addresses]) if not HERE.fullmatch(host)]


def field_codes() -> set[str]:
    """The codes that the API page lists for `errors[]`."""
    _, _, table = API.read_text().partition("| `errors[].code` | is |")
    rows, _, _ = table.partition("\n\n")
    return {code for row in rows.splitlines()[2:] for code in re.findall(r"`([A-Z_]+)`", row)}


def raised_codes() -> set[str]:
    """Every code a failure can have: of the classes there are, and those given by hand."""
    by_hand = re.findall(r'\bcode="([A-Z_]+)"', _source())
    return {code for code, _ in failures()} | set(by_hand)


def failures() -> Iterator[tuple[str, type[Failed]]]:
    """Every class of failures of the services and the gateway, and the code of its name."""
    for unit in ("services", "gateway"):
        package = importlib.import_module(unit)
        for module in pkgutil.walk_packages(package.__path__, f"{unit}."):
            if ".tests" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    waiting = [Failed]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if ".tests" in kind.__module__:
            continue  # of another test's own
        yield re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).upper(), kind


def _source(*, tests: bool = True) -> str:
    folders = (ROOT / name for name in ("chassis", "services", "gateway"))
    files = (path for folder in folders for path in folder.rglob("*.py"))
    return "".join(path.read_text() for path in files if tests or "tests" not in path.parts)


def _is_close_code(number: object) -> bool:
    return isinstance(number, int) and (number in (1000, 1003) or 4000 <= number < 5000)


def _without_patterns(path: str) -> str:
    """`/x/{id:[0-9]{2}}` as `/x/{id}`: braces of a pattern nest."""
    plain, depth, skipping = "", 0, False
    for character in path:
        depth += (character == "{") - (character == "}")
        if character == ":" and depth == 1:
            skipping = True
        elif depth == 0:
            skipping = False
        plain += "" if skipping else character
    return plain


def _nameless(call: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", call)
