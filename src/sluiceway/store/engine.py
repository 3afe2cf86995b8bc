"""Opening a store, and every difference between SQLite and PostgreSQL.

Opening migrates under a lock, after a backup copy, and refuses a store that a newer Sluiceway wrote.
"""

from __future__ import annotations

import glob
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from sluiceway.errors import BadSetting, NewerStore, StoreUnavailable

SCHEMA_VERSION = "0006"
"""The newest migration; a test holds it against the migrations folder."""

_BUSY_MS = 30_000
_OPENING_S = 10.0
_CLOCK_FRESH_S = 30.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Store:
    """An open store: one connection that writes, others that can only read, and the database's clock."""

    def __init__(self, url: str, writing: Engine, reading: Engine, state: Path) -> None:
        self.url = url
        self.writing = writing
        self.reading = reading
        self.state = state
        self.clock = Clock(reading)

    def sees_locks_of(self, host: str) -> bool:
        """Tell whether the lock files of a worker on that host are in our folder: beside SQLite's file they all are."""
        return self.writing.dialect.name == "sqlite" or host == socket.gethostname()

    def lock_of(self, worker_id: str) -> Path:
        """Return the file that a worker holds locked for as long as it lives."""
        return self.state / f"{worker_id}.lock"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees one consistent state and can change nothing."""
        with self.reading.connect() as connection:
            yield connection

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """Yield a connection in a transaction, for who has no writer; raises `StoreUnavailable` if it cannot be had."""
        try:
            with self.writing.begin() as connection:
                yield connection
        except DBAPIError as error:
            if not is_unreachable(error):
                raise
            raise StoreUnavailable(f"the store cannot be written: {_reason(error)}") from error

    def close(self) -> None:
        """Give every connection back; the writer's last, so that SQLite folds its log into the file."""
        self.reading.dispose()
        self.writing.dispose()


