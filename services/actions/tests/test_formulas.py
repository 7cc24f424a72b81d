"""Tests of the formulas: published values, their ends, and what they refuse."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.actions.failures import ScoreOutOfRange, ValidationFailed
from services.actions.formulas import FORMULAS, Span

SPAN = Span(10, 110, 1000, 5000)
SPANS = st.builds(
    lambda least, more, fastest, longer: Span(least, least + more, fastest, fastest + longer),
    st.integers(1, 2**52),
    st.integers(0, 2**52 - 1),
    st.integers(0, 10**8),
    st.integers(0, 10**8),
)


def points(name: str, evidence: Any = None, *, ms: int = 3000, span: Span = SPAN) -> int:
    text = b"" if evidence is None else json.dumps(evidence).encode()
    return FORMULAS[name](span, text, ms)


@pytest.mark.parametrize(
    ("name", "evidence", "ms", "worth"),
    [
        ("evidence_points", {"points": 10}, 1, 10),
        ("evidence_points", {"points": 110, "level": "x"}, 1, 110),
        ("ratio", {"part": 0, "whole": 7}, 1, 10),
        ("ratio", {"part": 7, "whole": 7}, 1, 110),
        ("ratio", {"part": 1, "whole": 3}, 1, 43),
        ("ratio", {"part": 2, "whole": 3}, 1, 76),
        ("time_bonus", None, 1000, 110),
        ("time_bonus", None, 1001, 109),
        ("time_bonus", None, 3000, 60),
        ("time_bonus", None, 4999, 10),
        ("time_bonus", None, 5000, 10),
        ("time_bonus", [1], 0, 110),  # too fast: the check of times refuses it, not this one
        ("time_bonus", None, 9000, 10),
    ],
)
def test_a_formula_gives_its_published_points(
    name: str, evidence: Any, ms: int, worth: int
) -> None:
    assert points(name, evidence, ms=ms) == worth


def test_where_all_take_equally_long_the_bonus_is_whole() -> None:
    assert points("time_bonus", span=Span(1, 9, 0, 0), ms=0) == 9


@given(SPANS, st.integers(0, 10**6), st.integers(1, 10**6), st.integers(-1, 3 * 10**8))
def test_points_never_leave_the_span(span: Span, part: int, more: int, ms: int) -> None:
    for name in ("ratio", "time_bonus"):
        evidence = {"part": part, "whole": part + more}
        assert span.points_min <= points(name, evidence, ms=ms, span=span) <= span.points_max


@given(SPANS, st.integers(0, 10**8), st.integers(0, 10**8))
def test_who_is_faster_never_gets_less(span: Span, ms: int, longer_ms: int) -> None:
    faster = points("time_bonus", ms=ms, span=span)

    assert faster >= points("time_bonus", ms=ms + longer_ms, span=span)


@pytest.mark.parametrize(
    ("name", "evidence"),
    [
        ("evidence_points", {"points": 9}),
        ("evidence_points", {"points": 111}),
        ("evidence_points", {"points": -(2**53)}),
        ("ratio", {"part": 8, "whole": 7}),
        ("ratio", {"part": -1, "whole": 7}),
    ],
)
def test_a_number_outside_the_range_is_out_of_range(name: str, evidence: Any) -> None:
    with pytest.raises(ScoreOutOfRange):
        points(name, evidence)


@pytest.mark.parametrize(
    ("name", "evidence", "field"),
    [
        ("evidence_points", None, "proof.evidence"),
        ("evidence_points", [50], "proof.evidence"),
        ("evidence_points", 50, "proof.evidence"),
        ("evidence_points", {}, "proof.evidence.points"),
        ("evidence_points", {"points": "50"}, "proof.evidence.points"),
        ("evidence_points", {"points": 50.0}, "proof.evidence.points"),
        ("evidence_points", {"points": True}, "proof.evidence.points"),
        ("evidence_points", {"points": None}, "proof.evidence.points"),
        ("ratio", None, "proof.evidence"),
        ("ratio", {"whole": 7}, "proof.evidence.part"),
        ("ratio", {"part": 7}, "proof.evidence.whole"),
        ("ratio", {"part": 1, "whole": False}, "proof.evidence.whole"),
        ("ratio", {"part": 0, "whole": 0}, "proof.evidence.whole"),
        ("ratio", {"part": -3, "whole": -1}, "proof.evidence.whole"),
    ],
)
def test_evidence_that_lacks_something_is_refused_by_name(
    name: str, evidence: Any, field: str
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        points(name, evidence)

    assert [problem.field for problem in refused.value.errors] == [field]


def test_everything_that_evidence_lacks_is_named_at_once() -> None:
    with pytest.raises(ValidationFailed) as refused:
        points("ratio", {"part": "3"})

    found = [problem.field for problem in refused.value.errors]
    assert found == ["proof.evidence.part", "proof.evidence.whole"]


@pytest.mark.parametrize("text", [b"{", b"\xff", b"9" * 5000, b"[" * 60_000, b'{"points":NaN}'])
def test_evidence_that_is_no_json_is_refused_as_what_it_is(text: bytes) -> None:
    with pytest.raises(ValidationFailed):
        FORMULAS["evidence_points"](SPAN, text, 1)


def test_every_formula_is_tested_here() -> None:
    assert set(FORMULAS) == {"evidence_points", "ratio", "time_bonus"}
