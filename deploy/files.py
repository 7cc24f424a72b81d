"""All secrets of an installation as one folder, from which each unit is given its own parts.

| path | is |
|---|---|
| `tls/ca/`, `tls/<unit>/` | the authority's certificate and key; each unit's, with what it trusts |
| `keys/<unit>/<key>` | the keys of `units.keys(unit)` |
| `stores/<unit>/database_url`, `…/redis_url` | the stores, each with a user of the unit's own |
| `owner/database_url`, `owner/password` | the role that makes the other roles and the schemas |
| `roles/<unit>` | the same `database_url`, as `migrate` reads them to make the roles |
| `redis/users.acl` | the users of Redis: read by it, of no use to units |

`owner` and `redis` are open to the group of their owner too: the stores are other users.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from deploy import certificates, databases, redis_users, secrets, units

OWNER = "scoreboard"  # the role and the database


def make(directory: Path, *, postgres: str, redis: str) -> None:
    """Makes what is missing of `directory`; what is there stays, but for certificates.

    `postgres` and `redis` are `host:port`, for new URLs. Certificates: see `certificates.make`.
    Raises OSError.
    """
    certificates.make(directory / "tls", units.UNITS)
    password = _keep(directory / "owner" / "password", secrets.password)
    _keep(directory / "owner" / "database_url", lambda: _database_url(OWNER, password, postgres))
    for unit in units.UNITS:
        for key in units.keys(unit):
            _keep(directory / "keys" / unit / key, partial(secrets.key, key))
    for unit in databases.UNITS:
        url = _database_url(unit, secrets.password(), postgres)
        url = _keep(directory / "stores" / unit / "database_url", partial(str, url))
        _write(directory / "roles" / unit, f"{url}\n")
    passwords = {}
    for unit in redis_users.UNITS:
        new = f"redis://{unit}:{secrets.password()}@{redis}/0"
        url = _keep(directory / "stores" / unit / "redis_url", partial(str, new))
        passwords[unit] = urlsplit(url).password or ""
    _write(directory / "redis" / "users.acl", redis_users.acl(passwords))
    for shared in (directory / "owner", directory / "redis"):
        shared.chmod(0o750)
        for path in shared.iterdir():
            path.chmod(0o640)


def _database_url(role: str, password: str, address: str) -> str:
    return f"postgresql://{role}:{password}@{address}/{OWNER}"


def _keep(path: Path, new: Callable[[], str]) -> str:
    """The file's text without its last line break; where it is missing, `new()` and kept."""
    if not path.exists():
        _write(path, f"{new()}\n")
    return path.read_text().rstrip("\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets.write(path, text)
