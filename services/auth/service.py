"""Registers players, logs them in, keeps sessions alive, enforces bans; admits game servers."""

import hmac
import uuid
from datetime import timedelta
from typing import Any

from chassis.batching import bounded
from chassis.errors import Forbidden, Invalid, Unauthenticated
from chassis.ids import is_uuid, uuid7
from chassis.keyring import Keyring
from chassis.telemetry import log
from protos import auth_pb2, auth_pb2_grpc
from services.auth import accounts, clients
from services.auth.cache import SessionCache
from services.auth.passwords import Passwords
from services.auth.store import Account, AuthStore, Device, Family
from services.auth.tokens import CLIENT_SCOPES, STAFF, AccessTokens, Lifetimes, RefreshToken

TEXT_MAX = 256  # characters kept of what a client says of itself


class InvalidCredentials(Unauthenticated):
    """Username or password is wrong."""


class AccountBanned(Forbidden):
    """This account is banned."""


class RefreshInvalid(Unauthenticated):
    """This is no refresh token of a living session; log in again."""


class RefreshExpired(Unauthenticated):
    """This session has expired; log in again."""


class RefreshReused(Unauthenticated):
    """An old refresh token was used, so the session was ended; log in again."""


class InvalidClient(Unauthenticated):
    """The client's id or secret is wrong."""


class UnauthorizedClient(Invalid):
    """This client was disabled."""


class InvalidScope(Invalid):
    """This scope is not for a client to have."""


