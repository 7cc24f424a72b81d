"""Users, sessions and game servers, as Postgres keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from chassis import clock
from chassis.errors import Conflict
from chassis.ids import uuid7
from chassis.postgres import Database
from services.auth.passwords import StoredPassword

SESSIONS_MAX = 10  # of one user; the oldest is dropped
GRACE = timedelta(seconds=10)  # in which a replaced token still gets its successor


class UsernameTaken(Conflict):
    """This username is taken."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user as of now."""

    user_id: str
    username: str
    roles: Sequence[str]
    ver: int  # access tokens with a lower one are not to be trusted
    name_ver: int
    password_hash: str
    pepper: int
    banned: bool

    @property
    def password(self) -> StoredPassword:
        return StoredPassword(self.password_hash, self.pepper)


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where a session is used from, as the gateway saw it."""

    address: str
    user_agent: str


@dataclass(frozen=True, kw_only=True)
class Session:
    """A session as it was just opened or used."""

    sid: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Family(Account):
    """A session's user and its refresh tokens; a token is identified by its SHA-256."""

    generation: int  # of the live token
    live_sha256: bytes
    parent_sha256: bytes | None
    refresh_key: int  # made the live token out of its parent
    in_grace: bool  # the live token is younger than GRACE
    expired: bool
    ended: bool


@dataclass(frozen=True, kw_only=True)
class GameServer:
    """A client that may award actions of these types by its own word."""

    client_id: str
    name: str
    secret_sha256: bytes
    action_types: Sequence[str]
    disabled: bool


