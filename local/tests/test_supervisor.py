"""Tests of the supervisor, with small programs that stand in for the suite's."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from chassis.testing import eventually
from local import ports
from local.suite.processes import ROOT, Program
from local.suite.supervisor import Refused, Stopped, Supervisor

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
PATIENT = "import time; print('up', flush=True); time.sleep(60)"

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux ties children to their parent"
)


@dataclass
class Scene:
    """A supervisor, what it printed, and a clock that moves when it or the test waits."""

    folder: Path
    said: list[str] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.record = self.folder / "processes.json"
        self.supervisor = Supervisor(
            self.record,
            url="http://127.0.0.1:8080",
            say=self.said.append,
            clock=lambda: self.now,
            sleep=self.wait,
        )

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def program(self, name: str, code: str, grace_s: float = 10.0) -> Program:
        return Program(
            name=name,
            command=("-I", "-c", code),
            environment={},
            log=self.folder / "logs" / f"{name}.log",
            grace_s=grace_s,
            ports={"port": 1234},
        )

    def recorded(self) -> dict[str, dict[str, int]]:
        facts: dict[str, dict[str, int]] = json.loads(self.record.read_text())
        return facts

    async def up(self, program: Program) -> None:
        async def said_so() -> bool:
            return program.last_line() == "up"

        await eventually(said_so)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.supervisor.stop()


def test_a_part_that_keeps_dying_starts_again_after_pauses_that_grow(scene: Scene) -> None:
    part = scene.program("alpha", "print('for a reason'); raise SystemExit(3)")
    scene.supervisor.start(part)

    for pause_s in (0.5, 1, 2, 4, 8, 10, 10):
        part.process.wait()
        scene.supervisor.check()
        dead = part.process
        assert scene.said[-1] == (
            f"alpha ended with code 3: for a reason; it starts again in {pause_s:g} s"
        )
        scene.wait(pause_s - 0.01)
        scene.supervisor.check()
        assert part.process is dead
        scene.wait(0.01)
        scene.supervisor.check()
        assert part.process is not dead


def test_a_part_that_ran_for_half_a_minute_has_the_short_pause_again(scene: Scene) -> None:
    part = scene.program("alpha", "raise SystemExit(1)")
    scene.supervisor.start(part)
    for lived_s in (0, 29, 30):
        part.process.wait()
        scene.wait(lived_s)
        scene.supervisor.check()
        scene.wait(10)
        scene.supervisor.check()

    assert [line.rpartition(" in ")[2] for line in scene.said] == ["0.5 s", "1 s", "0.5 s"]


def test_a_part_that_cannot_even_start_is_tried_again_like_one_that_died(scene: Scene) -> None:
    part = scene.program("alpha", PATIENT)
    scene.supervisor.start(part)
    part.process.kill()
    part.process.wait()
    logs = part.log.parent
    logs.rename(scene.folder / "elsewhere")
    logs.touch()

    scene.supervisor.check()
    scene.wait(0.5)
    scene.supervisor.check()
    logs.unlink()
    scene.wait(1)
    scene.supervisor.check()

    assert scene.said[0] == "alpha was killed by SIGKILL; it starts again in 0.5 s"
    assert scene.said[1].startswith("alpha did not start: ")
    assert scene.said[1].endswith("; it starts again in 1 s")
    assert part.process.poll() is None


def test_the_record_names_what_runs_and_only_its_owner_reads_it(scene: Scene) -> None:
    alpha, beta = scene.program("alpha", PATIENT), scene.program("beta", PATIENT)
    scene.supervisor.add("redis", "redis://elsewhere")
    scene.supervisor.start(alpha, beta)

    assert scene.recorded() == {
        "url": "http://127.0.0.1:8080",
        "redis": {"url": "redis://elsewhere"},
        "alpha": {"pid": alpha.process.pid, "port": 1234},
        "beta": {"pid": beta.process.pid, "port": 1234},
    }
    assert scene.record.stat().st_mode & 0o777 == 0o600

    alpha.process.kill()
    alpha.process.wait()
    scene.supervisor.check()
    assert "alpha" not in scene.recorded()
    scene.wait(0.5)
    scene.supervisor.check()
    assert scene.recorded()["alpha"]["pid"] == alpha.process.pid

    scene.supervisor.stop()
    assert not scene.record.exists()


async def test_parts_stop_one_by_one_the_last_one_first(scene: Scene) -> None:
    order = scene.folder / "order"
    code = """
        import signal, sys, time
        def end(*_):
            time.sleep(0.1)
            with open({order!r}, "a") as order:
                order.write({name!r})
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        print("up", flush=True)
        time.sleep(60)
    """
    parts = [
        scene.program(name, textwrap.dedent(code).format(name=name, order=str(order)))
        for name in ("a", "b", "c")
    ]
    scene.supervisor.start(*parts)
    for part in parts:
        await scene.up(part)

    scene.supervisor.stop()

    assert order.read_text() == "cba"
    assert [part.process.returncode for part in parts] == [0, 0, 0]


async def test_a_part_that_does_not_end_in_time_is_killed(scene: Scene) -> None:
    part = scene.program("alpha", STUBBORN + PATIENT, grace_s=0.2)
    scene.supervisor.start(part)
    await scene.up(part)

    scene.supervisor.stop()

    assert part.process.returncode == -signal.SIGKILL


def test_readiness_is_awaited_and_a_part_that_ends_meanwhile_is_started_again(
    tmp_path: Path,
) -> None:
    port = ports.keep(tmp_path / "ports.json", ["alpha"])["alpha"]
    scene = Scene(tmp_path)
    # Dies the first time, serves the second.
    code = f"""
        import http.server, pathlib
        first = pathlib.Path({str(tmp_path / "first")!r})
        if not first.exists():
            first.touch()
            raise SystemExit(1)
        class Ready(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.path == "/readyz" else 404)
                self.end_headers()
        http.server.HTTPServer(("127.0.0.1", {port}), Ready).serve_forever()
    """
    part = scene.program("alpha", textwrap.dedent(code))
    part.ready_urls = [f"http://127.0.0.1:{port}/readyz"]
    said: list[str] = []
    with Supervisor(scene.record, url="", say=said.append) as supervisor:
        supervisor.start(part)
        supervisor.wait_until_ready()

        assert part.process.poll() is None
        assert len(said) == 1


def test_a_part_that_is_not_ready_in_time_is_named(scene: Scene) -> None:
    late = scene.program("late", PATIENT)
    port = ports.keep(scene.folder / "ports.json", ["late"])["late"]
    late.ready_urls = [f"http://127.0.0.1:{port}/readyz"]
    scene.supervisor.start(scene.program("early", PATIENT), late)

    with pytest.raises(Refused, match=r"^not ready within 60 s: late$"):
        scene.supervisor.wait_until_ready()


def test_nothing_is_started_once_the_end_was_requested(scene: Scene) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        scene.supervisor.stop_by(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Stopped):
            scene.supervisor.start(scene.program("alpha", PATIENT))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_long_log_begins_again_and_the_old_one_is_kept(scene: Scene) -> None:
    part = scene.program("alpha", "print('new')")
    part.log.parent.mkdir()
    part.log.write_bytes(b"old\n" * 2_500_001)

    scene.supervisor.start(part)
    part.process.wait()

    assert part.log.read_text() == "new\n"
    assert part.log.with_suffix(".log.1").stat().st_size == 10_000_004


def test_a_program_gets_nothing_of_our_environment(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://mine")
    part = scene.program("alpha", "import os; print('DATABASE_URL' in os.environ)")

    scene.supervisor.start(part)
    part.process.wait()

    assert part.last_line() == "False"


class Running:
    """A supervisor in a process of its own, with a part that ignores SIGTERM."""

    def __init__(self, folder: Path) -> None:
        program = """
            import sys
            from pathlib import Path
            from signal import SIGINT, SIGTERM
            from local.suite.processes import Program
            from local.suite.supervisor import Supervisor
            folder = Path(sys.argv[1])
            def part(name, code, grace_s):
                return Program(name=name, command=("-I", "-c", code), environment={},
                    log=folder / name, grace_s=grace_s)
            with Supervisor(folder / "processes.json", url="", say=print) as supervisor:
                supervisor.stop_by(SIGINT, SIGTERM)
                supervisor.start(part("patient", sys.argv[2], 60), part("stubborn", sys.argv[3], 1))
                supervisor.run()
        """
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), folder, PATIENT, STUBBORN + PATIENT],
            cwd=ROOT,
        )

    async def children(self) -> list[psutil.Process]:
        """Both parts, once they do what they are for."""

        async def up() -> bool:
            logs = [self.folder / "patient", self.folder / "stubborn"]
            return all(log.exists() and log.read_text() == "up\n" for log in logs)

        await eventually(up)
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


async def test_the_first_signal_stops_all_in_order(running: Running) -> None:
    children = await running.children()
    running.process.terminate()

    assert running.process.wait(20) == 0
    assert len(children) == 2
    assert not [child for child in children if child.is_running()]
    assert not (running.folder / "processes.json").exists()


async def test_two_signals_at_once_count_as_one(running: Running) -> None:
    await running.children()
    running.process.send_signal(signal.SIGINT)
    running.process.send_signal(signal.SIGTERM)

    assert running.process.wait(20) == 0


async def test_the_second_signal_kills_everything_at_once(running: Running) -> None:
    children = await running.children()
    children[0].suspend()
    running.process.terminate()
    # The one that runs has ended, the suspended one is waited for: for a minute, if need be.
    assert psutil.wait_procs(children[1:], timeout=10)[1] == []

    running.process.terminate()

    assert running.process.wait(5) == 1
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert not (running.folder / "processes.json").exists()


@linux_only
async def test_a_supervisor_killed_leaves_nothing(running: Running) -> None:
    children = await running.children()
    running.process.kill()

    assert psutil.wait_procs(children, timeout=10)[1] == []
