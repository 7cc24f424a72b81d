"""The README's walk with curl, pasted into a shell as its reader would."""

import json
import os
import re
import shutil
import subprocess

import pytest

from tests.suite import ROOT, Suite
from tests.test_docs import walk

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "python3"))), reason="no bash, curl and python3"
)


def test_the_walk_goes_through_and_shows_an_award_and_its_receipt(suite: Suite) -> None:
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(walk((ROOT / "README.md").read_text()))],
        env={"PATH": os.environ["PATH"], "BASE": suite.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    (award,) = [json.loads(line) for line in ended.stdout.splitlines() if '"newScore"' in line]
    assert (award["oldScore"], award["newScore"], award["version"]) == (0, 10, 1)
    assert re.search(r"^10 -> 60$", ended.stdout, re.MULTILINE)
    assert "TOKEN_ALREADY_USED" in ended.stdout.splitlines()
    assert "the receipt is the award" in ended.stdout.splitlines()
