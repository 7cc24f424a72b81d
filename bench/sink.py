"""A collector of traces that throws away what it gets, in a process whose CPU is not counted."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import grpc

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


@contextmanager
def running() -> Iterator[str]:
    """The URL of a collector, within the context."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.sink"],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101  It is a pipe.
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def main() -> None:
    """Listens until it is killed; says where."""
    export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda request, context: b""
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(SERVICE, {"Export": export})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"http://127.0.0.1:{port}\n")
    sys.stdout.flush()
    Event().wait()


if __name__ == "__main__":
    main()
