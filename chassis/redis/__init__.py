"""Redis: one client for a server or a cluster, and what stands on it.

Read `client.py` (redis-py's commands over shared connections; scripts), then `link.py` (the
connection) and `cluster.py`. `stream.py` reads a stream, `feed.py` a versioned state from one,
`lease.py` gives work to one process at a time.
"""

from chassis.redis.client import (
    UNAVAILABLE,
    Argument,
    Call,
    Command,
    Key,
    Redis,
    Script,
    open_redis,
)

__all__ = ["UNAVAILABLE", "Argument", "Call", "Command", "Key", "Redis", "Script", "open_redis"]
