"""The asynchronous face of the file: readers for those who live in an event loop.

It never writes. Making and upgrading the file is the writer's, whose ``opened`` is awaited if there is one;
without one, a file that is not there stays not there.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from handspan.errors import DatabaseError, QueryTimeoutError
from handspan.store.connection import explained, identity_of
from handspan.store.reader import ClosedByForkError, opening
from handspan.store.reading import Fingerprint, Opened, fingerprint, open_quietly, open_reader

if TYPE_CHECKING:
    import aiosqlite

__all__ = ["DEFAULT_DEADLINE", "DatabaseService", "Opening", "Params"]

Params = Mapping[str, Any] | Sequence[Any]

DEFAULT_DEADLINE: Final = 5.0  # seconds: a hundred times what a query should take at a million runs
READERS: Final = 4  # connections, each with a thread: a page of the dashboard asks about so much at once
FETCH_CHUNK: Final = 256  # rows per trip to the thread; only aiosqlite's own iteration uses it


class Opening(Protocol):
    """What is asked of the writer: when the file is there, and of this version."""

    @property
    def opened(self) -> Future[None]: ...


class DatabaseService:
    """Answers queries about one file, a few at a time, each within its deadline.

    Connections are opened by the first query that needs them and closed by :meth:`close`.
    """

    def __init__(self, path: str, *, writer: Opening | None = None, any_schema: bool = False) -> None:
        self.path = path
        self._writer, self._any_schema = writer, any_schema
        self._slots = asyncio.Semaphore(READERS)
        self._idle: list[_Reader] = []
        self._readers: list[_Reader] = []
        self._closed = False
        self._pid = os.getpid()

    async def open(self) -> None:
        """Wait for the writer to have made or upgraded the file. Raises what made it give up."""
        if self._writer is not None:
            await asyncio.shield(asyncio.wrap_future(self._writer.opened))  # shield: it is not ours to cancel

    async def close(self) -> None:
        """Twice is once. Queries still under way end with an error."""
        self._closed = True
        if self._pid != os.getpid():
            self._leave_to_parent()
        readers, self._readers, self._idle = self._readers, [], []
        for reader in readers:
            await reader.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def fetch_all(
        self, sql: str, params: Params = (), *, deadline: float | None = DEFAULT_DEADLINE
    ) -> list[sqlite3.Row]:
        """All rows of a reading statement; rows can be asked by name.

        ``deadline`` counts in seconds from now, waiting for a free connection included; ``None`` is for
        maintenance. Raises :class:`QueryTimeoutError`, or the :class:`DatabaseError` that fits.
        """
        query = _Query(sql, params, None if deadline is None else time.monotonic() + deadline)
        try:
            async with asyncio.timeout(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise _too_slow(deadline) from None
        try:
            return await self._fetch(query)
        except sqlite3.OperationalError as error:
            if not query.over() or getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
                with explained(self.path):
                    raise
            if self._closed:
                raise DatabaseError(f"{self.path} was closed while this query ran.") from None
            raise _too_slow(deadline) from None
        except sqlite3.Error:
            with explained(self.path):
                raise
        finally:
            self._slots.release()

    async def fetch_one(
        self, sql: str, params: Params = (), *, deadline: float | None = DEFAULT_DEADLINE
    ) -> sqlite3.Row:
        """The row of a statement that always has one."""
        return (await self.fetch_all(sql, params, deadline=deadline))[0]

    async def _fetch(self, query: "_Query") -> list[sqlite3.Row]:
        if self._closed:
            raise DatabaseError(f"{self.path} was closed.")
        if self._pid != os.getpid():
            self._leave_to_parent()
        if self._idle:
            reader = self._idle.pop()
        else:
            reader = _Reader(self.path, any_schema=self._any_schema)
            self._readers.append(reader)
        try:
            return await reader.fetch_all(query)
        finally:
            if not self._closed:
                self._idle.append(reader)

    def _leave_to_parent(self) -> None:
        """In a forked child: the readers' threads are not here; their connections were closed before the fork."""
        _inherited.extend(self._readers)  # aiosqlite complains of one that is collected and was not closed
        self._readers, self._idle, self._pid = [], [], os.getpid()
        self._slots = asyncio.Semaphore(READERS)


_inherited: list[object] = []


class _Query:
    """One query on its way: when it must end, and whether anybody still waits for it."""

    def __init__(self, sql: str, params: Params, ends: float | None) -> None:
        self.sql, self.params, self.ends = sql, params, ends
        self.abandoned = False

    def over(self) -> bool:
        return self.abandoned or (self.ends is not None and time.monotonic() >= self.ends)


