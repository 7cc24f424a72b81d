"""What each unit is given: the table that `make run`, the images and the manifests go by.

It is read off the units' own settings, so that a setting is declared in one place. Each is of
one of these kinds:

- an address of the unit's own (`PLACES`), decided by who starts it;
- a secret: a key of `keys(unit)`, the URL of a store, a certificate in `TLS_DIR`; always a file;
- the address of a unit that it calls (`…_TARGET`), one for each of `targets(unit)`;
- configuration: all others, which an operator sets by their names.
"""

from collections.abc import Mapping

from chassis.settings import ProcessSettings, variables
from deploy import secrets
from gateway.settings import Settings as GatewaySettings
from services.actions.settings import Settings as ActionsSettings
from services.auth.settings import Settings as AuthSettings
from services.fraud.settings import Settings as FraudSettings
from services.realtime.settings import Settings as RealtimeSettings
from services.scores.settings import Settings as ScoresSettings

# Those called stand before their callers, so that the reverse is the order to stop in.
SETTINGS: Mapping[str, type[ProcessSettings]] = {
    "auth": AuthSettings,
    "fraud": FraudSettings,
    "actions": ActionsSettings,
    "scores": ScoresSettings,
    "realtime": RealtimeSettings,
    "gateway": GatewaySettings,
}
UNITS = tuple(SETTINGS)

PLACES = frozenset({"HOST", "PORT", "OPS_HOST", "OPS_PORT"})
_STORES = ("DATABASE_URL", "REDIS_URL")


def module(unit: str) -> str:
    """The package that `python -m` runs."""
    return unit if unit == "gateway" else f"services.{unit}"


def reads(unit: str) -> frozenset[str]:
    """The variables that the unit reads, of every kind."""
    return frozenset(variable.name for variable in variables(SETTINGS[unit]))


def keys(unit: str) -> tuple[str, ...]:
    """The keys that the unit is given, by the names of their files."""
    return tuple(key for key in secrets.KEYS if key.upper() in reads(unit))


def stores(unit: str) -> tuple[str, ...]:
    """`database_url` and `redis_url`, of those that the unit reads: names of files as well."""
    return tuple(name.lower() for name in _STORES if name in reads(unit))


def targets(unit: str) -> tuple[str, ...]:
    """The units that it calls."""
    return tuple(other for other in UNITS if f"{other}_target".upper() in reads(unit))


def configuration(unit: str) -> frozenset[str]:
    """The variables that an operator sets."""
    files = {name.upper() for name in (*keys(unit), *stores(unit), "tls_dir")}
    addresses = {f"{other}_target".upper() for other in targets(unit)}
    return reads(unit) - PLACES - files - addresses
