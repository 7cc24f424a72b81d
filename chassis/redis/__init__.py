"""Redis: one client for a server or a cluster, and what stands on it.

Read `client.py` (redis-py's commands over shared connections; scripts), then `link.py` (the
connection) and `cluster.py`. `stream.py` bounds a stream and reads it, `feed.py` a versioned
state from one, `lease.py` gives work to one process at a time.
"""

from chassis.redis.client import UNAVAILABLE, Call, Redis, Script, open_redis
from chassis.redis.link import Argument

__all__ = ["UNAVAILABLE", "Argument", "Call", "Redis", "Script", "open_redis"]
