"""Actions: action types, one-time action tokens, proofs. Start reading here."""

from functools import partial
from pathlib import Path

from chassis.postgres import expect_schema, open_database
from chassis.process import background, run
from chassis.rpc.client import open_channel
from chassis.rpc.server import serve
from chassis.rpc.tls import open_identity
from protos.actions_pb2_grpc import add_ActionsServicer_to_server
from protos.arrows import callers
from protos.fraud_pb2_grpc import FraudStub
from services.actions.attempts import IncidentRelay
from services.actions.catalogue import Catalogue
from services.actions.service import ActionsService
from services.actions.settings import Settings
from services.actions.store import ActionsStore
from services.actions.tokens import Sealer

MIGRATIONS = Path(__file__).parent / "migrations"


async def main(settings: Settings) -> None:
    # Opened top to bottom, closed bottom to top, once `serve` has drained.
    async with (
        open_identity(settings) as identity,
        open_database(
            settings.database_url, connections_max=settings.database_pool_max
        ) as database,
        open_channel(settings.fraud_target, unit="fraud", identity=identity) as fraud,
    ):
        await expect_schema(database, schema="actions", folder=MIGRATIONS)
        store = ActionsStore(database)
        catalogue = Catalogue(store.types)
        await catalogue.refresh()
        relay = IncidentRelay(store, FraudStub(fraud))
        service = ActionsService(
            store,
            catalogue,
            Sealer(settings.sealing_keys, settings.signing_keys),
            relay,
            points_max=settings.points_max,
            open_max=settings.open_max,
            settle_wait_s=settings.settle_wait_s,
            capped=settings.limits == "default",
        )
        async with background(catalogue.follow(), relay.run()):
            await serve(
                partial(add_ActionsServicer_to_server, service),
                settings=settings,
                identity=identity,
                callers=callers("actions"),
                checks={"postgres": database.ping},
            )


if __name__ == "__main__":
    run("actions", Settings, main)
