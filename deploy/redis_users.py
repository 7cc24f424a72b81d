"""A user of Redis for each unit, with rights on its own keys and on what others publish to it."""

import hashlib
from collections.abc import Mapping

from deploy import units

UNITS = tuple(unit for unit in units.UNITS if "redis_url" in units.stores(unit))

# By unit: patterns of the keys that it writes and reads, of those that it only reads, and of the
# channels that it publishes and subscribes to.
_WRITES: Mapping[str, tuple[str, ...]] = {
    "auth": ("{auth}:*",),
    "scores": (
        *("{events}:*", "leaderboard:*", "cache:*", "journal:*", "rebuild:*"),
        "lease:scores:*",
    ),
    "fraud": ("{fraud}:*", "{f:*"),
    "realtime": ("live:*",),
    "gateway": ("{l:*", "idem:*"),
}
_READS: Mapping[str, tuple[str, ...]] = {
    "scores": ("{fraud}:*",),
    "fraud": ("{events}:awards",),
    "realtime": ("{events}:awards",),
    "gateway": ("{fraud}:*",),
}
_CHANNELS: Mapping[str, tuple[str, ...]] = {"scores": ("cache:*",)}
# All that keys limit; of what they do not limit, what our connections need.
_COMMANDS = "+@all -@admin -@dangerous +info +role +cluster|slots +cluster|shards"
# What a probe uses: it sees that Redis responds, and nothing else.
_DEFAULT = "user default on nopass resetkeys resetchannels -@all +ping"


def acl(passwords: Mapping[str, str]) -> str:
    """The text of Redis' `aclfile`: the users of `passwords`, and the default one."""
    return f"{_DEFAULT}\n{users(passwords)}"


def users(passwords: Mapping[str, str]) -> str:
    """A line of Redis' configuration for each unit of `passwords`."""
    return "".join(f"{_user(*each)}\n" for each in passwords.items())


def _user(unit: str, password: str) -> str:
    digest = hashlib.sha256(password.encode()).hexdigest()
    rules = [
        # What is written under `health:` shows that writes are taken.
        *(f"~{pattern}" for pattern in (*_WRITES[unit], f"health:{unit}*")),
        *(f"%R~{pattern}" for pattern in _READS.get(unit, ())),
        *(f"&{pattern}" for pattern in _CHANNELS.get(unit, ())),
    ]
    return f"user {unit} on #{digest} resetkeys resetchannels {' '.join(rules)} {_COMMANDS}"
