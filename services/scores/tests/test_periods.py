"""Periods: they tile time in every zone, also where its clock leaves out or repeats an hour."""

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.scores.boards.rules import Board, Period, Reset, moment

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",  # its clock changed at midnight
    "Pacific/Apia",  # left out 30 December 2011
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # changes by half an hour
    "Africa/Casablanca",
)

boards = st.builds(
    Board,
    name=st.just("a"),
    title=st.just("A"),
    every=st.sampled_from([Reset.DAY, Reset.WEEK, Reset.MONTH]),
    reset_at=st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59)),
    zone=st.sampled_from(ZONES),
)
moments = st.integers(1_230_768_000_000, 2_366_841_600_000).map(moment)  # 2009 to 2044
half_past_two = Board(name="a", title="A", every=Reset.DAY, reset_at="02:30", zone="Europe/Berlin")


# In the hour that comes twice, after the reset though the clock shows ten past two; and at ten past
# three of a day without an hour, before the reset that the clock leaves out.
@example(half_past_two, datetime(2026, 10, 25, 1, 10, tzinfo=UTC))
@example(half_past_two, datetime(2026, 3, 29, 1, 10, tzinfo=UTC))
@given(boards, moments)
def test_a_moment_belongs_to_one_period_and_the_next_begins_where_it_ends(
    board: Board, at: datetime
) -> None:
    period = board.period(at)
    assert period.end_ms is not None
    assert period.start_ms <= at.timestamp() * 1000 < period.end_ms

    run = [period]
    for _ in range(40):
        run.append(board.period(moment(run[-1].end_ms or 0)))
    assert all(before.end_ms == after.start_ms for before, after in pairwise(run))
    assert len({p.id for p in run}) == len(run)


@given(boards, moments, st.floats(0, 1, exclude_max=True))
def test_every_moment_of_a_period_names_the_same_period(
    board: Board, at: datetime, share: float
) -> None:
    period = board.period(at)
    assert period.end_ms is not None
    within = period.start_ms + int(share * (period.end_ms - period.start_ms))

    assert board.period(moment(within)) == period
    assert board.period(moment(period.end_ms - 1)) == period


@given(boards, moments)
def test_a_period_begins_when_the_zones_clock_says_so(board: Board, at: datetime) -> None:
    zone = ZoneInfo(board.zone)
    start = moment(board.period(at).start_ms).astimezone(zone)
    hour, minute = map(int, board.reset_at.split(":"))
    wanted = datetime.combine(start.date(), time(hour, minute), zone)

    if wanted.astimezone(UTC).astimezone(zone).time() != time(hour, minute):
        return  # The clock leaves that time out.
    assert start.astimezone(UTC) == wanted.astimezone(UTC)
    if board.every is Reset.WEEK:
        assert start.weekday() == 0
    if board.every is Reset.MONTH:
        assert start.day == 1


def _ids(zone: str, reset_at: str, *days: str, every: Reset = Reset.DAY) -> list[str]:
    board = Board(name="a", title="A", every=every, zone=zone, reset_at=reset_at)
    found = [board.period(datetime.fromisoformat(f"{d}T12:00:00+00:00")) for d in days]
    return [f"{p.id} {(_end(p) - p.start_ms) / 3600_000:g} h" for p in found]


def _end(period: Period) -> int:
    assert period.end_ms is not None
    return period.end_ms


@pytest.mark.parametrize(
    ("zone", "reset_at", "day", "expected"),
    [
        # Berlin: the night of 29 March 2026 has no 02:30, that of 25 October has two.
        ("Europe/Berlin", "00:00", "2026-03-29", "20260328T230000Z 23 h"),
        ("Europe/Berlin", "02:30", "2026-03-29", "20260329T013000Z 23 h"),
        ("Europe/Berlin", "00:00", "2026-10-25", "20261024T220000Z 25 h"),
        ("Europe/Berlin", "02:30", "2026-10-25", "20261025T003000Z 25 h"),
        ("America/New_York", "00:00", "2026-11-01", "20261101T040000Z 25 h"),
        ("Asia/Kathmandu", "00:00", "2026-06-01", "20260531T181500Z 24 h"),
        ("Pacific/Apia", "00:00", "2026-06-01", "20260601T110000Z 24 h"),
    ],
)
def test_days_are_as_long_as_the_zones_clock_makes_them(
    zone: str, reset_at: str, day: str, expected: str
) -> None:
    assert _ids(zone, reset_at, day) == [expected]


def test_a_day_that_a_zone_left_out_leaves_no_gap() -> None:
    board = Board(name="a", title="A", every=Reset.DAY, zone="Pacific/Apia")
    period = board.period(datetime(2011, 12, 29, 20, tzinfo=UTC))
    run = [period]
    while _end(run[-1]) < datetime(2012, 1, 2, tzinfo=UTC).timestamp() * 1000:
        run.append(board.period(moment(_end(run[-1]))))

    assert all(_end(before) == after.start_ms for before, after in pairwise(run))
    assert all(p.start_ms < _end(p) for p in run)
    assert max(timedelta(milliseconds=_end(p) - p.start_ms) for p in run) <= timedelta(days=1)


def test_a_board_without_a_reset_has_one_period() -> None:
    board = Board(name="a", title="A")

    assert board.period(datetime.now(UTC)) == Period(board, 0, None)
    assert board.period(datetime.now(UTC)).id == "all"
