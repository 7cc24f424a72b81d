"""`make bench`: what an award costs, measured in turns.

Two suites run side by side, one with batches as they come, one with batches of one item;
or, given another tree, one of this tree and one of that; or one without traces and one for
each share of requests that is traced; or, given several numbers of
users or of rates, one suite under each of these loads. The same users play, case by case,
over and over; what each process used meanwhile, over the awards answered rightly, is the
cost of an award. Between them a bare aiohttp server is measured: how slow this hour is.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from statistics import median

import msgspec
import psutil

from bench import floor, sink, stack
from bench.driver import Load, Measured
from bench.report import Checked, Report, Round
from bench.stack import ACTION_TYPE, POINTS, Broken, Stack

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
BATCH_MAX = 256
_ENTER_S = 180.0  # for all users to log in, and to complete what is to be awarded
_DRAIN_S = 30.0  # for the last answers

say = partial(print, flush=True)


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of every `finally`
    try:
        report = measure(arguments)
    except Broken as reason:
        sys.exit(str(reason))
    text = report.text()
    say(f"\n{text}", end="")
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"award-{report.started:%Y-%m-%dT%H%MZ}.txt"
        path.write_text(text)
        say(f"saved as {path.relative_to(ROOT)}")
    if not report.right:
        sys.exit("not every answer was right")


def measure(arguments: argparse.Namespace) -> Report:
    """Starts the suites, lets the users play in turns. Raises Broken."""
    started = datetime.now(UTC)
    with ExitStack() as opened:
        bare = opened.enter_context(floor.running())
        cases = _cases(arguments, opened)
        benches = list(dict.fromkeys(case.bench for case in cases))
        for bench in benches:
            say(f"warming up {bench.stack.name}…")
            asyncio.run(bench.stack.make_action_type())
            bench.round(Case("", bench, max(case.users for case in cases)), arguments.warmup)
        asyncio.run(bare.request_us())
        floors: list[float] = []
        rounds: list[list[Round]] = [[] for _ in cases]
        for number in range(1, arguments.rounds + 1):
            for case, done in zip(cases, rounds, strict=True):
                done.append(case.bench.round(case, arguments.seconds))
                say(f"round {number} {case.title}: {done[-1].summary()}")
            floors.append(asyncio.run(bare.request_us()))
        return Report(
            started=started,
            command=["bench.award", *sys.argv[1:]],
            alone=arguments.alone,
            seconds=arguments.seconds,
            titles=[case.title for case in cases],
            loads=[case.load for case in cases],
            rounds=rounds,
            compared=len(benches) > 1,
            books={bench.stack.name: bench.checked() for bench in benches},
            floor_us=median(floors),
            versions=asyncio.run(benches[0].stack.versions()),
        )


@dataclass(frozen=True)
class Case:
    """A load, and the suite that bears it."""

    title: str
    bench: "Bench"
    users: int
    rate: float = 0.0  # plays a second; 0: without a pause

    @property
    def load(self) -> str:
        """What this suite has to bear."""
        most = "" if self.bench.batch_max == BATCH_MAX else ", one by one"
        return (f"{self.rate:g} a second" if self.rate else f"{self.users} users") + most


def _cases(arguments: argparse.Namespace, opened: ExitStack) -> list[Case]:
    def suite(
        name: str,
        *,
        batch_max: int = BATCH_MAX,
        root: Path = ROOT,
        settings: Mapping[str, str] = stack.NO_SETTINGS,
    ) -> Bench:
        say(f"starting {name}…")
        running = stack.running(name, batch_max=batch_max, root=root, settings=settings)
        return Bench(opened.enter_context(running), alone=arguments.alone, batch_max=batch_max)

    users, rates = arguments.users, arguments.rate
    if arguments.beside is not None or arguments.traces:
        benches = [suite("this tree")]
        if arguments.beside is not None:
            benches.append(suite("beside it", root=arguments.beside.resolve()))
        if arguments.traces:
            collector = opened.enter_context(sink.running())
        for ratio in arguments.traces:
            traced = {"OTLP_ENDPOINT": collector, "OTLP_SAMPLE_RATIO": str(ratio)}
            benches.append(suite(f"{ratio:.0%} traced", settings=traced))
        rate = rates[0] if rates else 0.0
        compared = [Case(bench.stack.name, bench, users[0], rate) for bench in benches]
    elif len(users) > 1 or rates or arguments.alone:
        one = suite("the suite")
        return [
            *(Case(f"{count} users", one, count) for count in (users if not rates else ())),
            *(Case(f"{rate:g} a second", one, max(users), rate) for rate in rates),
        ]
    else:
        names = [(f"BATCH_MAX={most}", most) for most in (BATCH_MAX, 1)]
        compared = [
            Case(name, suite(name, batch_max=batch_max), users[0]) for name, batch_max in names
        ]
    for case in compared:
        case.bench.beside = [other.bench.stack for other in compared if other is not case]
    return compared


class Bench:
    """A suite under load, those beside it watched; keeps count of all its awards."""

    def __init__(self, measured: Stack, *, alone: bool, batch_max: int) -> None:
        self.stack = measured
        self.batch_max = batch_max
        self.beside: Sequence[Stack] = ()
        self._alone = alone
        self._known = 0
        self._password = token_urlsafe(16)
        self._awards = 0
        self._unknown = 0

    def round(self, case: Case, seconds: float) -> Round:
        """One round; its users are made where they are new. Raises Broken."""
        load = Load(
            url=self.stack.url,
            users=case.users,
            known=self._known,
            password=self._password,
            action_type=ACTION_TYPE,
            points=POINTS,
            seconds=seconds,
            rate=case.rate,
            alone=self._alone,
        )
        with _driver() as driver:
            _tell(driver, msgspec.json.encode(load), within_s=_ENTER_S)
            self._known = max(self._known, case.users)
            flights = self.stack.flights()
            before, idle_s, busy_s = self.stack.cpu_s(), self._idle_s(), _busy_s()
            began_s = time.monotonic()
            answer = _tell(driver, b"go", within_s=seconds + _DRAIN_S)
            # What follows the last answers belongs to their cost.
            asyncio.run(self.stack.settled())
            after, idle_s = self.stack.cpu_s(), self._idle_s() - idle_s
            busy_s, took_s = _busy_s() - busy_s, time.monotonic() - began_s
        measured = msgspec.json.decode(answer, type=Measured)
        self._awards += measured.awards
        self._unknown += measured.unknown
        servers_s = {unit: after[unit] - was_s for unit, was_s in before.items()}
        return Round(
            measured=measured,
            cpu_s=servers_s,
            idle_cores=idle_s / took_s,
            foreign_cores=max(
                0.0, (busy_s - idle_s - sum(servers_s.values()) - measured.cpu_s) / took_s
            ),
            batches=_means(flights, self.stack.flights()),
        )

    def checked(self) -> Checked:
        """The ledger against what was answered."""
        books = asyncio.run(self.stack.books())
        return Checked(books=books, awards=self._awards, unknown=self._unknown, points=POINTS)

    def _idle_s(self) -> float:
        return sum(sum(other.cpu_s().values()) for other in self.beside)


@contextmanager
def _driver() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.driver"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as driver:
        try:
            yield driver
        finally:
            driver.kill()


def _tell(driver: subprocess.Popen[bytes], line: bytes, *, within_s: float) -> bytes:
    """What the driver says to this. Raises Broken."""
    if driver.stdin is None or driver.stdout is None:
        raise Broken("the driver has no pipes")
    watchdog = threading.Timer(within_s, driver.kill)
    watchdog.start()
    try:
        driver.stdin.write(line + b"\n")
        driver.stdin.flush()
        answer = driver.stdout.readline()
    except BrokenPipeError:
        answer = b""
    finally:
        watchdog.cancel()
    if not answer:
        raise Broken("the driver did not answer; what it wrote stands above")
    return answer


def _busy_s() -> float:
    """What all processors of the machine have worked."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _means(before: stack.Sizes, after: stack.Sizes) -> dict[str, float]:
    """The mean size of the batches that flew meanwhile, by batcher."""
    means = {}
    for name, (items, flights) in after.items():
        items_before, flights_before = before.get(name, (0.0, 0.0))
        if flights > flights_before:
            means[name] = (items - items_before) / (flights - flights_before)
    return means


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.award", description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[64], help="play at once (64)")
    parser.add_argument(
        "--rate",
        type=float,
        nargs="+",
        default=[],
        help="plays that begin a second, at random; instead of one after the other",
    )
    parser.add_argument(
        "--alone", action="store_true", help="the award of actions that were completed before"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measured, of each case (3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a round (8)")
    parser.add_argument("--warmup", type=float, default=4.0, help="seconds, of each suite (4)")
    parser.add_argument("--beside", type=Path, help="another tree of this code, instead of B")
    parser.add_argument(
        "--traces",
        type=float,
        nargs="+",
        default=[],
        metavar="RATIO",
        help="suites that trace this share of requests each, instead of B",
    )
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