class _Connection:
    """One connection on one thread of aiosqlite's, and the query it is at."""

    def __init__(self) -> None:
        self.query: _Query | None = None
        self.unlocked: Fingerprint | None = None
        self.identity: tuple[int, int] | None = None
        self._aio: aiosqlite.Connection | None = None

    async def open(self, path: str, *, locks: bool, any_schema: bool) -> None:
        failures: list[BaseException] = []

        def connect() -> sqlite3.Connection:
            try:
                self.identity = identity_of(path)
                with opening:
                    opened = _opened(path, locks=locks, any_schema=any_schema)
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)
                return sqlite3.connect(":memory:", check_same_thread=False)
            self.unlocked = opened.unlocked
            opened.conn.asks = self._over
            return opened.conn

        # A connector that raises, or a cancelled connect, leaves aiosqlite's thread talking to a loop that may be
        # gone by then (0.22: a traceback on stderr). So this one never raises, and always arrives.
        import aiosqlite  # 10 ms that an application which never reads need not pay

        aio = aiosqlite.Connection(connect, FETCH_CHUNK)
        _make_daemon(aio)
        arriving = asyncio.create_task(_arrived(aio))
        try:
            await asyncio.shield(arriving)
        except asyncio.CancelledError:
            await (await arriving).close()
            raise
        if failures:
            await aio.close()
            raise failures[0]
        self._aio = aio

    async def run(self, query: _Query) -> list[sqlite3.Row]:
        if self._aio is None:
            raise DatabaseError("The connection is not open.")
        self.query = query
        try:
            rows = list(await self._aio.execute_fetchall(query.sql, query.params))
        except sqlite3.Error:
            self.query = None
            raise
        self.query = None  # not after a cancellation: then the thread is still at it
        return rows

    async def close(self) -> None:
        if self.query is not None:
            self.query.abandoned = True
        aio, self._aio = self._aio, None
        if aio is not None:
            await aio.close()

    def _over(self) -> bool:
        return self.query is not None and self.query.over()


class _Reader:
    """A connection that is replaced when it must be: the file changed under it, or its query was given up."""

    def __init__(self, path: str, *, any_schema: bool) -> None:
        self._path, self._any_schema = path, any_schema
        self._conn: _Connection | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def fetch_all(self, query: _Query) -> list[sqlite3.Row]:
        while True:
            try:
                return await self._fetch_all(query)
            except ClosedByForkError:  # somebody forked: open anew, ask again
                await self._drop()

    async def _fetch_all(self, query: _Query) -> list[sqlite3.Row]:
        if self._changed():
            await self._drop()
        if self._conn is None:
            await self._connect(locks=False)
        try:
            rows = await self._run(query)
        except sqlite3.DatabaseError:
            if query.over() or not self._changed():
                raise
        else:
            if not self._changed():
                return rows
        await self._drop()
        await self._connect(locks=True)
        return await self._run(query)

    async def close(self) -> None:
        self._closed = True
        await self._drop()
        await asyncio.gather(*self._closing)

    async def _connect(self, *, locks: bool) -> None:
        conn = _Connection()
        await conn.open(self._path, locks=locks, any_schema=self._any_schema)
        if self._closed:
            await conn.close()
            raise DatabaseError(f"{self._path} was closed.")
        self._conn = conn

    async def _run(self, query: _Query) -> list[sqlite3.Row]:
        conn = self._conn
        if conn is None:
            raise DatabaseError(f"{self._path} was closed.")
        try:
            return await conn.run(query)
        except asyncio.CancelledError:
            # The thread is still at it: let it notice and end by itself, and use another one from here on.
            query.abandoned, self._conn = True, None
            task = asyncio.create_task(conn.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            raise

    async def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    def _changed(self) -> bool:
        """Written to, where it was opened without locks; or set aside, and another one begun."""
        conn = self._conn
        if conn is None:
            return False
        if conn.unlocked is None:
            return conn.identity != identity_of(self._path)
        return conn.unlocked != fingerprint(self._path)


def _opened(path: str, *, locks: bool, any_schema: bool) -> Opened:
    if locks:
        return Opened(open_reader(path, any_schema=any_schema), None)
    return open_quietly(path, any_schema=any_schema)


async def _arrived(conn: "aiosqlite.Connection") -> "aiosqlite.Connection":
    return await conn


def _make_daemon(conn: "aiosqlite.Connection") -> None:
    """The interpreter waits for every other thread: one forgotten connection would keep it from exiting.

    aiosqlite has no setting for it. Its thread is ``_thread`` since 0.22; before, the connection was one.
    """
    thread = getattr(conn, "_thread", conn)
    if isinstance(thread, threading.Thread) and not thread.is_alive():
        thread.daemon = True


def _too_slow(deadline: float | None) -> QueryTimeoutError:
    return QueryTimeoutError(f"The query took longer than {deadline or 0:g} s and was stopped.")
