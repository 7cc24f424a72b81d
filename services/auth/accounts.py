"""What an account must be to be made."""

import re
from collections.abc import Iterator

from chassis.errors import FieldError, Unprocessable
from services.auth import passwords

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
