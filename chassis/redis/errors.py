"""The errors that a Redis server returns, as redis-py's exceptions."""

from redis import exceptions
from redis.exceptions import RedisError, ResponseError


class WritesRefusedError(ResponseError):
    """The server takes no writes for now."""


# From a server that is not the primary, or not any more.
DEMOTED = (exceptions.ReadOnlyError, exceptions.MasterDownError)

# From a server that may still be read, and then lacks what it refused.
REFUSED = (*DEMOTED, exceptions.OutOfMemoryError, WritesRefusedError)

# Replies by which the client finds the node, or sends a script whole: no errors of a caller's.
ROUTING = (exceptions.AskError, exceptions.TryAgainError, exceptions.NoScriptError)

_BY_CODE: dict[str, type[RedisError]] = {
    "ASK": exceptions.AskError,
    "CLUSTERDOWN": exceptions.ClusterDownError,
    "CROSSSLOT": exceptions.ClusterCrossSlotError,
    "EXECABORT": exceptions.ExecAbortError,
    "LOADING": exceptions.BusyLoadingError,
    "MASTERDOWN": exceptions.MasterDownError,
    "MISCONF": WritesRefusedError,  # persistence fails
    "MOVED": exceptions.MovedError,
    "NOAUTH": exceptions.AuthenticationError,
    "NOPERM": exceptions.NoPermissionError,
    "NOREPLICAS": WritesRefusedError,  # fewer than `min-replicas-to-write`
    "NOSCRIPT": exceptions.NoScriptError,
    "OOM": exceptions.OutOfMemoryError,
    "READONLY": exceptions.ReadOnlyError,
    "TRYAGAIN": exceptions.TryAgainError,
    "WRONGPASS": exceptions.AuthenticationError,
}


def reply_error(reply: str) -> RedisError:
    """The exception for an error reply: its code, then a sentence."""
    code, _, text = reply.partition(" ")
    if code in _BY_CODE:
        return _BY_CODE[code](text, status_code=code)
    if code != "ERR":
        return ResponseError(reply)
    full = text == "max number of clients reached"
    return (exceptions.ConnectionError if full else ResponseError)(text, status_code=code)
