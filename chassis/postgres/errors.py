"""What an error of Postgres is to the caller, by its SQLSTATE."""

import asyncpg

from chassis.errors import Internal, Unavailable


class DbUnavailable(Unavailable):
    """The database is unavailable."""

    def __init__(self, detail: str | None = None, *, retry_after_s: int = 1) -> None:
        # The code and the sentence are those of the classes below too.
        super().__init__(
            detail or DbUnavailable.__doc__, code="DB_UNAVAILABLE", retry_after_s=retry_after_s
        )


class StatementUndone(DbUnavailable):
    """Postgres undid a statement that may succeed when it is run again."""


class DbError(Internal):
    """The database refused a statement."""


# What was connected to serves no more, or is read-only: its other sessions are no better.
SERVER_LOST = (
    asyncpg.ReadOnlySQLTransactionError,  # 25006
    asyncpg.AdminShutdownError,  # 57P01
    asyncpg.CrashShutdownError,  # 57P02
    asyncpg.CannotConnectNowError,  # 57P03
    asyncpg.DatabaseDroppedError,  # 57P04
)

UNDONE = (
    asyncpg.SerializationError,  # 40001
    asyncpg.DeadlockDetectedError,  # 40P01
    asyncpg.LockNotAvailableError,  # 55P03: lock_timeout
    asyncpg.QueryCanceledError,  # 57014: statement_timeout, or an operator
)

# What asyncpg raises while Postgres cannot serve. A statement that is wrong is not among it.
UNAVAILABLE = (
    OSError,
    asyncpg.InterfaceError,  # the connection was closed here
    asyncpg.InternalClientError,  # or: no host of the URL takes writes
    asyncpg.PostgresConnectionError,  # 08
    asyncpg.IdleInTransactionSessionTimeoutError,  # 25P03: ended the session
    asyncpg.TransactionTimeoutError,  # 25P04: ended the session
    asyncpg.TransactionRollbackError,  # 40
    asyncpg.InsufficientResourcesError,  # 53: no disk, no memory, no connection left
    asyncpg.OperatorInterventionError,  # 57
    asyncpg.PostgresIOError,  # 58030
    *SERVER_LOST,
    *UNDONE,
)
