"""The commands of the documents, pasted into a shell at the checkout as their reader would."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite import ROOT, Suite
from tests.test_docs import documents, named

# Those of bash that stand by themselves. The README's walk has a test of its own, and the first
# hour with Kubernetes is compared with the manifests: deploy/tests/test_readme.py.
_ELSEWHERE = (ROOT / "README.md", ROOT / "deploy" / "k8s" / "README.md")
BLOCKS = [
    pytest.param(block, id=f"{named(path)}-{number}")
    for path in documents()
    if path not in _ELSEWHERE
    for number, block in enumerate(
        re.findall(r"^```bash\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    )
]


def test_documents_have_commands_to_paste() -> None:
    found = {str(each.id).rpartition("-")[0] for each in BLOCKS}

    assert {"docs/operations.md", "services/auth/README.md", "clients/python/README.md"} <= found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("text", BLOCKS)
def test_the_commands_of_a_document_run_beside_the_suite(text: str, suite: Suite) -> None:
    # The reader's suite is the one of `make run`; this one is elsewhere.
    for theirs, ours in {
        "http://127.0.0.1:8080": suite.url,
        ".data/": f"{suite.folder()}/",
        ".venv/bin/python": sys.executable,
    }.items():
        text = text.replace(theirs, ours)

    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SCOREBOARD_DATA_DIR": str(suite.folder())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout


@pytest.mark.parametrize("document", documents(), ids=named)
def test_every_command_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    for module in re.findall(r"python -m ([a-z_.]+[a-z])", text):
        assert importlib.util.find_spec(module), module
    for target in re.findall(r"`make ([a-z0-9-]+)", text):
        assert target in targets or target.startswith("test-"), target


@pytest.mark.parametrize("document", documents(), ids=named)
def test_what_is_to_be_pasted_names_the_python_that_has_the_packages(document: Path) -> None:
    fence = re.compile(r"^```(?:bash)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

    for block in fence.findall(document.read_text()):
        assert not re.search(r"^(?:\w+=\S+ )*python3? -m", block, re.MULTILINE), block
