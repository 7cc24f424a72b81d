"""Certificates that change while they are in use, on both sides of a connection."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from chassis import clock
from chassis.errors import Unavailable
from chassis.rpc import client, server, tls
from chassis.settings import ProcessSettings
from chassis.testing import eventually
from chassis.tests.gate import Gate, gate_to

SHOW, STREAM = "/scoreboard.Mirror/Show", "/scoreboard.Mirror/Stream"
WHO = dict.fromkeys((SHOW, STREAM), frozenset({"gateway"}))

Issue = Callable[[Path], None]


class Mirror:
    """Returns the certificate that the caller showed."""

    def __init__(self) -> None:
        self.streams = 0
        self.held = asyncio.Event()
        self.release = asyncio.Event()

    async def show(self, request: bytes, context: Any) -> bytes:
        if request == b"hold":
            self.held.set()
            await self.release.wait()
        return shown(context)

    async def stream(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        self.streams += 1
        yield shown(context)
        await asyncio.Event().wait()

    def register(self, target: grpc.aio.Server) -> None:
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Show": grpc.unary_unary_rpc_method_handler(self.show),
            "Stream": grpc.stream_stream_rpc_method_handler(self.stream),
        }
        target.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("scoreboard.Mirror", methods)]
        )


def shown(context: Any) -> bytes:
    return bytes(context.auth_context()["x509_pem_cert"][0]).strip()


@pytest.fixture
def folder(tmp_path: Path, issue_certificates: Issue) -> Path:
    """Certificates of this test alone."""
    issue_certificates(tmp_path / "tls")
    return tmp_path / "tls"


@pytest.fixture
def renew(folder: Path, issue_certificates: Issue) -> Callable[[str], bytes]:
    """`renew(unit)`: gives it another certificate of the same CA, and returns that."""

    def again(unit: str) -> bytes:
        (folder / unit / "tls.key").unlink()
        issue_certificates(folder)
        return (folder / unit / "tls.crt").read_bytes().strip()

    return again


@pytest.fixture
def trust_another_ca(
    folder: Path, tmp_path: Path, issue_certificates: Issue
) -> Callable[..., Path]:
    """`trust_another_ca("auth")`: those units trust a second CA; returns its certificates."""

    def trust(*units: str) -> Path:
        other = tmp_path / "other"
        issue_certificates(other)
        for unit in units:
            both = (folder / unit / "ca.crt").read_bytes() + (other / unit / "ca.crt").read_bytes()
            (folder / unit / "ca.crt").write_bytes(both)
        return other

    return trust


def served(mirror: Mirror, identity: tls.Identity) -> AbstractAsyncContextManager[server.Running]:
    return server.running(
        mirror.register,
        settings=ProcessSettings(tls_dir=Path()),
        identity=identity,
        callers=WHO,
        checks={},
    )


@asynccontextmanager
async def connected(
    folder: Path, *, drain_s: float = 30.0
) -> AsyncIterator[tuple[Mirror, tls.Identity, tls.Identity, grpc.aio.Channel]]:
    """A mirror served by auth, the identities of auth and gateway, and gateway's channel."""
    mirror = Mirror()
    auth, gateway = tls.Identity(folder / "auth"), tls.Identity(folder / "gateway", drain_s=drain_s)
    async with (
        served(mirror, auth) as running,
        client.open_channel(f"127.0.0.1:{running.port}", unit="auth", identity=gateway) as channel,
    ):
        yield mirror, auth, gateway, channel


async def show(channel: grpc.aio.Channel, request: bytes = b"") -> bytes:
    method: Any = channel.unary_unary(SHOW)
    certificate: bytes = await method(request)
    return certificate


async def shows(channel: grpc.aio.Channel, certificate: bytes) -> None:
    """Returns when the channel's calls show that certificate."""

    async def has_moved() -> bool:
        return await show(channel) == certificate

    await eventually(has_moved)


