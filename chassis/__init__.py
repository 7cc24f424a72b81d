"""What every process needs and no domain knows."""

import os

# Read by gRPC's core when it is first loaded, which `chassis` always is before: its own log
# lines are not JSON, and we never fork.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
