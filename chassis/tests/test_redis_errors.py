"""The errors that a server returns, by their code."""

import pytest
from redis import exceptions

from chassis.redis.errors import reply_error


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        ("NOSCRIPT No matching script.", exceptions.NoScriptError, "No matching script."),
        ("LOADING Redis is loading", exceptions.BusyLoadingError, "Redis is loading"),
        ("ERR unknown command", exceptions.ResponseError, "unknown command"),
        ("WRONGTYPE not a list", exceptions.ResponseError, "WRONGTYPE not a list"),
        (
            "ERR max number of clients reached",
            exceptions.ConnectionError,
            "max number of clients reached",
        ),
    ],
)
def test_an_error_reply_becomes_the_exception_of_its_code(
    reply: str, kind: type[Exception], text: str
) -> None:
    error = reply_error(reply)

    assert type(error) is kind
    assert error.args == (text,)


def test_a_redirection_names_its_slot_and_node() -> None:
    moved = reply_error("MOVED 3999 127.0.0.1:6381")

    assert isinstance(moved, exceptions.MovedError)
    assert (moved.slot_id, moved.host, moved.port) == (3999, "127.0.0.1", 6381)
