"""`make bench`: what an award costs, with batching and without, measured in turns.

Two suites run side by side, one with batches as they come, one with batches of one item;
or, told of another tree, one of this tree and one of that.
The same users play on one, then on the other, over and over; what each process used
meanwhile, over the awards answered rightly, is the cost of an award.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from secrets import token_urlsafe

import msgspec
import psutil

from bench import stack
from bench.driver import Load, Measured
from bench.report import Checked, Report, Round
from bench.stack import ACTION_TYPE, POINTS, Broken, Stack

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
BATCHES = (256, 1)
_ENTER_S = 60.0  # for all users to log in
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
    suites = _suites(arguments.beside)
    with ExitStack() as opened:
        say("starting two suites…")
        stacks = [
            opened.enter_context(stack.running(name, batch_max=batch_max, root=root))
            for name, (_, batch_max, root) in zip("AB", suites, strict=True)
        ]
        benches = [Bench(each, stacks, users=arguments.users) for each in stacks]
        for bench in benches:
            say(f"warming up {bench.stack.name}…")
            asyncio.run(bench.stack.make_action_type())
            bench.round(arguments.warmup)
        rounds: dict[str, list[Round]] = {each.name: [] for each in stacks}
        for number in range(1, arguments.rounds + 1):
            for bench in benches:
                measured = bench.round(arguments.seconds)
                rounds[bench.stack.name].append(measured)
                say(f"round {number} {bench.stack.name}: {measured.summary()}")
        return Report(
            started=started,
            command=["bench.award", *sys.argv[1:]],
            users=arguments.users,
            seconds=arguments.seconds,
            titles=[
                f"{each.name}: {title}" for each, (title, *_) in zip(stacks, suites, strict=True)
            ],
            rounds=list(rounds.values()),
            books=[bench.checked() for bench in benches],
            versions=asyncio.run(stacks[0].versions()),
        )


def _suites(beside: Path | None) -> list[tuple[str, int, Path]]:
    """Title, largest batch and tree of the two."""
    if beside is not None:
        return [("this tree", BATCHES[0], ROOT), ("beside it", BATCHES[0], beside.resolve())]
    return [(f"BATCH_MAX={batch_max}", batch_max, ROOT) for batch_max in BATCHES]


class Bench:
    """A suite under load, its neighbours watched; keeps count of all its awards."""

    def __init__(self, measured: Stack, all_stacks: list[Stack], *, users: int) -> None:
        self.stack = measured
        self._all = all_stacks
        self._users = users
        self._password = token_urlsafe(16)
        self._awards = 0
        self._unknown = 0

    def round(self, seconds: float) -> Round:
        """One round; the users are made by the first. Raises Broken."""
        load = Load(
            url=self.stack.url,
            users=self._users,
            new=self._awards == 0,
            password=self._password,
            action_type=ACTION_TYPE,
            points=POINTS,
            seconds=seconds,
        )
        with _driver() as driver:
            _tell(driver, msgspec.json.encode(load), within_s=_ENTER_S)
            flights = self.stack.flights()
            before, busy_s, began_s = self._used(), _busy_s(), time.monotonic()
            answer = _tell(driver, b"go", within_s=seconds + _DRAIN_S)
            # What follows the last answers belongs to their cost.
            asyncio.run(self.stack.settled())
            after, busy_s, took_s = self._used(), _busy_s() - busy_s, time.monotonic() - began_s
        measured = msgspec.json.decode(answer, type=Measured)
        self._awards += measured.awards
        self._unknown += measured.unknown
        used = {
            name: {unit: after[name][unit] - was_s for unit, was_s in before[name].items()}
            for name in before
        }
        servers_s = used.pop(self.stack.name)
        idle_s = sum(sum(of_unit.values()) for of_unit in used.values())
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

    def _used(self) -> dict[str, dict[str, float]]:
        return {each.name: each.cpu_s() for each in self._all}


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
    parser.add_argument("--users", type=int, default=64, help="who play at once (64)")
    parser.add_argument("--rounds", type=int, default=3, help="measured, of each suite (3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a round (8)")
    parser.add_argument("--warmup", type=float, default=4.0, help="seconds, of each suite (4)")
    parser.add_argument("--beside", type=Path, help="another tree of this code, instead of B")
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