class AuthStore:
    """Users, sessions, game servers. Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fetch = database.fetch

    async def add_user(
        self, username: str, *, email: str, password: StoredPassword, roles: Sequence[str]
    ) -> Account:
        """A new user. Raises UsernameTaken, whichever letters are capitals."""
        sql = """
            INSERT INTO auth.users (id, username, email, password_hash, pepper, roles, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7::interval)
            RETURNING id::text AS user_id, username, roles, ver, name_ver, password_hash, pepper,
              false AS banned"""
        user = (uuid7(), username, email, password.hashed, password.pepper, roles)
        try:
            (row,) = await self._fetch(sql, *user, clock.offset())
        except asyncpg.UniqueViolationError:
            raise UsernameTaken from None
        return Account(**row)

    async def user_by_name(self, username: str) -> Account | None:
        """The user of that name, whichever letters are capitals."""
        sql = """
            SELECT id::text AS user_id, username, roles, ver, name_ver, password_hash, pepper,
              coalesce(banned_until > clock_timestamp() + $2::interval, false) AS banned
            FROM auth.users WHERE lower(username) = lower($1)"""
        rows = await self._fetch(sql, username, clock.offset())
        return Account(**rows[0]) if rows else None

    async def renew_password(
        self, user_id: str, *, old: StoredPassword, new: StoredPassword
    ) -> None:
        """Puts a new hash of the same password in place, unless the password was changed."""
        sql = """
            UPDATE auth.users SET password_hash = $3, pepper = $4
            WHERE id = $1 AND password_hash = $2"""
        await self._fetch(sql, user_id, old.hashed, new.hashed, new.pepper)

    async def grant(self, user_id: str, role: str) -> None:
        """Gives the user a role; nothing happens where it is there already."""
        sql = """
            UPDATE auth.users SET roles = array_append(roles, $2)
            WHERE id = $1 AND NOT $2 = ANY (roles)"""
        await self._fetch(sql, user_id, role)

    async def set_ban(self, user_id: str, *, banned: bool, until_ms: int, version: int) -> bool:
        """Bans the user until that Unix time (0: for good), or ends the ban.

        Returns whether it did: not for a user who is not there, nor for a version that
        is not newer than the stored one.
        """
        # A ban raises `ver`, which separates the access tokens made before it from later ones.
        sql = """
            UPDATE auth.users
            SET ban_version = $4,
              ver = ver + CASE WHEN $2 THEN 1 ELSE 0 END,
              banned_until = CASE WHEN NOT $2 THEN NULL
                WHEN $3::bigint = 0 THEN 'infinity'
                ELSE to_timestamp($3::bigint / 1000.0) END
            WHERE id = $1 AND ban_version < $4
            RETURNING id"""
        return bool(await self._fetch(sql, user_id, banned, until_ms, version))

    async def open_session(
        self, user_id: str, sid: str, *, live_sha256: bytes, idle: timedelta, device: Device
    ) -> tuple[Session, list[str]]:
        """A new session of the user, and the ids of the older ones that it replaced."""
        # Locks the user, so that logins at the same time count one another's sessions.
        lock = "UPDATE auth.users SET last_login_at = clock_timestamp() + $2 WHERE id = $1"
        insert = """
            INSERT INTO auth.sessions (sid, user_id, live_sha256, created_at, last_seen_at,
              expires_at, address, user_agent)
            SELECT $1, $2, $3, now, now, now + $4::interval, $6, $7
            FROM (SELECT clock_timestamp() + $5::interval AS now) AS moment
            RETURNING sid::text, created_at, last_seen_at, expires_at"""
        drop = """
            DELETE FROM auth.sessions
            WHERE user_id = $1 AND sid NOT IN (
              SELECT sid FROM auth.sessions
              WHERE user_id = $1 AND expires_at > clock_timestamp() + $2::interval
              ORDER BY ended_at IS NULL DESC, created_at DESC
              LIMIT $3)
            RETURNING sid::text"""
        session = (sid, user_id, live_sha256, idle, clock.offset())
        async with self._database.transaction() as connection:
            await connection.execute(lock, user_id, clock.offset())
            (row,) = await connection.fetch(insert, *session, device.address, device.user_agent)
            dropped = await connection.fetch(drop, user_id, clock.offset(), SESSIONS_MAX)
        return Session(**row), [old["sid"] for old in dropped]

    async def family(self, sid: str) -> Family | None:
        """The refresh tokens of session `sid`."""
        sql = """
            SELECT u.id::text AS user_id, u.username, u.roles, u.ver, u.name_ver,
              u.password_hash, u.pepper, coalesce(u.banned_until > moment.now, false) AS banned,
              s.generation, s.live_sha256, s.parent_sha256, s.refresh_key,
              coalesce(s.rotated_at > moment.now - $3::interval, false) AS in_grace,
              s.expires_at <= moment.now AS expired, s.ended_at IS NOT NULL AS ended
            FROM auth.sessions AS s
            JOIN auth.users AS u ON u.id = s.user_id
            CROSS JOIN (SELECT clock_timestamp() + $2::interval AS now) AS moment
            WHERE s.sid = $1"""
        rows = await self._fetch(sql, sid, clock.offset(), GRACE)
        return Family(**rows[0]) if rows else None

    async def rotate(
        self,
        sid: str,
        family: Family,
        *,
        successor_sha256: bytes,
        refresh_key: int,
        idle: timedelta,
        absolute: timedelta,
        device: Device,
    ) -> Session | None:
        """Puts the successor in the live token's place; None if that was replaced meanwhile."""
        # One conditional statement, so that of any number of uses at once one succeeds.
        sql = """
            UPDATE auth.sessions AS s
            SET generation = generation + 1, parent_sha256 = live_sha256, live_sha256 = $3,
              refresh_key = $4, rotated_at = moment.now, last_seen_at = moment.now,
              expires_at = least(moment.now + $5::interval, s.created_at + $6::interval),
              address = $8, user_agent = $9
            FROM (SELECT clock_timestamp() + $7::interval AS now) AS moment
            WHERE s.sid = $1 AND s.live_sha256 = $2 AND s.ended_at IS NULL
              AND s.expires_at > moment.now
            RETURNING s.sid::text, s.created_at, s.last_seen_at, s.expires_at"""
        tokens = (sid, family.live_sha256, successor_sha256, refresh_key)
        lifetimes = (idle, absolute, clock.offset())
        rows = await self._fetch(sql, *tokens, *lifetimes, device.address, device.user_agent)
        return Session(**rows[0]) if rows else None

    async def end_session(self, sid: str) -> None:
        """Ends the session: no token of its family counts any more."""
        sql = """
            UPDATE auth.sessions SET ended_at = clock_timestamp() + $2::interval
            WHERE sid = $1 AND ended_at IS NULL"""
        await self._fetch(sql, sid, clock.offset())

    async def names(self, user_ids: Sequence[str]) -> list[asyncpg.Record]:
        """The `user_id`, `username` and `name_version` of those that are there."""
        sql = """
            SELECT id::text AS user_id, username, name_ver AS name_version
            FROM auth.users WHERE id = ANY ($1::uuid[])"""
        return await self._fetch(sql, user_ids)

    async def add_client(
        self, client_id: str, *, name: str, secret_sha256: bytes, action_types: Sequence[str]
    ) -> None:
        """A new game server."""
        sql = """
            INSERT INTO auth.clients (id, name, secret_sha256, action_types, created_at)
            VALUES ($1, $2, $3, $4, clock_timestamp() + $5::interval)"""
        await self._fetch(sql, client_id, name, secret_sha256, action_types, clock.offset())

    async def client(self, client_id: str) -> GameServer | None:
        """The game server of that id."""
        sql = """
            SELECT id::text AS client_id, name, secret_sha256, action_types, disabled
            FROM auth.clients WHERE id = $1"""
        rows = await self._fetch(sql, client_id)
        return GameServer(**rows[0]) if rows else None

    async def clients(self) -> list[GameServer]:
        """All game servers, the oldest first."""
        sql = """
            SELECT id::text AS client_id, name, secret_sha256, action_types, disabled
            FROM auth.clients ORDER BY id"""
        return [GameServer(**row) for row in await self._fetch(sql)]

    async def change_client(
        self, client_id: str, *, secret_sha256: bytes | None = None, disabled: bool = False
    ) -> bool:
        """Gives the game server a new secret, or disables it; False: there is none."""
        sql = """
            UPDATE auth.clients
            SET secret_sha256 = coalesce($2, secret_sha256), disabled = disabled OR $3
            WHERE id = $1 RETURNING id"""
        return bool(await self._fetch(sql, client_id, secret_sha256, disabled))
