"""The process from its start to its exit."""

import asyncio
import os
import signal
import sys
from functools import partial

from chassis.rpc import client, server
from chassis.settings import ProcessSettings
from chassis.testing import Certificates
from protos.arrows import callers
from protos.scores_pb2_grpc import add_ScoresServicer_to_server
from services.realtime.tests.gateway import attached
from services.realtime.tests.scores import FakeScores


async def test_the_process_ends_the_streams_of_gateways_and_exits_0(
    scores: FakeScores, certificates: Certificates, redis_url: str, unused_tcp_port: int
) -> None:
    async with server.running(
        partial(add_ScoresServicer_to_server, scores),
        settings=ProcessSettings(tls_dir=certificates.folder / "scores"),
        identity=certificates.identity("scores"),
        callers=callers("scores"),
        checks={},
    ) as scores_server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.realtime"),
            env={
                **os.environ,
                "PORT": str(unused_tcp_port),
                "TLS_DIR": str(certificates.folder / "realtime"),
                "REDIS_URL": redis_url,
                "SCORES_TARGET": f"127.0.0.1:{scores_server.port}",
            },
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout
            async with asyncio.timeout(20):
                while b'"ready"' not in await process.stdout.readline():
                    pass
            async with (
                client.open_channel(
                    f"127.0.0.1:{unused_tcp_port}",
                    unit="realtime",
                    identity=certificates.identity("gateway"),
                ) as channel,
                attached(channel, "leaderboard:all_time") as gateway,
            ):
                await scores.award(("ada", 50))
                await gateway.leads(50)
                process.send_signal(signal.SIGTERM)
                await gateway.until(lambda: gateway.ended)
                assert gateway.go_away == "draining"
            async with asyncio.timeout(10):
                await process.stdout.read()
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