def metric(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None
    return found


def end_of(path: Path) -> float:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()


# ---- the files ----


def test_changed_files_are_taken_and_counted(folder: Path, renew: Callable[[str], bytes]) -> None:
    identity = tls.Identity(folder / "auth")
    before = metric("tls_reloads_total")

    identity.check()
    assert metric("tls_reloads_total") == before, "nothing has changed"
    renewed = renew("auth")
    identity.check()

    assert identity.files.certificate.strip() == renewed
    assert metric("tls_reloads_total") == before + 1


def test_metrics_show_the_end_of_the_certificate_and_of_the_first_ca(
    folder: Path, trust_another_ca: Callable[..., Path]
) -> None:
    with clock.ahead(-timedelta(days=100).total_seconds()):
        other = trust_another_ca("auth")

    tls.Identity(folder / "auth")

    expected = {"own": end_of(folder / "auth" / "tls.crt"), "ca": end_of(other / "ca" / "tls.crt")}
    for certificate, at_s in expected.items():
        assert metric("tls_certificate_expires_seconds", certificate=certificate) == at_s


def another_key(folder: Path, issue: Issue) -> None:
    shutil.copy(folder.parent / "gateway" / "tls.key", folder / "tls.key")


def half_a_certificate(folder: Path, issue: Issue) -> None:
    whole = (folder / "tls.crt").read_bytes()
    (folder / "tls.crt").write_bytes(whole[: len(whole) // 2])


def no_pem_in_trust(folder: Path, issue: Issue) -> None:
    (folder / "ca.crt").write_bytes(b"not yet\n")


def no_pem_in_key(folder: Path, issue: Issue) -> None:
    (folder / "tls.key").write_bytes(b"")


def a_missing_file(folder: Path, issue: Issue) -> None:
    (folder / "ca.crt").unlink()


def an_expired_certificate(folder: Path, issue: Issue) -> None:
    with clock.ahead(-timedelta(days=366).total_seconds()):
        issue(folder.parent.parent / "past")
    shutil.copytree(folder.parent.parent / "past" / "auth", folder, dirs_exist_ok=True)


def a_certificate_of_the_future(folder: Path, issue: Issue) -> None:
    with clock.ahead(3600):
        issue(folder.parent.parent / "future")
    shutil.copytree(folder.parent.parent / "future" / "auth", folder, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (another_key, "tls.key: is not the key of the certificate"),
        (half_a_certificate, "tls.crt: is no certificate in PEM"),
        (no_pem_in_trust, "ca.crt: is no certificate in PEM"),
        (no_pem_in_key, "tls.key: is no private key in PEM"),
        (a_missing_file, "ca.crt: No such file"),
        (an_expired_certificate, "tls.crt: is valid from"),
        (a_certificate_of_the_future, "tls.crt: is valid from"),
    ],
)
def test_files_that_do_not_fit_are_kept_out_said_once_and_read_again(
    folder: Path,
    renew: Callable[[str], bytes],
    issue_certificates: Issue,
    spoil: Callable[[Path, Issue], None],
    says: str,
) -> None:
    identity = tls.Identity(folder / "auth")
    before = identity.files
    reloads = metric("tls_reloads_total")
    renew("auth")  # so that there is something to take
    shutil.copytree(folder / "auth", folder / "whole")
    spoil(folder / "auth", issue_certificates)

    with capture_logs() as lines:
        identity.check()
        assert lines == [], "it may be half written"
        for _ in range(3):
            identity.check()

    assert identity.files is before
    assert metric("tls_reloads_total") == reloads
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("certificates_refused", "error")
    ]
    assert says in lines[0]["problem"]
    with pytest.raises(tls.Unfit, match=says):
        tls.Identity(folder / "auth")

    shutil.copytree(folder / "whole", folder / "auth", dirs_exist_ok=True)
    identity.check()
    assert identity.files == tls.Files.read(folder / "whole")


async def test_a_process_follows_its_folder_as_the_kubelet_swaps_it(
    folder: Path, renew: Callable[[str], bytes], tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    shutil.copytree(folder / "auth", mount / "..1")
    (mount / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (mount / name).symlink_to(f"..data/{name}")
    settings = ProcessSettings(tls_dir=mount, tls_check_s=0.01, drain_s=7)

    async with tls.open_identity(settings) as identity:
        assert identity.drain_s == 7
        before = identity.files
        renewed = renew("auth")
        shutil.copytree(folder / "auth", mount / "..2")
        (mount / "..new").symlink_to("..2")
        (mount / "..new").rename(mount / "..data")
        async with asyncio.timeout(5):
            await identity.until_other_than(before)

    assert identity.files.certificate.strip() == renewed


# ---- servers ----


async def certificate_of(port: int, folder: Path) -> bytes:
    """What the server shows at a new handshake, to a caller of that folder."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="auth"
    )
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return ssl.DER_cert_to_PEM_cert(shown).encode().strip()


async def test_a_server_shows_its_present_certificate_from_the_first_handshake_on(
    folder: Path, renew: Callable[[str], bytes]
) -> None:
    auth = tls.Identity(folder / "auth")
    async with served(Mirror(), auth) as running:
        for _ in range(2):
            renewed = renew("auth")
            auth.check()
            assert await certificate_of(running.port, folder / "gateway") == renewed


async def test_a_server_goes_by_its_present_trust(
    folder: Path, trust_another_ca: Callable[..., Path]
) -> None:
    other = trust_another_ca("gateway")
    auth = tls.Identity(folder / "auth")
    async with served(Mirror(), auth) as running:
        target = f"127.0.0.1:{running.port}"
        mine, others = tls.Identity(folder / "gateway"), tls.Identity(other / "gateway")
        # One CA is replaced by the other, on the server alone.
        shutil.copytree(other / "auth", folder / "auth", dirs_exist_ok=True)
        async with client.open_channel(target, unit="auth", identity=mine) as channel:
            assert await show(channel)
            auth.check()
            assert await show(channel), "a connection that is there goes on"
        async with client.open_channel(target, unit="auth", identity=mine) as late:
            with pytest.raises(Unavailable):
                await show(late)
        async with client.open_channel(target, unit="auth", identity=others) as channel:
            assert await show(channel)


# ---- channels ----


async def test_a_channel_moves_to_the_new_certificate(
    folder: Path, renew: Callable[[str], bytes]
) -> None:
    async with connected(folder) as (_, _, gateway, channel):
        assert await show(channel) == gateway.files.certificate.strip()
        renewed = renew("gateway")
        gateway.check()

        await shows(channel, renewed)


async def test_a_channel_of_several_changes_ends_with_the_last(
    folder: Path, renew: Callable[[str], bytes]
) -> None:
    async with connected(folder) as (_, _, gateway, channel):
        for _ in range(5):
            renewed = renew("gateway")
            gateway.check()
            await asyncio.sleep(0)

        await shows(channel, renewed)


@asynccontextmanager
async def gate_before(port: int) -> AsyncIterator[Gate]:
    async with gate_to(partial(asyncio.open_connection, "127.0.0.1", port)) as gate:
        yield gate


async def test_a_channel_keeps_its_connections_until_the_new_ones_are_ready(
    folder: Path, trust_another_ca: Callable[..., Path]
) -> None:
    other = trust_another_ca("gateway")
    auth, gateway = tls.Identity(folder / "auth"), tls.Identity(folder / "gateway")
    async with (
        served(Mirror(), auth) as running,
        gate_before(running.port) as gate,
        client.open_channel(f"127.0.0.1:{gate.port}", unit="auth", identity=gateway) as channel,
    ):
        before = await show(channel)
        # A certificate that auth does not trust yet.
        for name in ("tls.key", "tls.crt"):
            shutil.copy(other / "gateway" / name, folder / "gateway" / name)
        gateway.check()

        async def has_tried_twice() -> bool:
            assert await show(channel) == before
            return gate.arrivals >= 3

        await eventually(has_tried_twice)
        with (folder / "auth" / "ca.crt").open("ab") as trusted:
            trusted.write((other / "auth" / "ca.crt").read_bytes())
        auth.check()

        await shows(channel, (other / "gateway" / "tls.crt").read_bytes().strip())


async def test_a_certificate_that_peers_refuse_gives_way_to_the_next(
    folder: Path, trust_another_ca: Callable[..., Path], issue_certificates: Issue
) -> None:
    other = trust_another_ca("gateway")
    auth, gateway = tls.Identity(folder / "auth"), tls.Identity(folder / "gateway")
    async with (
        served(Mirror(), auth) as running,
        client.open_channel(f"127.0.0.1:{running.port}", unit="auth", identity=gateway) as channel,
    ):
        before = await show(channel)
        for name in ("tls.key", "tls.crt"):
            shutil.copy(other / "gateway" / name, folder / "gateway" / name)
        gateway.check()
        assert await show(channel) == before
        issue_certificates(folder)
        gateway.check()

        async def has_moved() -> bool:
            shown = await show(channel)
            assert shown in (before, gateway.files.certificate.strip())
            return shown != before

        await eventually(has_moved)


async def test_a_channel_that_cannot_connect_moves_at_once(
    folder: Path, trust_another_ca: Callable[..., Path]
) -> None:
    other = trust_another_ca("gateway")
    gateway = tls.Identity(folder / "gateway")
    async with (
        served(Mirror(), tls.Identity(other / "auth")) as running,
        gate_before(running.port) as gate,
        client.open_channel(f"127.0.0.1:{gate.port}", unit="auth", identity=gateway) as channel,
    ):
        with pytest.raises(Unavailable):
            await show(channel)
        shutil.copytree(other / "gateway", folder / "gateway", dirs_exist_ok=True)
        gate.answering.clear()  # so that the new connections do not get ready
        gateway.check()

        async def waits() -> asyncio.Task[bytes] | None:
            """A call that does not fail at once."""
            call = asyncio.create_task(show(channel))
            await asyncio.wait([call], timeout=0.5)
            return None if call.done() and call.exception() else call

        call = await eventually(waits)
        gate.answering.set()
        assert call is not None
        assert await call == gateway.files.certificate.strip()


async def test_a_call_in_flight_ends_on_the_connection_that_it_began_on(
    folder: Path, renew: Callable[[str], bytes]
) -> None:
    async with connected(folder) as (mirror, _, gateway, channel):
        before = gateway.files.certificate.strip()
        call = asyncio.create_task(show(channel, b"hold"))
        await mirror.held.wait()
        renewed = renew("gateway")
        gateway.check()
        await shows(channel, renewed)
        mirror.release.set()

        assert await call == before


async def test_a_call_that_outlasts_the_time_to_drain_fails_as_unavailable(
    folder: Path, renew: Callable[[str], bytes]
) -> None:
    async with connected(folder, drain_s=0.01) as (mirror, _, gateway, channel):
        call = asyncio.create_task(show(channel, b"hold"))
        await mirror.held.wait()
        renew("gateway")
        gateway.check()

        with pytest.raises(Unavailable):
            await call
        mirror.release.set()


async def test_a_stream_ends_for_its_reader_who_calls_again(
    folder: Path, renew: Callable[[str], bytes]
) -> None:
    async with connected(folder, drain_s=0.1) as (mirror, _, gateway, channel):
        stream: Any = channel.stream_stream(STREAM)
        first = stream()
        assert await first.read() == gateway.files.certificate.strip()
        renewed = renew("gateway")
        gateway.check()

        async with asyncio.timeout(5):
            assert await first.read() is grpc.aio.EOF
            assert await stream().read() == renewed
        assert mirror.streams == 2


async def test_a_reader_that_is_cancelled_is_cancelled(folder: Path) -> None:
    async with connected(folder) as (_, _, _, channel):
        stream: Any = channel.stream_stream(STREAM)
        call = stream()
        await call.read()
        reading = asyncio.create_task(call.read())
        await asyncio.sleep(0)
        reading.cancel()

        with pytest.raises(asyncio.CancelledError):
            await reading
        call.cancel()
