"""What a measurement found, as the text that is printed and kept."""

import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from textwrap import dedent

import psutil

from bench.driver import Measured
from bench.floor import THERE_US
from bench.stack import SERVERS, Books

_LIBRARIES = ("grpcio", "aiohttp", "uvloop", "asyncpg", "redis", "protobuf")
_CPUINFO = Path("/proc/cpuinfo")

_CYCLE = "POST /actions/request, sign, POST /actions/complete, awarded."
_AWARD = "POST /scores/update for actions that were completed before, awarded."
# CPU of all servers for one award, where a bare server needs 40 µs for a request.
_CYCLE_GOALS_US = {"64 users": 390, "256 users": 250}
_AWARD_GOALS_US = {"64 users": 200, "256 users": 150, "1000 a second": 700, "100 a second": 1600}
_PEERS = (
    "others, there, best and median",
    "  Nakama 3.40 (two scripts, not atomic)           1,554 and 2,047 µs",
    "  Node 20 with Express, Socket.IO, pg, ioredis    2,401 and 3,030 µs",
)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: what the users saw, and what the processes used meanwhile."""

    measured: Measured
    cpu_s: dict[str, float]  # by server
    idle_cores: float  # what the suite that rested used
    foreign_cores: float  # what all else on the machine used
    batches: dict[str, float]  # mean items in a flight, by batcher

    def cost_us(self, servers: Sequence[str] = SERVERS) -> float:
        """The servers' CPU for one award."""
        return self._each_us(sum(self.cpu_s[name] for name in servers))

    def driver_us(self) -> float:
        """The driver's CPU for one award."""
        return self._each_us(self.measured.cpu_s)

    def summary(self) -> str:
        """One line to follow the measurement by."""
        measured = self.measured
        parts = (
            f"{measured.awards / measured.elapsed_s:.0f} awards/s",
            f"{self.cost_us():.0f} µs CPU each",
            f"p50 {measured.cycle.p50:.1f} ms",
            f"{sum(measured.errors.values())} errors",
            f"in cores: the other suite {self.idle_cores:.2f}, all else {self.foreign_cores:.2f}",
        )
        return ", ".join(parts)

    def _each_us(self, cpu_s: float) -> float:
        return cpu_s / max(1, self.measured.awards) * 1e6


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The ledger against all that was answered, the warm-up included."""

    books: Books
    awards: int
    unknown: int
    points: int  # what an award is worth

    @property
    def right(self) -> bool:
        """Every award answered is in the ledger, nothing else is, and the totals are its sums."""
        rows = self.books.rows
        return (
            self.awards <= rows <= self.awards + self.unknown
            and self.books.points == self.books.totals == rows * self.points
        )

    def __str__(self) -> str:
        return (
            f"{'balanced' if self.right else 'WRONG'}: {self.awards} awards answered, "
            f"{self.unknown} asked for without an answer, {self.books.rows} ledger rows; "
            f"their points {self.books.points}, players' totals {self.books.totals}"
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """All rounds; `titles`, `loads` and `rounds` hold one for each case, in one order."""

    started: datetime
    command: Sequence[str]
    alone: bool  # the award only, of actions that were completed before
    seconds: float
    titles: Sequence[str]
    loads: Sequence[str]  # `64 users`, `100 a second`
    rounds: Sequence[Sequence[Round]]
    compared: bool  # suites, under one load
    books: dict[str, Checked]  # by suite
    floor_us: float  # CPU of a bare server for one request
    versions: dict[str, str]

    @property
    def right(self) -> bool:
        """Whether every answer was right, and the books are."""
        failed = any(r.measured.errors for rounds in self.rounds for r in rounds)
        return not failed and all(checked.right for checked in self.books.values())

    def text(self) -> str:
        """The whole report."""
        return "\n".join([*self._head(), "", *self._table(), "", *self._end(), ""])

    def _head(self) -> list[str]:
        versions = {name: version(name) for name in _LIBRARIES} | self.versions
        machine = (
            processor(),
            f"{psutil.cpu_count()} cores",
            f"{platform.system()} {platform.release()}",
            f"Python {platform.python_version()}",
        )
        lines = f"""
            {_AWARD if self.alone else _CYCLE}
            {len(self.rounds[0])} rounds of {self.seconds:g} s, in turns.

            date      {self.started:%Y-%m-%d %H:%M} UTC
            command   python -m {" ".join(self.command)}
            code      {code()}
            machine   {", ".join(machine)}
            versions  {", ".join(f"{name} {value}" for name, value in versions.items())}"""
        return dedent(lines).strip().split("\n")

    def _table(self) -> list[str]:
        def percentile(name: str, part: str) -> str:
            return self._row(
                f"{name} {part}, ms", lambda r: getattr(getattr(r.measured, name), part)
            )

        def mean_items(name: str) -> str:
            return self._row(f"  {name}", lambda r: r.batches.get(name, 0.0))

        def cost(server: str) -> str:
            return self._row(f"  {server}", lambda r: r.cost_us([server]))

        waits = ("award",) if self.alone else ("cycle", "award")
        batchers = sorted({name for rounds in self.rounds for r in rounds for name in r.batches})
        return [
            " " * 26 + "".join(f"{title:>24}" for title in self.titles),
            " " * 26 + f"{'min':>12}{'median':>12}" * len(self.titles),
            self._row("awards/s", lambda r: r.measured.awards / r.measured.elapsed_s),
            *(percentile(name, p) for name in waits for p in ("p50", "p95", "p99")),
            "CPU for one award, µs",
            *map(cost, SERVERS),
            self._row("  all servers", Round.cost_us),
            self._row("  driver, apart", Round.driver_us),
            "items in a batch, mean",
            *map(mean_items, batchers),
        ]

    def _row(self, name: str, value: Callable[[Round], float]) -> str:
        cells = [name.ljust(26)]
        for rounds in self.rounds:
            values = [value(each) for each in rounds]
            cells += [f"{shown:>12,.1f}" for shown in (min(values), median(values))]
        return "".join(cells)

    def _end(self) -> list[str]:
        lines = self._ratio() if self.compared else []
        for title, rounds in zip(self.titles, self.rounds, strict=True):
            errors = sum((Counter(r.measured.errors) for r in rounds), Counter[str]())
            listed = ", ".join(f"{count} {code}" for code, count in errors.items())
            lines.append(f"errors, {title}: {listed or 'none'}")
        lines += [f"books of {name}: {books}" for name, books in self.books.items()]
        every = [each for rounds in self.rounds for each in rounds]
        rested = median(each.idle_cores for each in every)
        foreign = [each.foreign_cores for each in every]
        return [
            *lines,
            "Beside it, in cores of the machine",
            *([f"  the suite that rested  {rested:.2f}"] if self.compared else []),
            f"  all other processes    {median(foreign):.2f}, at most {max(foreign):.2f}",
            "",
            *self._goals(),
        ]

    def _ratio(self) -> list[str]:
        costs = [[each.cost_us() for each in rounds] for rounds in self.rounds]
        first, *others = costs
        lines = []
        for title, other in zip(self.titles[1:], others, strict=True):
            by_min, by_median = (choose(other) / choose(first) for choose in (min, median))
            what = f"{title} / {self.titles[0]}, CPU for one award"
            lines.append(f"{what}: {by_min:.2f} by the minima, {by_median:.2f} by the medians")
        return lines

    def _goals(self) -> list[str]:
        """What was aimed at, and what others need, on the machine where that was measured."""
        slower = self.floor_us / THERE_US
        bare = f"a bare aiohttp server, CPU for one request: {self.floor_us:.1f} µs here"
        lines = [f"{bare}, {THERE_US:g} where the targets were set: {slower:.2f} times"]
        for title, load, rounds in zip(self.titles, self.loads, self.rounds, strict=True):
            goal_us = (_AWARD_GOALS_US if self.alone else _CYCLE_GOALS_US).get(load)
            if goal_us is not None:
                found_us = median(each.cost_us() for each in rounds)
                lines.append(
                    f"{title}: {found_us:,.0f} µs here are {found_us / slower:,.0f} there; "
                    f"the target is {goal_us}"
                )
        return lines if self.alone else [*lines, *_PEERS]


def processor() -> str:
    """The processor's model."""
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def code() -> str:
    """The commit that is measured, and whether files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty= with changes"],
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
