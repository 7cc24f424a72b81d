"""Two replicas of every unit behind a balancer, each restarted by itself, as a cluster does it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGTERM
from typing import Any

from chassis.testing import eventually
from deploy import certificates, redis_users, secrets
from deploy.units import UNITS, module, targets
from local import ports
from local.settings import Settings
from local.suite import admin, processes, stores, units
from local.suite.processes import Program
from tests.suite import Suite
from tests.watching import Line

REPLICAS = ("a", "b")
READY_S = 60.0
GRACE_S = 10.0  # beyond the pause and the time to drain, as the manifests have it
PROBE_S = 0.1  # between two looks at a gateway's readiness
RENEW = "renew"
ROTATION = (RENEW, *certificates.STEPS)  # of every unit's own certificate, then of the CA
_PORTS = [f"{unit}-{replica}" for unit in UNITS for replica in REPLICAS]

# What every unit is given. The pause is long enough for the balancer to see who is not ready.
SETTINGS = {
    "SCOREBOARD_LIMITS": "off",
    "SCOREBOARD_BCRYPT_COST": "4",
    "DRAIN_PAUSE_S": "0.5",
    "TLS_CHECK_S": "0.5",
    "DRAIN_S": "4",
}


@dataclass(frozen=True)
class Replica:
    """One process of a unit."""

    unit: str
    program: Program

    @property
    def ready_url(self) -> str:
        return self.program.ready_urls[0]

    async def status(self) -> int | None:
        """The status of `/readyz`; None where nothing responds."""
        return await asyncio.to_thread(processes.status, self.ready_url)

    async def ready(self) -> None:
        """Returns once it serves. Raises AssertionError where it ended or takes too long."""

        async def serves() -> bool:
            code = self.program.process.poll()
            assert code is None, f"ended with {code}: {self.program.last_line()}"
            return await self.status() == 200

        await eventually(serves, timeout_s=READY_S, pause_s=0.05)

    async def ended(self) -> int:
        """The exit code. Raises TimeoutError beyond its grace."""
        return await asyncio.to_thread(self.program.process.wait, self.program.grace_s)

    async def restart(self) -> float:
        """Lets it end, starts it again, returns after how many seconds it was ready."""
        since = time.monotonic()
        self.program.process.send_signal(SIGTERM)
        assert await self.ended() == 0, self.program.last_line()
        self.program.start()
        await self.ready()
        return time.monotonic() - since

    def give_certificates(self, folder: Path) -> None:
        """Writes what `folder` holds where the process looks for it, as a mount is updated."""
        mount = Path(self.program.environment["TLS_DIR"])
        mount.mkdir(exist_ok=True)
        for path in folder.iterdir():
            secrets.write(mount / path.name, path.read_text())

    def certificates_read_at(self) -> datetime:
        """When a process of this replica last took certificates into use."""
        lines = self.program.log.read_text().splitlines()
        line = next(line for line in reversed(lines) if '"certificates_read"' in line)
        return datetime.fromisoformat(json.loads(line)["timestamp"])

    def lines(self) -> list[dict[str, Any]]:
        """What the process that runs now, or ran last, has logged."""
        text = self.program.log.read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        starts = [i for i, line in enumerate(lines) if line["event"] == "ready"]
        return lines[starts[-1] :] if starts else lines


@dataclass(kw_only=True)
class Deployment:
    """All replicas, and the balancer that is their public address."""

    suite: Suite
    replicas: list[Replica]
    balancer: Line = field(repr=False)

    def of(self, unit: str) -> list[Replica]:
        return [replica for replica in self.replicas if replica.unit == unit]

    async def take(self, step: str) -> None:
        """Takes a step of `python -m deploy certificates` for all units; returns when all of
        their processes have read its outcome."""
        folder = self.suite.folder() / "tls"
        if step == RENEW:
            for unit in UNITS:  # else there is nothing to renew
                (folder / unit / "tls.key").unlink()
            certificates.make(folder, UNITS)
        else:
            # At once, since what follows waits until all have read it.
            certificates.take(folder, UNITS, step, read_within=timedelta())
        at = datetime.now(UTC)
        for replica in self.replicas:
            replica.give_certificates(folder / replica.unit)

        async def read() -> bool:
            return all(replica.certificates_read_at() > at for replica in self.replicas)

        await eventually(read, timeout_s=READY_S, pause_s=0.2)

    async def balance(self) -> None:
        """Sends new connections to the gateways that are ready, forever; others are left alone."""
        gateways = self.of("gateway")
        while True:
            states = await asyncio.gather(*(gateway.status() for gateway in gateways))
            self.balancer.targets = [
                f"http://127.0.0.1:{gateway.program.ports['port']}"
                for gateway, state in zip(gateways, states, strict=True)
                if state == 200
            ]
            await asyncio.sleep(PROBE_S)


@asynccontextmanager
async def deployed(
    folder: Path, *, database_urls: Mapping[str, str], redis_url: str, **settings: str
) -> AsyncIterator[Deployment]:
    """A deployment, ready, of migrated databases and an empty Redis.

    `database_urls` are by unit, and the superuser's as "admin"; `settings` go to every unit.
    """
    line = Line()
    async with line.open():
        url = line.url
        _prepare(folder, database_urls, redis_url)
        port_of = ports.keep(folder / "replicas.json", [*_PORTS, *(f"{n}-ops" for n in _PORTS)])
        given = SETTINGS | {"ISSUER": url} | {name.upper(): text for name, text in settings.items()}
        replicas = [
            Replica(unit, _program(unit, replica, folder, port_of, given))
            for unit in UNITS
            for replica in REPLICAS
        ]
        suite = Suite(url=url, data_dir=folder, admin_file=folder / "admin.json")
        _record(folder, url, database_urls["admin"], redis_url)
        with _ended(replicas):
            for replica in replicas:
                replica.give_certificates(folder / "tls" / replica.unit)
                replica.program.start()
            admin.ensure(folder / "admin.json", given=replicas[0].program.environment, again=False)
            await asyncio.gather(*(replica.ready() for replica in replicas))
            deployment = Deployment(suite=suite, replicas=replicas, balancer=line)
            balancing = asyncio.create_task(deployment.balance())
            await eventually(lambda: _both(deployment))
            try:
                yield deployment
            finally:
                balancing.cancel()
                with suppress(asyncio.CancelledError):
                    await balancing


async def _both(deployment: Deployment) -> bool:
    return len(deployment.balancer.targets) == len(REPLICAS)


def _prepare(folder: Path, database_urls: Mapping[str, str], redis_url: str) -> None:
    """Lays out what `make run` would, so that operators' commands find their settings."""
    secrets.make(folder / "secrets", passwords=stores.PASSWORDS)
    for unit in redis_users.UNITS:
        secrets.write(folder / "secrets" / f"{unit}_redis_url", redis_url)
    for unit, url in database_urls.items():
        secrets.write(folder / "secrets" / f"{unit}_database_url", url)
    certificates.make(folder / "tls", UNITS)
    (folder / "mounts").mkdir()
    ports.keep(folder / "ports.json", units.PORT_NAMES)


