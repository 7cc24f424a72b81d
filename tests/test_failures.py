"""The failures of the contract: each is raised by a unit in the way that the edge's table of them
has it, and the page of the API names each."""

import re

import pytest

from chassis.errors import Failed, TooMany, Unavailable
from gateway.edge.errors import response
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


def passing() -> dict[str, type[Failed]]:
    """Every failure that passes with time, by its code."""
    return {code: kind for code, kind in failures() if issubclass(kind, TooMany | Unavailable)}


@pytest.mark.parametrize("code", passing())
def test_a_failure_that_passes_says_when_to_try_again(code: str) -> None:
    kind = passing()[code]
    failed = kind.__new__(kind)
    Failed.__init__(failed)  # as it is where a unit states no time of its own
    answer = response(failed, "request-1")

    assert answer.status in (429, 503)
    assert int(answer.headers["Retry-After"]) >= 1


def test_every_429_and_503_of_the_page_of_the_api_is_a_failure_that_passes() -> None:
    documented = set(re.findall(r"(?:429|503) `([A-Z_]+)`", API.read_text()))

    assert len(documented) >= 8
    assert documented <= set(passing())
