"""Fixtures for all tests: a throwaway Postgres and Redis, certificates, fresh databases.

`DATABASE_URL` and `REDIS_URL`, where given, name servers to use instead; the former's
role must be allowed to create databases and roles, the latter's data is deleted.
"""

import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import NoOpTracer
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from chassis.process import allow_open_files
from chassis.redis import Redis, open_redis
from chassis.telemetry import export, traces
from chassis.testing import Certificates
from deploy import certificates as development
from deploy import databases
from local.servers import cluster
from local.servers import embedded as servers
from local.servers.binaries import find_redis

# Tests hold both ends of many connections at once, as the processes' own start allows for.
allow_open_files()

# What the code under test logs is shown for failed tests, from warnings up.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))

# How long a test takes says nothing on a machine that runs others beside it.
hypothesis.settings.register_profile(
    "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared")


class _Kept(SpanProcessor):
    """Keeps spans as they end."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


@pytest.fixture
def spans(request: pytest.FixtureRequest) -> Iterator[list[ReadableSpan]]:
    """Has requests sampled, all or the share given as parameter; the spans, as they end."""
    kept = _Kept()
    traces.configure(export.tracer("unit-x", kept), ratio=getattr(request, "param", 1))
    yield kept.spans
    traces.configure(NoOpTracer(), ratio=0)


UNITS = ("auth", "actions", "scores", "fraud", "realtime", "gateway")


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged, from information up."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("info"))
    with structlog.testing.capture_logs() as lines:
        yield lines
    structlog.configure(wrapper_class=before)


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Which tests run in one worker, so that what is set up for them is shared."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if not file.startswith("tests/") or file.count("/") == 1:
            return file
        # Those that end processes have suites of their own, all others share theirs.
        return next((own for own in ("faults", "rolling") if f"tests/{own}/" in file), "suites")


@pytest.hookimpl(optionalhook=True)  # only where there are workers
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduler:
    return Scheduler(config, log)


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """`missing("chromium")` skips the test for want of a program of this machine.

    Where MISSING_PROGRAMS is `fail` it fails the test: so no machine that can have them all
    leaves a test out unseen.
    """

    def end(program: str) -> NoReturn:
        reason = f"this machine has no {program}"
        if os.environ.get("MISSING_PROGRAMS") == "fail":
            pytest.fail(reason)
        pytest.skip(reason)

    return end


@pytest.fixture(scope="session")
def chromium(missing: Callable[[str], NoReturn]) -> str:
    """The path of a browser."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    return found or missing("chromium")


@pytest.fixture(scope="session")
def stores() -> Iterator[tuple[str, str]]:
    """The URLs of a throwaway Postgres (its superuser's) and Redis."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sb-")))
        postgres_url, redis_url = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
        folder.chmod(0o755)
        if not postgres_url:
            postgres_url = stack.enter_context(servers.postgres(folder / "postgres")).url
        if not redis_url:
            redis_url = stack.enter_context(servers.redis(folder / "redis")).url
        yield postgres_url, redis_url


@pytest.fixture(scope="session")
def redis_url(stores: tuple[str, str]) -> str:
    return stores[1]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an emptied Redis."""
    async with open_redis(redis_url) as client:
        await client.flushall()
        yield client


@pytest.fixture(scope="session")
def redis_nodes() -> Iterator[cluster.Cluster]:
    """Three nodes of a Redis Cluster, each with a third of the slots."""
    with tempfile.TemporaryDirectory(prefix="sb-") as folder:
        Path(folder).chmod(0o755)
        with cluster.running(Path(folder)) as nodes:
            yield nodes


@pytest.fixture
async def redis_cluster(redis_nodes: cluster.Cluster) -> AsyncIterator[Redis]:
    """A client of an emptied Redis Cluster."""
    async with open_redis(redis_nodes.url) as client:
        await client.flushall()
        yield client


@pytest.fixture
def own_redis(tmp_path: Path) -> Callable[[], AbstractContextManager[str]]:
    """`with own_redis() as url`: a Redis of this test alone, each time at the same address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    password = secrets.token_hex(8)

    @contextmanager
    def run() -> Iterator[str]:
        with servers.redis(tmp_path, port=port, password=password) as server:
            yield server.url

    return run


@pytest.fixture
def redis_binary() -> Path:
    """The program of `redis`, for a test of its options."""
    return find_redis()


class OwnPostgres:
    """A Postgres of one test file, which may be killed and started again where it was."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._folder = folder
        self._password = secrets.token_hex(8)
        self._running = ExitStack()
        self._runs = False
        self.start()

    def start(self) -> None:
        """Runs it, unless it runs."""
        if not self._runs:
            self._server = self._running.enter_context(
                servers.postgres(
                    self._folder, port=self._port, password=self._password, durable=True
                )
            )
            self._runs = True

    def kill(self) -> None:
        """Ends it at once, without a shutdown; what it had committed stays."""
        os.kill(self._server.process.pid, signal.SIGQUIT)
        self._server.process.wait()
        self.stop()

    def stop(self) -> None:
        """Ends it in order."""
        self._running.close()
        self._runs = False

    async def prepare(self, *units: str) -> dict[str, str]:
        """As `migrated` returns, of this server."""
        urls = await databases.prepare(self._server.url, dict.fromkeys(units, "test"))
        return {**urls, "admin": self._server.url}


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    """A Postgres that a test may `kill()` and `start()`; `await prepare("scores")` for its URLs."""
    folder = tmp_path_factory.mktemp("postgres")
    folder.chmod(0o755)
    own = OwnPostgres(folder)
    yield own
    own.stop()


@pytest.fixture(scope="session")
def new_database(stores: tuple[str, str]) -> Callable[[], Awaitable[str]]:
    """Makes an empty database and returns its URL, of a role that may do everything."""

    async def make() -> str:
        name = f"test_{secrets.token_hex(6)}"
        connection = await asyncpg.connect(stores[0], timeout=10)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return urlunsplit(urlsplit(stores[0])._replace(path=f"/{name}"))

    return make


@pytest.fixture(scope="session")
def migrated(
    new_database: Callable[[], Awaitable[str]],
) -> Callable[..., Awaitable[dict[str, str]]]:
    """`await migrated("scores", …)`: a fresh database with those services' schemas.

    Returns the URL for each service's own role, and under "admin" the superuser's.
    """

    async def make(*units: str) -> dict[str, str]:
        url = await new_database()
        # One password for all databases of the session: roles belong to the whole cluster.
        urls = await databases.prepare(url, dict.fromkeys(units, "test"))
        return {**urls, "admin": url}

    return make


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of every unit, by a CA of this session."""
    folder = tmp_path_factory.mktemp("certificates")
    development.make(folder, [*UNITS, "stranger"])
    return Certificates(folder=folder)


@pytest.fixture(scope="session")
def issue_certificates() -> Callable[[Path], None]:
    """`issue_certificates(folder)`: makes what is missing there of a CA and of every unit."""
    return lambda folder: development.make(folder, UNITS)
