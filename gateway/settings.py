"""The settings of the gateway."""

from dataclasses import dataclass
from typing import Annotated

from chassis.keyring import Keyring
from chassis.settings import Between, Named, OneOf, ProcessSettings, SettingsError
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
    # The limits are divided among the gateways while Redis is unavailable, so they are counted.
    peers_heartbeat_s: Annotated[float, Between(0.1, 60)] = 5.0
    peers_silent_s: Annotated[float, Between(0.2, 600)] = 15.0  # one silent for so long is over

    def __post_init__(self) -> None:
        """Raises SettingsError."""
        if self.peers_silent_s < 2 * self.peers_heartbeat_s:
            raise SettingsError("PEERS_SILENT_S: must be at least twice PEERS_HEARTBEAT_S")