def _program(
    unit: str, replica: str, folder: Path, port_of: Mapping[str, int], given: Mapping[str, str]
) -> Program:
    name = f"{unit}-{replica}"
    places = units.Places(data_dir=folder, ports=dict.fromkeys(units.PORT_NAMES, 0))
    own = {
        "PORT": str(port_of[name]),
        "OPS_PORT": str(port_of[f"{name}-ops"]),
        "TLS_DIR": str(folder / "mounts" / name),
    }
    for other in targets(unit):
        addresses = ",".join(f"127.0.0.1:{port_of[f'{other}-{each}']}" for each in REPLICAS)
        own[f"{other.upper()}_TARGET"] = f"ipv4:{addresses}"
    environment = {**units.environment(unit, Settings(data_dir=folder), places), **given, **own}
    drain_s = float(environment["DRAIN_PAUSE_S"]) + float(environment["DRAIN_S"])
    return Program(
        name=name,
        command=("-m", module(unit)),
        environment=environment,
        log=folder / "logs" / f"{name}.log",
        grace_s=drain_s + GRACE_S,
        ports={"port": port_of[name], "ops_port": port_of[f"{name}-ops"]},
        ready_urls=[f"http://127.0.0.1:{port_of[f'{name}-ops']}/readyz"],
    )


def _record(folder: Path, url: str, postgres_url: str, redis_url: str) -> None:
    record = {"url": url, "postgres": {"url": postgres_url}, "redis": {"url": redis_url}}
    secrets.write(folder / "processes.json", json.dumps(record))


@contextmanager
def _ended(replicas: list[Replica]) -> Iterator[None]:
    """Within it they may run; at its end none does."""
    try:
        yield
    finally:
        for replica in reversed(replicas):
            with suppress(AttributeError):  # never started
                replica.program.process.kill()
                replica.program.process.wait()
