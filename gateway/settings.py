"""The settings of the gateway."""

from dataclasses import dataclass
from typing import Annotated

from chassis.keyring import Keyring
from chassis.settings import Named, OneOf, ProcessSettings
from gateway.edge.addresses import Proxies

NO_PROXIES = Proxies("")


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    """`port` is the public one, plain HTTP: TLS ends at the load balancer before it."""

    redis_url: str
    auth_target: str
    actions_target: str
    scores_target: str
    fraud_target: str
    realtime_target: str
    issuer: str  # of access tokens, compared exactly
    audience: str
    idempotency_keys: Keyring  # seal the answers kept for repeated requests, and sign ETags
    # "off" disables every threshold; the counting is still done.
    limits: Annotated[str, OneOf("default", "off"), Named("SCOREBOARD_LIMITS")] = "default"
    trusted_proxies: Annotated[Proxies, Named("SCOREBOARD_TRUSTED_PROXIES")] = NO_PROXIES
    allowed_origins: tuple[str, ...] = ()  # of pages that may open the live channel
    ws_query_token: bool = False  # whether a token in the live channel's query counts
