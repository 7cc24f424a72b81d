"""What an operator does by `python -m services.auth …`: administrators and game servers."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from chassis import telemetry, usage
from chassis.errors import Failed
from chassis.postgres import UNAVAILABLE, open_database
from chassis.settings import SettingsError, load
from services.auth import accounts, clients
from services.auth.passwords import Bcrypt, open_passwords
from services.auth.settings import AccountSettings, Settings, StoreSettings
from services.auth.store import AuthStore

# What the line about a command says of it.
_AUDITED = frozenset({"username", "client_id", "name", "action_types"})


def run(arguments: Sequence[str]) -> str:
    """Runs a command; returns what was done, exits the process where it cannot be."""
    given = _parser().parse_args(arguments)
    telemetry.configure_command("auth")
    work: Coroutine[Any, Any, str] = given.work(given)
    try:
        text = asyncio.run(work)
        about = {name: value for name, value in vars(given).items() if name in _AUDITED}
        telemetry.command_run(" ".join(arguments[:2]), **about)
        return text
    except SettingsError as problems:
        sys.exit(f"auth: the settings do not fit\n{problems}")
    except (OSError, *UNAVAILABLE) as problem:
        sys.exit(f"auth: {problem}")
    except Failed as failed:
        reasons = [f"{error.field}: {error.detail}" for error in failed.errors]
        sys.exit("\n".join([f"auth: {failed}", *reasons]))


def _parser() -> argparse.ArgumentParser:
    parser = usage.parser(Settings)
    parser.description = "The process; or, given arguments, one of its commands."
    subjects = parser.add_subparsers(required=True)

    admin = subjects.add_parser("admin", help="administrators").add_subparsers(required=True)
    create = admin.add_parser("create", help="make an administrator, or make one of a player")
    create.add_argument("--username", required=True)
    create.add_argument("--password-file", required=True, type=Path)
    create.set_defaults(work=_create_admin)

    client = subjects.add_parser("client", help="game servers").add_subparsers(required=True)
    create = client.add_parser("create", help="make one, and show its secret once")
    create.add_argument("--name", required=True)
    create.add_argument("--action-types", required=True, help="separated by commas")
    create.set_defaults(work=_create_client)
    rotate = client.add_parser("rotate", help="replace its secret at once, and show the new one")
    rotate.set_defaults(work=_client(clients.rotate))
    disable = client.add_parser("disable", help="give it no more tokens")
    disable.set_defaults(work=_client(clients.disable))
    for named in (rotate, disable):
        named.add_argument("client_id")
    listed = client.add_parser("list", help="show all of them")
    listed.set_defaults(work=lambda _: _stored(clients.listed))
    return parser


async def _create_admin(given: argparse.Namespace) -> str:
    """Makes the user an administrator, with the file's password where the account is new."""
    settings, username = load(AccountSettings), given.username
    password = given.password_file.read_text().rstrip("\r\n")
    async with open_database(settings.database_url, connections_max=1) as database:
        store = AuthStore(database)
        account = await store.user_by_name(username)
        if account is None:
            accounts.check(username=username, password=password)
            with open_passwords(Bcrypt(settings.bcrypt_cost), settings.pepper) as hashing:
                stored = await hashing.hash(password)
            await store.add_user(username, email="", password=stored, roles=("player", "admin"))
            return f"{username} was made, an administrator"
        if "admin" in account.roles:
            return f"{account.username} is an administrator already"
        await store.grant(account.user_id, "admin")
        return f"{account.username} is an administrator now; the password stays as it was"


async def _create_client(given: argparse.Namespace) -> str:
    types = [name.strip() for name in given.action_types.split(",") if name.strip()]
    return await _stored(lambda store: clients.create(store, name=given.name, action_types=types))


def _client(
    work: Callable[[AuthStore, str], Awaitable[str]],
) -> Callable[[argparse.Namespace], Awaitable[str]]:
    async def on_client(given: argparse.Namespace) -> str:
        return await _stored(lambda store: work(store, given.client_id))

    return on_client


async def _stored(work: Callable[[AuthStore], Awaitable[str]]) -> str:
    settings = load(StoreSettings)
    async with open_database(settings.database_url, connections_max=1) as database:
        return await work(AuthStore(database))
