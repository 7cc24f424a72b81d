"""What an account must be to be made, and the making of administrators."""

import re
from collections.abc import Iterator

from chassis.errors import FieldError, Unprocessable
from chassis.postgres import open_database
from services.auth import passwords
from services.auth.passwords import Bcrypt, open_passwords
from services.auth.settings import AccountSettings
from services.auth.store import AuthStore

USERNAME = re.compile(r"[A-Za-z0-9_-]{3,20}")
EMAIL_MAX = 254


class ValidationFailed(Unprocessable):
    """What was sent does not fit; `errors` says where."""


def check(*, username: str, password: str, email: str = "") -> None:
    """Raises ValidationFailed, with every problem, where no account may be made of these."""
    errors = list(_problems(username=username, password=password, email=email))
    if errors:
        raise ValidationFailed(errors=errors)


def _problems(*, username: str, password: str, email: str) -> Iterator[FieldError]:
    if not USERNAME.fullmatch(username):
        yield FieldError(
            "username", "PATTERN", "Use 3 to 20 of the letters A-Z and a-z, digits, _ and -."
        )
    yield from passwords.problems(password, username=username)
    if email and not _is_email(email):
        yield FieldError("email", "PATTERN", "This is not an e-mail address.")


def _is_email(text: str) -> bool:
    name, at, host = text.rpartition("@")
    # Whether mail arrives there is for a mail to find out.
    return bool(
        len(text) <= EMAIL_MAX and name and at and host and text.isprintable() and " " not in text
    )


async def make_admin(settings: AccountSettings, *, username: str, password: str) -> str:
    """Makes `username` an administrator, with that password where the account is new.

    Returns a sentence that says what was done. Raises ValidationFailed,
    or UsernameTaken where the name was taken at this very moment.
    """
    async with open_database(settings.database_url, connections_max=1) as database:
        store = AuthStore(database)
        account = await store.user_by_name(username)
        if account is None:
            check(username=username, password=password)
            with open_passwords(Bcrypt(settings.bcrypt_cost), settings.pepper) as hashing:
                stored = await hashing.hash(password)
            await store.add_user(username, email="", password=stored, roles=("player", "admin"))
            return f"{username} was made, an administrator"
        if "admin" in account.roles:
            return f"{account.username} is an administrator already"
        await store.grant(account.user_id, "admin")
        return f"{account.username} is an administrator now; the password stays as it was"
