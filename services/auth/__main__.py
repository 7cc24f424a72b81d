"""Auth: accounts, sessions and the keys that sign access tokens. Start reading here."""

import sys
from functools import partial
from pathlib import Path

from chassis.postgres import expect_schema, open_database
from chassis.process import run
from chassis.redis import open_redis
from chassis.rpc.server import serve
from chassis.rpc.tls import open_identity
from protos.arrows import callers
from protos.auth_pb2_grpc import add_AuthServicer_to_server
from services.auth import commands
from services.auth.cache import SessionCache
from services.auth.passwords import Bcrypt, open_passwords
from services.auth.service import AuthService
from services.auth.settings import Settings
from services.auth.store import AuthStore
from services.auth.tokens import AccessTokens

MIGRATIONS = Path(__file__).parent / "migrations"


async def main(settings: Settings) -> None:
    # Opened top to bottom, closed bottom to top, once `serve` has drained.
    async with (
        open_identity(settings) as identity,
        open_database(
            settings.database_url, connections_max=settings.database_pool_max
        ) as database,
        open_redis(settings.redis_url) as redis,
    ):
        await expect_schema(database, schema="auth", folder=MIGRATIONS)
        store = AuthStore(database)
        with open_passwords(Bcrypt(settings.bcrypt_cost), settings.pepper) as passwords:
            service = AuthService(
                store,
                SessionCache(redis),
                passwords=passwords,
                access_tokens=AccessTokens(
                    settings.signing_key, issuer=settings.issuer, audience=settings.audience
                ),
                refresh_keys=settings.refresh_keys,
                players=settings.players,
                staff=settings.staff,
                access_client_s=settings.access_client_s,
            )
            await serve(
                partial(add_AuthServicer_to_server, service),
                settings=settings,
                identity=identity,
                callers=callers("auth"),
                checks={"postgres": database.ping, "redis": partial(redis.check, "auth")},
            )


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.stdout.write(commands.run(sys.argv[1:]) + "\n")
    else:
        run("auth", Settings, main)
