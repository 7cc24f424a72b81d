"""What the images hold, and how they are described: without building any."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from deploy.images import assemble
from deploy.units import UNITS, module

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FINDS = """
import importlib.util, sys

def found(name):
    try:
        return importlib.util.find_spec(name)
    except ImportError:
        return None

print([name for name in sys.argv[1:] if found(name)])
"""
# In the place of a unit, as it looks while it loads: a signal may come in a call whose exceptions
# Python prints and drops.
LOADS = """
import os, signal

class Freed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

Freed()
print("goes on", flush=True)
"""
# What no unit may import, beside the other units.
FOREIGN = ("local", "bench", "tests", "conftest", "chassis.testing", "scoreboard_client")


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder `/app` of an image, as its build makes it."""
    made: dict[str, Path] = {}

    def make(image: str) -> Path:
        if image not in made:
            made[image] = tmp_path_factory.mktemp("app") / image
            if image == "deploy":
                # In a process of its own, which has loaded what the build has, and no more.
                command = [sys.executable, "-m", "deploy.images.assemble", image, str(made[image])]
                subprocess.run(command, cwd=ROOT, check=True)
            else:
                assemble.assemble(image, made[image])
        return made[image]

    return make


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run of Python in `folder`, with nothing of the checkout."""
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.mark.parametrize("image", assemble.IMAGES)
def test_an_image_holds_no_other_unit(image: str, assembled: Callable[[str], Path]) -> None:
    # The image that prepares an installation has the others' settings, and not their programs.
    others = [
        module(unit) if image in UNITS else f"{module(unit)}.__main__"
        for unit in UNITS
        if unit != image
    ]
    names = [*others, *FOREIGN, *(["deploy"] if image in UNITS else [])]

    ended = python(assembled(image), "-c", FINDS, *names)

    assert (ended.stdout, ended.stderr) == ("[]\n", "")
    own = "deploy" if image == "deploy" else module(image)
    assert (
        python(assembled(image), "-c", FINDS, f"{own}.__main__").stdout == f"['{own}.__main__']\n"
    )


@pytest.mark.parametrize("image", ["gateway", "deploy"])
def test_the_folder_of_an_image_runs_its_program(
    image: str, assembled: Callable[[str], Path]
) -> None:
    ended = python(assembled(image), str(assembled(image)), "--help")

    assert ended.returncode == 0, ended.stderr
    assert f"python -m {image}" in ended.stdout


@pytest.mark.parametrize(
    ("image", "arguments", "code"),
    [
        pytest.param("gateway", [], 0, id="unit"),
        # What was interrupted did not succeed: a Job would count it as done.
        pytest.param("deploy", ["migrate"], 128 + signal.SIGTERM, id="command"),
    ],
)
def test_a_signal_while_a_program_loads_ends_it_at_once(
    image: str, arguments: list[str], code: int, assembled: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copy(assembled(image) / "__main__.py", tmp_path)
    (tmp_path / f"{image}.py").write_text(LOADS)

    ended = python(tmp_path, str(tmp_path), *arguments)

    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")


@pytest.mark.parametrize("image", assemble.IMAGES)
def test_no_image_holds_tests_or_documents(image: str, assembled: Callable[[str], Path]) -> None:
    names = [str(path.relative_to(assembled(image))) for path in assembled(image).rglob("*")]

    assert [name for name in names if re.search(r"(^|/)tests|k8s|\.(md|proto)$", name)] == []


@pytest.mark.parametrize("unit", ["auth", "actions", "scores", "fraud"])
def test_migrations_are_in_the_image_that_makes_and_the_one_that_needs_them(
    unit: str, assembled: Callable[[str], Path]
) -> None:
    ours = {path.name for path in (ROOT / "services" / unit / "migrations").glob("*.sql")}

    for image in ("deploy", unit):
        folder = assembled(image) / "services" / unit / "migrations"
        assert {path.name for path in folder.glob("*.sql")} == ours


def test_every_install_is_by_hash_and_compiles_nothing() -> None:
    installs = re.findall(r"pip\b.*? install [^&\n]*", DOCKERFILE)

    assert len(installs) == 2
    assert "PIP_REQUIRE_HASHES=1" in DOCKERFILE
    assert "PIP_ONLY_BINARY=:all:" in DOCKERFILE
    locks = [lock for install in installs for lock in re.findall(r"-r (\S+)", install)]
    assert locks == ["/requirements-sbom.lock", "/requirements.lock"]
    for lock in locks:
        assert "--hash=sha256:" in (ROOT / lock.strip("/")).read_text()
    assert "--output-file /venv/sbom.cdx.json" in DOCKERFILE
    assert "rm -rf /usr/local/lib/python3*/site-packages/pip*" in DOCKERFILE
    assert not re.search(r"apt-get|apk |curl|wget|gcc", DOCKERFILE)


def test_the_final_stage_has_a_user_an_entry_and_labels_and_names_no_latest() -> None:
    stage = DOCKERFILE.rpartition("\nFROM ")[2]

    assert re.search(r"^USER 10001:10001$", stage, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["python", "/app"\]$', stage, re.MULTILINE)
    assert re.search(r"^WORKDIR /app$", stage, re.MULTILINE)
    assert "HEALTHCHECK" not in stage
    # The manifests and compose.yaml name these ports, and rely on the addresses.
    places = dict(re.findall(r"\b((?:OPS_)?(?:HOST|PORT))=(\S+)", stage))
    assert places == {
        "HOST": "0.0.0.0",
        "PORT": "50051",
        "OPS_HOST": "0.0.0.0",
        "OPS_PORT": "9100",
    }
    for label in ("title", "description", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{label}=" in stage
    # What all images share stands before what depends on the unit.
    assert stage.index("COPY --from=libraries") < stage.index("COPY --from=code")
    assert stage.index("COPY --from=code") < stage.index("ARG UNIT")
    bases = re.findall(r"^(?:FROM|ARG BASE=)\s*(\S+)", DOCKERFILE, re.MULTILINE)
    assert bases == ["docker.io/library/python:3.13-slim", "${BASE}", "libraries", "${BASE}"]


def test_the_build_script_builds_every_image() -> None:
    script = (ROOT / "deploy" / "images" / "build.sh").read_text()

    (names,) = re.findall(r"^for unit in (.*); do$", script, re.MULTILINE)
    assert tuple(names.split()) == assemble.IMAGES
    given = re.findall(r'--build-arg "(\w+)=\$(\w+)"', script)
    assert {name: variable.upper() for name, variable in given} == {
        name: name for name in ("UNIT", "BASE", "VERSION", "REVISION")
    }


def test_without_a_builder_one_line_says_what_is_missing(tmp_path: Path) -> None:
    for program in ("bash", "dirname", "basename", "id"):
        (tmp_path / program).symlink_to(shutil.which(program) or program)

    ended = subprocess.run(
        [tmp_path / "bash", ROOT / "deploy" / "images" / "build.sh"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        check=False,
        text=True,
    )

    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "images: needs docker with its daemon, podman or buildah (choose by BUILDER)"
    ]


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("requirements.lock", True),
        ("services/scores/awards/award.py", True),
        ("gateway/pages/index.html", True),
        ("deploy/units.py", True),
        ("deploy/images/assemble.py", True),
        (".git/config", False),
        (".data/secrets/pepper", False),
        (".venv/bin/python", False),
        ("deploy/settings.env", False),
        ("deploy/k8s/base/kustomization.yaml", False),
        ("deploy/tests/test_images.py", False),
        ("services/scores/tests/test_award.py", False),
        ("services/scores/__pycache__/store.pyc", False),
        ("gateway/.env", False),
        ("local/__main__.py", False),
        ("conftest.py", False),
        ("requirements-dev.lock", False),
    ],
)
def test_a_build_sees_code_and_locks_and_nothing_else(path: str, seen: bool) -> None:
    assert _seen(path, (ROOT / ".dockerignore").read_text()) is seen


def _seen(path: str, ignore: str) -> bool:
    """Whether a file reaches the build: the last pattern that fits it or a folder of it decides."""
    parts = path.split("/")
    names = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    seen = True
    for line in ignore.splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        for name in names:
            anywhere = pattern.startswith("**/") and fnmatchcase(
                name.rpartition("/")[2], pattern[3:]
            )
            same_depth = name.count("/") == pattern.count("/")
            if anywhere or (same_depth and fnmatchcase(name, pattern)):
                seen = line.startswith("!")
    return seen
