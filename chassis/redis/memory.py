"""How much memory the nodes of Redis use, and how much they may."""

from prometheus_client import Gauge
from redis.exceptions import RedisError

from chassis.redis.client import Redis
from chassis.telemetry import log

_used = Gauge("redis_memory_used_bytes", "Memory that the node uses", ["node"])
_max = Gauge("redis_memory_max_bytes", "Its maxmemory; 0: it has none", ["node"])


class MemoryMeter:
    """Measures all nodes, by address. One that does not answer has no measurement."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.nodes: set[str] = set()

    async def measure(self) -> None:
        """Measures once."""
        try:
            answers = await self._redis.each(("INFO", "memory"))
        except RedisError as error:
            log.warning("redis_memory_unmeasured", error=repr(error))
            answers = {}
        measured = {node: about for node, about in answers.items() if isinstance(about, dict)}
        for node, about in measured.items():
            _used.labels(node).set(about["used_memory"])
            _max.labels(node).set(about["maxmemory"])
        for node in self.nodes - measured.keys():
            # What it used is no measure of what it uses, and it may never return.
            _used.remove(node)
            _max.remove(node)
        self.nodes = set(measured)