class AuthService(auth_pb2_grpc.AuthServicer):
    """The methods of `protos/auth.proto`."""

    def __init__(
        self,
        store: AuthStore,
        cache: SessionCache,
        *,
        passwords: Passwords,
        access_tokens: AccessTokens,
        refresh_keys: Keyring,
        players: Lifetimes,
        staff: Lifetimes,
        access_client_s: int,
    ) -> None:
        self._store = store
        self._cache = cache
        self._passwords = passwords
        self._access_tokens = access_tokens
        self._refresh_keys = refresh_keys
        self._players = players
        self._staff = staff
        self._access_client_s = access_client_s

    async def Register(self, request: auth_pb2.RegisterRequest, context: Any) -> auth_pb2.Session:
        accounts.check(username=request.username, password=request.password, email=request.email)
        password = await self._passwords.hash(request.password)
        account = await self._store.add_user(
            request.username, email=request.email, password=password, roles=("player",)
        )
        log.info("user_registered", user_id=account.user_id)
        return await self._open(account, _device(request.client))

    async def Login(self, request: auth_pb2.LoginRequest, context: Any) -> auth_pb2.Session:
        device = _device(request.client)
        # What cannot be a name is not looked up: Postgres takes no NUL character.
        possible = accounts.USERNAME.fullmatch(request.username)
        account = await self._store.user_by_name(request.username) if possible else None
        stored = account.password if account else None
        if not await self._passwords.verify(request.password, stored) or account is None:
            # Not what was typed as the name: it may be the password, in the wrong field.
            user_id = account.user_id if account else None
            log.warning("login_failed", stream="security", user_id=user_id, address=device.address)
            raise InvalidCredentials
        self._refuse_banned(account, device)
        if self._passwords.outdated(account.password):
            again = await self._passwords.hash(request.password)
            await self._store.renew_password(account.user_id, old=account.password, new=again)
        return await self._open(account, device)

    async def Refresh(self, request: auth_pb2.RefreshRequest, context: Any) -> auth_pb2.Session:
        device = _device(request.client)
        shown = RefreshToken.read(request.refresh_token)
        if shown is None:
            raise RefreshInvalid
        family = await self._family(shown)
        if _same(shown, family.live_sha256):
            self._refuse_banned(family, device)
            if reply := await self._rotate(shown, family, device):
                return reply
            # Another request rotated it meanwhile, so this one now shows the parent.
            family = await self._family(shown)
        if _same(shown, family.parent_sha256) and family.in_grace:
            self._refuse_banned(family, device)
            key = self._refresh_keys[family.refresh_key]
            live = shown.successor(key=key, generation=family.generation)
            return self._reply(family, live)
        await self._store.end_session(shown.sid)
        await self._cache.drop([shown.sid])
        log.warning(
            "refresh_reused",
            stream="security",
            user_id=family.user_id,
            sid=shown.sid,
            generation=family.generation,
            address=device.address,
        )
        raise RefreshReused

    async def Keys(self, request: auth_pb2.KeysRequest, context: Any) -> auth_pb2.KeysReply:
        return auth_pb2.KeysReply(jwks=self._access_tokens.jwks)

    async def ClientToken(
        self, request: auth_pb2.ClientTokenRequest, context: Any
    ) -> auth_pb2.ClientTokenReply:
        client = await self._store.client(clients.looked_up(request.client_id))
        if not clients.matches(client, request.client_secret) or client is None:
            client_id = client.client_id if client else None
            address = _device(request.client).address
            log.warning("client_refused", stream="security", client_id=client_id, address=address)
            raise InvalidClient
        if client.disabled:
            raise UnauthorizedClient
        if not set(request.scope.split()) <= set(CLIENT_SCOPES):
            raise InvalidScope
        life_s = self._access_client_s
        token = self._access_tokens.sign_client(
            client.client_id, action_types=client.action_types, life_s=life_s
        )
        scope = " ".join(CLIENT_SCOPES)
        return auth_pb2.ClientTokenReply(access_token=token, expires_in_s=life_s, scope=scope)

    async def Names(self, request: auth_pb2.NamesRequest, context: Any) -> auth_pb2.NamesReply:
        bounded(request.user_ids)
        found = await self._store.names([i for i in request.user_ids if is_uuid(i)])
        return auth_pb2.NamesReply(accounts=[auth_pb2.Account(**row) for row in found])

    async def SetBan(self, request: auth_pb2.SetBanRequest, context: Any) -> auth_pb2.SetBanReply:
        try:
            user_id = str(uuid.UUID(request.user_id))
        except ValueError:
            raise Invalid("This is not a user's id.") from None
        applied = await self._store.set_ban(
            user_id, banned=request.banned, until_ms=request.until_ms, version=request.version
        )
        log.warning(
            "ban_set" if request.banned else "ban_lifted",
            stream="security",
            user_id=user_id,
            until_ms=request.until_ms,
            version=request.version,
            reason=request.reason,
            applied=applied,
        )
        return auth_pb2.SetBanReply()

    async def _open(self, account: Account, device: Device) -> auth_pb2.Session:
        """A new session, and its first tokens."""
        token = RefreshToken.first(uuid7())
        idle = timedelta(seconds=self._lifetimes(account).idle_s)
        session, dropped = await self._store.open_session(
            account.user_id, token.sid, live_sha256=token.sha256, idle=idle, device=device
        )
        await self._cache.put(session, account, device)
        await self._cache.drop(dropped)
        return self._reply(account, token)

    async def _family(self, shown: RefreshToken) -> Family:
        """The family of the token shown. Raises Refresh… where no token of it counts."""
        family = await self._store.family(shown.sid)
        if family is None:
            raise RefreshInvalid
        if family.ended:
            raise RefreshReused
        if family.expired:
            raise RefreshExpired
        return family

    async def _rotate(
        self, shown: RefreshToken, family: Family, device: Device
    ) -> auth_pb2.Session | None:
        """The successor of the live token; None if that was replaced meanwhile."""
        number = self._refresh_keys.current
        key = self._refresh_keys[number]
        successor = shown.successor(key=key, generation=family.generation + 1)
        lifetimes = self._lifetimes(family)
        session = await self._store.rotate(
            shown.sid,
            family,
            successor_sha256=successor.sha256,
            refresh_key=number,
            idle=timedelta(seconds=lifetimes.idle_s),
            absolute=timedelta(seconds=lifetimes.absolute_s),
            device=device,
        )
        if session is None:
            return None
        await self._cache.put(session, family, device)
        return self._reply(family, successor)

    def _refuse_banned(self, account: Account, device: Device) -> None:
        if account.banned:
            fields = {"user_id": account.user_id, "address": device.address}
            log.warning("banned_user_refused", stream="security", **fields)
            raise AccountBanned

    def _lifetimes(self, account: Account) -> Lifetimes:
        return self._players if STAFF.isdisjoint(account.roles) else self._staff

    def _reply(self, account: Account, token: RefreshToken) -> auth_pb2.Session:
        life_s = self._lifetimes(account).access_s
        return auth_pb2.Session(
            user_id=account.user_id,
            username=account.username,
            access_token=self._access_tokens.sign(account, sid=token.sid, life_s=life_s),
            refresh_token=str(token),
            expires_in_s=life_s,
        )


def _device(client: auth_pb2.Client) -> Device:
    return Device(address=_plain(client.address), user_agent=_plain(client.user_agent))


def _plain(text: str) -> str:
    return "".join(character for character in text[:TEXT_MAX] if character.isprintable())


def _same(shown: RefreshToken, sha256: bytes | None) -> bool:
    return sha256 is not None and hmac.compare_digest(shown.sha256, sha256)
