"""The contracts: the committed stubs are those their `.proto` files make."""

import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

from protos import actions_pb2, auth_pb2, fraud_pb2, realtime_pb2, scores_pb2
from protos.arrows import CALLERS

ROOT = Path(__file__).parent.parent
STUBS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")
CONTRACTS = (actions_pb2, auth_pb2, fraud_pb2, realtime_pb2, scores_pb2)


def test_the_committed_stubs_are_what_their_sources_make(tmp_path: Path) -> None:
    make_stubs(ROOT, tmp_path)

    assert stale(committed=ROOT / "protos", fresh=tmp_path / "protos") == []


def test_a_changed_contract_or_a_forgotten_stub_is_noticed(tmp_path: Path) -> None:
    changed, fresh = tmp_path / "changed", tmp_path / "fresh"
    (changed / "protos").mkdir(parents=True)
    fresh.mkdir()
    contract = changed / "protos" / "thing.proto"
    contract.write_text('syntax = "proto3"; package t; message Thing { int64 size = 1; }')
    make_stubs(changed, changed)
    contract.write_text('syntax = "proto3"; package t; message Thing { int64 width = 1; }')
    (changed / "protos" / "dropped_pb2.py").touch()
    make_stubs(changed, fresh)

    assert stale(committed=changed / "protos", fresh=fresh / "protos") == [
        "dropped_pb2.py",
        "thing_pb2.py",
        "thing_pb2.pyi",
    ]


def test_every_method_has_its_arrows_and_every_arrow_a_method() -> None:
    for contract in CONTRACTS:
        for service in contract.DESCRIPTOR.services_by_name.values():
            assert methods(service) == set(CALLERS[service.name.lower()]), service.name
    pool = descriptor_pool.Default()
    for unit in CALLERS:
        assert pool.FindServiceByName(f"scoreboard.{unit.capitalize()}")


def methods(service: ServiceDescriptor) -> set[str]:
    return {method.name for method in service.methods}


def make_stubs(root: Path, into: Path) -> None:
    """Makes the stubs of `root`/protos as `make protos` does, but below `into`."""
    sources = sorted(path.relative_to(root).as_posix() for path in root.glob("protos/*.proto"))
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *outputs, *sources],
        cwd=root,
        check=True,
        timeout=60,
    )


def stale(*, committed: Path, fresh: Path) -> list[str]:
    """Stubs that differ between the folders, or are in one of them only."""
    names = {path.name for folder in (committed, fresh) for s in STUBS for path in folder.glob(s)}
    return sorted(name for name in names if read(committed / name) != read(fresh / name))


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