class Clock:
    """The database's clock, read rarely and carried forward by the monotonic one, so that it never runs backwards."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._anchored_at = float("-inf")
        self._anchor_ms = 0

    def now(self) -> datetime:
        """Return the present moment by the database's clock, aware and in UTC."""
        return _EPOCH + timedelta(milliseconds=self._now_ms())

    def today(self) -> date:
        """Return the present day, in UTC."""
        return _day_of(self._now_ms() // 86_400_000)

    def stamp(self, *, after_s: float = 0.0) -> str:
        """Return the moment some seconds from now as tables hold it: ISO 8601, UTC, milliseconds, `Z`."""
        second, millisecond = divmod(self._now_ms() + int(after_s * 1000), 1000)
        return f"{_to_the_second(second)}.{millisecond:03d}Z"

    def seconds_until(self, stamp: str) -> float:
        """Return how far off a stamped moment is, negative when it has passed."""
        moment_ms = _second_of(stamp[:19]) * 1000 + int(stamp[20:23])
        return (moment_ms - self._now_ms()) / 1000

    def _now_ms(self) -> int:
        elapsed = time.monotonic() - self._anchored_at
        if elapsed > _CLOCK_FRESH_S:
            now_ms = int(self._ask().timestamp() * 1000)
            carried_ms = self._anchor_ms + int(elapsed * 1000) if self._anchor_ms else 0
            self._anchor_ms, self._anchored_at, elapsed = max(now_ms, carried_ms), time.monotonic(), 0.0
        return self._anchor_ms + int(elapsed * 1000)

    def _ask(self) -> datetime:
        if self._engine.dialect.name == "sqlite":
            return datetime.now(UTC)  # SQLite has no clock of its own; it reads this machine's
        with self._engine.connect() as connection:
            moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            return moment.astimezone(UTC)


@lru_cache(maxsize=4)
def _day_of(day: int) -> date:
    return (_EPOCH + timedelta(days=day)).date()


@lru_cache(maxsize=256)
def _second_of(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


@lru_cache(maxsize=256)
def _to_the_second(second: int) -> str:
    """Format a moment; many stamps fall into each second, and formatting dates is slow."""
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


def open_store(url: str) -> Store:
    """Open the store at an SQLAlchemy URL, creating or migrating it first.

    Raises `BadSetting` for a URL that cannot be used, `NewerStore` for a store this version must not touch, and
    `StoreUnavailable` when it cannot be opened now.
    """
    path = sqlite_path(url)
    writing, reading = _engines(url)
    state = _state_folder(url, path)
    try:
        _patiently(lambda: _migrate_if_needed(writing, path, state))
    except BaseException as error:
        reading.dispose()
        writing.dispose()
        if isinstance(error, DBAPIError | OSError):
            raise StoreUnavailable(f"the store at {shown_url(url)} cannot be opened: {_reason(error)}") from error
        raise
    return Store(url, writing, reading, state)


def _patiently(opening: Callable[[], None]) -> None:
    """Open a store, again and again for a moment where another process has it to itself.

    SQLite does not wait for who reads back the log of one that was killed, or clears up as the last to close, however
    long it may wait for a lock.
    """
    give_up = time.monotonic() + _OPENING_S
    while True:
        try:
            return opening()
        except OperationalError as error:
            busy = str(getattr(error.orig, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
            if not busy or time.monotonic() > give_up:
                raise
        time.sleep(0.05)


def shown_url(url: str) -> str:
    """Return a store's URL as it may be printed: without its password."""
    return make_url(url).render_as_string(hide_password=True)


def sqlite_path(url: str) -> Path | None:
    """Return the file behind an SQLite URL; `None` for other databases. Raises `BadSetting` when unusable."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise BadSetting(f"SLUICEWAY_DATABASE_URL {url!r} is not a URL such as sqlite:///people.db") from error
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database or parsed.database == ":memory:":
        raise BadSetting("SLUICEWAY_DATABASE_URL must name a file, such as sqlite:///people.db")
    return Path(parsed.database)


def beside(url: str, name: str) -> str:
    """Return the URL of an SQLite store of another name, next to a store's file or in its folder of locks."""
    path = sqlite_path(url)
    other = path.with_name(f"{path.stem}-{name}.db") if path else _state_folder(url, None) / f"{name}.db"
    return f"sqlite:///{other.as_posix()}"


def _engines(url: str) -> tuple[Engine, Engine]:
    """Return the engines that write and read; raises `BadSetting` for a kind of store we do not know."""
    backend = make_url(url).get_backend_name()
    try:
        return _sqlite_engines(url) if backend == "sqlite" else _server_engines(url, backend)
    except (ArgumentError, ImportError, ValueError) as error:
        raise BadSetting(f"SLUICEWAY_DATABASE_URL {shown_url(url)!r} cannot be used: {error}") from error


def _server_engines(url: str, backend: str) -> tuple[Engine, Engine]:
    if backend != "postgresql":
        raise ValueError(f"{backend} is neither sqlite nor postgresql")
    engine = create_engine(url, hide_parameters=True)
    return engine, engine


def _sqlite_engines(url: str) -> tuple[Engine, Engine]:
    # what is bound to a statement is about people, so no error and no log shows it
    common = {"poolclass": QueuePool, "connect_args": _SQLITE_ARGS, "hide_parameters": True}
    writing = create_engine(url, pool_size=1, max_overflow=0, **common)
    reading = create_engine(url, pool_size=4, max_overflow=8, **common)
    event.listen(writing, "connect", _prepare_writer)
    event.listen(writing, "begin", _begin_immediate)
    event.listen(reading, "connect", _prepare_reader)
    event.listen(reading, "begin", _begin_reading)
    return writing, reading


# Autocommit as far as the driver is concerned: it must not open deferred transactions behind our back.
_SQLITE_ARGS: dict[str, Any] = {"isolation_level": None, "check_same_thread": False, "cached_statements": 512}


def _prepare_writer(connection: Any, record: object) -> None:
    for pragma in (
        f"busy_timeout = {_BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",  # what is deleted is overwritten, whatever this SQLite was built to do
        "temp_store = MEMORY",  # every update of many rows lays out its values in a table of its own
    ):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_reader(connection: Any, record: object) -> None:
    for pragma in (f"busy_timeout = {_BUSY_MS}", "query_only = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    # A deferred transaction that turns into a write fails at once when another process is writing; this one waits.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


_UNREACHABLE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")


def is_unreachable(error: DBAPIError) -> bool:
    """Tell a store that cannot be written at present from one that refuses what it is given."""
    if name := getattr(error.orig, "sqlite_errorname", None):
        return str(name).startswith(_UNREACHABLE)
    return bool(error.connection_invalidated) or isinstance(error, OperationalError | InterfaceError)


def run_in_driver(connection: Connection, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Run a statement as it stands, in the connection's transaction, and return its rows.

    SQLAlchemy would add half again to what our bulk statements take; errors are raised as it raises them.
    """
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []
    except connection.dialect.loaded_dbapi.Error as error:
        lost = connection.dialect.is_disconnect(error, connection.connection, cursor)
        base = connection.dialect.loaded_dbapi.Error
        raise DBAPIError.instance(
            statement, values, error, base, hide_parameters=True, connection_invalidated=lost
        ) from error
    finally:
        cursor.close()


def do_not_wait_for_locks(connection: Connection) -> None:
    """Have a connection fail at once when another process is writing, for a caller that must not block."""
    if connection.dialect.name == "sqlite":
        driver = connection.connection.driver_connection
        if driver is not None:
            driver.execute("PRAGMA busy_timeout = 0")


def leave_no_trace(store: Store, patience_s: float = 30.0) -> bool:
    """Rewrite an SQLite file so that nothing is left of what was deleted; returns whether its log was emptied too.

    Overwriting is not enough: when SQLite moves rows to another page, copies stay in the unused part of the old one.
    The log can only be emptied while nobody reads. Other writers wait meanwhile: about 10 s per GB. On PostgreSQL this
    is left to its own VACUUM.
    """
    path = sqlite_path(store.url)
    if path is None:
        return True
    give_up = time.monotonic() + patience_s
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MS / 1000)
    try:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("VACUUM")
        while not _log_emptied(connection):
            if time.monotonic() > give_up:
                return False
            time.sleep(0.1)
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"the store cannot be rewritten now: {error}") from error
    finally:
        connection.close()
    return True


def _log_emptied(connection: sqlite3.Connection) -> bool:
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def backups_of(store: Store) -> list[Path]:
    """Return the copies that migrations left beside an SQLite file."""
    path = sqlite_path(store.url)
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.*.bak")) if path else []


def merge_json(dialect: str, column: str, patch: str) -> str:
    """Return SQL that merges a patch into a JSON column, key by key; a null in the patch takes the key away."""
    if dialect == "sqlite":
        return f"json_patch({column}, {patch})"
    return f"jsonb_strip_nulls(CAST({column} AS jsonb) || CAST({patch} AS jsonb))::text"


def _state_folder(url: str, path: Path | None) -> Path:
    """Return the folder for lock files: beside an SQLite file, else under the user's cache."""
    folder = (
        path.resolve().with_name(path.name + ".workers") if path else Path.home() / ".cache" / "sluiceway" / _host()
    )
    try:
        # Beside a file nothing more is made: a folder that is not there is a mistyped address.
        folder.mkdir(parents=path is None, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"the folder {folder} cannot be made: {error.strerror}") from error
    return folder


def _host() -> str:
    return socket.gethostname() or "localhost"


def _migrate_if_needed(writing: Engine, path: Path | None, state: Path) -> None:
    if _version(writing) == SCHEMA_VERSION:
        return
    with FileLock(state / "migrate.lock"):
        found = _version(writing)  # another process may have done it while we waited
        if found == SCHEMA_VERSION:
            return
        if found is not None and found > SCHEMA_VERSION:
            raise NewerStore(
                f"the store is at schema {found}, this Sluiceway knows {SCHEMA_VERSION}: upgrade Sluiceway to open it"
            )
        if found is not None and path is not None:
            _back_up(writing, path, found)
        _upgrade(writing)


def _version(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not engine.dialect.has_table(connection, "alembic_version"):
            return None
        version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return version


def _back_up(writing: Engine, path: Path, version: str) -> None:
    with writing.connect() as connection:
        connection.exec_driver_sql("COMMIT")  # a checkpoint cannot run inside the transaction that connecting began
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        shutil.copy2(path, path.with_name(f"{path.name}.{version}.bak"))


def _upgrade(writing: Engine) -> None:
    from alembic import command  # a third of a second to import, and only a new or an old store needs it
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with writing.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _reason(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return str(cause).splitlines()[0]
