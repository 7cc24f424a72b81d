"""The failures of the contract: each is raised by a unit in the way that the edge's table of them
has it, and the page of the API names each."""

import re

import pytest

from gateway.tests.test_failures import FOUND, ROWS, Row
from tests.test_docs import API, failures, raised_codes


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_it_is_raised_as_the_kind_that_has_this_status(row: Row) -> None:
    kinds = {kind.kind for code, kind in failures() if code == row.code}

    assert row.code in raised_codes()
    assert kinds <= {row.kind.kind}


def test_every_code_has_a_row_in_the_page_of_the_api() -> None:
    rows = re.findall(r"^\|.*\|$", API.read_text(), re.MULTILINE)
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", "\n".join(rows)))

    assert {row.code for row in ROWS} | {code for _, _, code, _ in FOUND.values()} <= documented
