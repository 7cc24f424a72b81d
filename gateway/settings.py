"""The settings of the gateway."""

from dataclasses import dataclass, field
from typing import Annotated

from chassis.keyring import Keyring
from chassis.settings import Between, Named, OneOf, ProcessSettings
from gateway.edge.addresses import Proxies
from gateway.edge.limits import RequestLimits
from gateway.live.limits import LiveLimits

NO_PROXIES = Proxies("")


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    """`port` is the public one, plain HTTP: TLS ends at the load balancer before it."""

    redis_url: str  # Redis, or a cluster of it
    auth_target: str  # host:port of auth, or dns:///… for several replicas
    actions_target: str  # the same, of actions
    scores_target: str  # the same, of scores
    fraud_target: str  # the same, of fraud
    realtime_target: str  # the same, of realtime
    issuer: str  # claim iss of access tokens, compared exactly
    audience: str  # claim aud of access tokens
    idempotency_keys: Keyring  # seal the answers kept for repeated requests, and sign ETags
    # off: requests and sockets are counted, and none is refused for its number
    limits: Annotated[str, OneOf("default", "off"), Named("SCOREBOARD_LIMITS")] = "default"
    # CIDRs of the proxies whose X-Forwarded-For is believed
    trusted_proxies: Annotated[Proxies, Named("SCOREBOARD_TRUSTED_PROXIES")] = NO_PROXIES
    allowed_origins: tuple[str, ...] = ()  # of pages that may open the live channel
    ws_query_token: bool = False  # whether a token in the live channel's query counts
    limit: RequestLimits = field(default_factory=RequestLimits)
    live: LiveLimits = field(default_factory=LiveLimits)
    # how often this gateway's heartbeat is renewed: while Redis is unavailable the gateways share
    # each limit, so they are counted
    peers_heartbeat_s: Annotated[float, Between(0.1, 60)] = 5.0
    peers_missed_max: Annotated[int, Between(2, 100)] = 3  # heartbeats, then it counts no more
