"""Alembic's environment: raw SQL on one SQLite connection, no models.

handspan itself passes its connection, already inside the transaction it will commit or roll back. On the
command line (``alembic -x db=home.db current``) the file comes from ``-x db=``, from ``HANDSPAN_DB``, or is
``handspan.db``, and ``upgrade`` goes the same way users' files do: copy first, all or nothing.
"""

import os
import sqlite3

from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool


def file_from_command_line() -> str:
    return context.get_x_argument(as_dictionary=True).get("db") or os.environ.get("HANDSPAN_DB") or "handspan.db"


def run(dbapi_connection: sqlite3.Connection) -> None:
    """The chain, on a connection whose transaction is the caller's: SQLAlchemy must not end it."""
    engine = create_engine("sqlite://", creator=lambda: Borrowed(dbapi_connection), poolclass=StaticPool)
    with engine.connect() as connection:
        context.configure(connection=connection, transactional_ddl=False)
        context.run_migrations()


class Borrowed:
    """A connection that cannot be committed, rolled back or closed by whoever holds it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


def run_from_command_line() -> None:
    from handspan.errors import DatabaseError
    from handspan.store import connection, schema

    path = file_from_command_line()
    if not os.path.exists(path):
        raise SystemExit(f"There is no file at {path}: give one with -x db=PATH or HANDSPAN_DB.")
    try:
        conn = connection.connect(path, busy_timeout=5)
        if connection.file_state(conn, path) == "empty":
            raise SystemExit(f"{path} is empty: handspan builds a new file from schema.sql by itself.")
    except DatabaseError as error:
        raise SystemExit(str(error)) from None
    try:
        if command_name() in ("upgrade", "downgrade", "stamp"):
            if schema.other_sessions_live(conn, path):
                raise SystemExit(f"Another process is recording into {path}: try again once it has stopped.")
            schema.backup(conn, f"{path}.backup")
            with schema.upgrade_transaction(conn, schema.migrations_dir()):
                run(conn)
        else:
            run(conn)
    finally:
        conn.close()


def command_name() -> str:
    return str(getattr(getattr(context.config.cmd_opts, "cmd", [None])[0], "__name__", ""))


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    run_from_command_line()
