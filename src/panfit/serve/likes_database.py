"""LIKES, DATABASE: a URL -> a database that answers, has the tables of this panfit, and loses nothing it acknowledged.

Two kinds: SQLite in a file, and PostgreSQL. What differs between them stands here and nowhere else.
"""

import contextlib
import importlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import Connection, Engine, column, create_engine, event, exc, inspect, make_url, select, table, text
from sqlalchemy.engine import URL

from panfit.errors import DataError, MissingExtraError
from panfit.serve.likes_tables import HEAD, VERSION_TABLE

logger = logging.getLogger("panfit")

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30
"""How long a write waits for another process's."""
READER_SECONDS = 5
"""How long an erasure waits for somebody who reads an older state of the file."""
PATIENCE = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Seconds after which a PostgreSQL server that has gone silent counts as gone (libpq's names)."""
MIGRATION_LOCK = 0x70616E66
"""PostgreSQL's advisory lock under which one process at a time migrates ("panf")."""
HIDDEN = "password", "sslpassword", "passfile"
"""What a URL's query may hold and no message may show."""
EXAMPLES = "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
REMEDIES = {
    "not a database": "Name another file, or move this one away",
    "malformed": "The file is damaged: put a backup in its place, or name another file",
    "already exists": "These tables were not made by panfit's migrations: name another database",
    "readonly": "Let this user write the file and its folder, or name another file",
    "unable to open": "Name a file, in a folder in which this user may write",
    "locked": "Another program holds the file: end it, then start again",
    "lock timeout": "Another program migrates the database, or holds its tables: end it, then start again",
    "password": "Write the right user and password into the URL",
    "does not exist": "Make the user and the database first (createuser, createdb), or correct the URL",
    "permission denied": "Let this user make tables: GRANT CREATE ON SCHEMA public, or make him the database's owner",
}
"""What a database may say when it is opened, and how to mend it."""
OTHERWISE = {
    True: "See that the file can be read and written",
    False: "See that the server runs, and that the URL names its host, port, user and database",
}

_migrating = threading.Lock()  # Alembic has one context a process


class UnavailableError(Exception):
    """The database cannot answer now: it is gone, full or locked. Asking again later may help."""


class Database:
    """Connections to one database of likes. Safe to use from several threads.

    Args:
        url: SQLAlchemy's: sqlite:///FILE, or postgresql+psycopg://USER:PASSWORD@HOST/NAME.

    Raises:
        DataError: no such URL, or of a database that is neither.
        MissingExtraError: PostgreSQL without its driver.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.shown = shown(self._url)
        self._reads: Engine | None = None
        self._writes: Engine | None = None
        self._turn = threading.Lock()
        self._erasing = threading.Lock()

    def open(self) -> None:
        """Connect and migrate; several processes may do so at once. Raises DataError if it cannot be."""
        if self._reads is not None:
            return
        if self.is_sqlite:
            _make_file(Path(str(self._url.database)), self.shown)
        engine = _engine(self._url)
        try:
            if self.is_sqlite:
                _use_wal(engine)
            writes = engine.execution_options(begin="BEGIN IMMEDIATE")
            with writes.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(text(f"SET LOCAL lock_timeout = {round(BUSY_SECONDS * 1000)}"))
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
                _migrate(connection, self.shown)
        except exc.DBAPIError as error:
            engine.dispose()
            _refuse(error, self.shown, self.is_sqlite)
        except Exception:
            engine.dispose()
            raise
        self._reads, self._writes = engine, writes
        try:
            self.erase()
        except UnavailableError as error:  # it stays marked
            logger.warning("what was to be erased is still in the database's files: %s", error)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for one statement, or several that need not agree. Raises UnavailableError."""
        if self._reads is None:
            raise RuntimeError("the database is not open: call open() first")
        with _told(), self._reads.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is on disk when this returns. Raises UnavailableError."""
        if self._writes is None:
            raise RuntimeError("the database is not open: call open() first")
        # SQLite has one writer at a time; threads of this process wait here in order, others poll.
        with self._turn if self.is_sqlite else contextlib.nullcontext(), _told(), self._writes.begin() as connection:
            yield connection

    def mark(self, connection: Connection) -> None:
        """Have what this transaction deletes erased by `erase`; by a later one, or `open`, if that is cut short."""
        if self.is_sqlite:
            # A number of its own, so that nobody takes an older erasure for his. It is kept with the transaction.
            connection.exec_driver_sql(f"PRAGMA user_version = {secrets.randbits(30) + 1}")

    def erase(self) -> None:
        """Leave nothing in SQLite's files of what `mark` was called for.

        Deleted rows are overwritten by zeros (secure_delete), but copies of them stay behind where SQLite moved rows
        between pages, and older states of pages in the write-ahead log. So the file is written anew, and the log cut.
        PostgreSQL does such work by itself, in its own time.
        """
        if not self.is_sqlite or self._reads is None:
            return
        # Those who wait here are mostly done when it is their turn: one writing serves all that were marked before it.
        with self._erasing, _told(), self._reads.connect().execution_options(begin=None) as connection:
            marked = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if marked == 0:
                return
            with self._turn:
                connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {READER_SECONDS * 1000}")
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        if busy:
            logger.warning("the database of likes is being read: what was erased leaves its -wal file the next time")
            return
        with self.writing() as connection:
            if connection.exec_driver_sql("PRAGMA user_version").scalar_one() == marked:
                connection.exec_driver_sql("PRAGMA user_version = 0")

    def close(self) -> None:
        """Let go of all connections."""
        if self._reads is not None:
            self._reads.dispose()
        self._reads = self._writes = None


def shown(url: URL) -> str:
    """A URL as messages may show it, without what is secret."""
    query = {name: "***" if name in HIDDEN else value for name, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        # Not shown: who can say where in it the password stands?
        raise DataError(f"the database's URL cannot be read. Write {EXAMPLES}") from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise DataError(f"likes cannot be kept in {url.drivername!r}. Write {EXAMPLES}")
    if "@" in (url.host or ""):
        raise DataError("the database's URL holds two @. In a password write %40 for @, %2F for /, %3A for :")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise DataError("likes cannot be kept in memory: they would not survive a restart. Write sqlite:///FILE")
    if url.get_backend_name() == "postgresql":
        try:
            importlib.import_module("psycopg")
        except ImportError:
            raise MissingExtraError("psycopg", "postgres") from None
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url, hide_parameters=True, pool_size=8, max_overflow=64, connect_args={"timeout": BUSY_SECONDS}
        )
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # What the URL says itself goes before.
    patience = {name: value for name, value in PATIENCE.items() if name not in url.query}
    return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=patience)


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transactions: _begin_sqlite does
    connection.execute("PRAGMA synchronous = FULL")  # a commit is on disk, also when the power fails
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten by zeros


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get("begin", "BEGIN")
    if begin is not None:
        connection.exec_driver_sql(begin)


def _use_wal(engine: Engine) -> None:
    """Readers and a writer at once. The change waits for nobody, so processes that start together try again."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            with engine.connect().execution_options(begin=None) as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            return
        except exc.OperationalError as error:
            if "locked" not in str(error.orig) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _migrate(connection: Connection, name: str) -> None:
    found = _heads(connection)
    if found == {HEAD}:
        return
    # Only now: it is imported more slowly than a database is opened, and most starts find nothing to do.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if not known.issuperset(found):
        raise DataError(
            f"{name}: found a database of a newer panfit (migration {', '.join(sorted(found - known))}); this one "
            f"knows up to {HEAD}. Update panfit, or name another database"
        )
    with _migrating:
        command.upgrade(config, "head")


def _heads(connection: Connection) -> set[str]:
    """The last migrations that a database has been through, as Alembic keeps them: one, or none at all."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return set()
    return set(connection.scalars(select(column("version_num")).select_from(table(VERSION_TABLE))))


def _make_file(file: Path, name: str) -> None:
    """An empty file that nobody else may read, where there is none; SQLite's other files take after it."""
    if not file.parent.is_dir():
        raise DataError(f"{name}: the folder {str(file.parent)!r} does not exist. Make it, or name another file")
    if not str(file).startswith("file:"):  # SQLite's own URIs
        with contextlib.suppress(OSError):  # SQLite says what is wrong
            file.touch(0o600)


def _refuse(error: exc.DBAPIError, name: str, is_sqlite: bool) -> NoReturn:
    said = _said(error)
    remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in said), OTHERWISE[is_sqlite])
    raise DataError(f"{name}: the database of likes cannot be opened: {said}. {remedy}") from None


def _said(error: Exception) -> str:
    """The driver's words in one line, without statement and values (PostgreSQL's details tell the row)."""
    said = getattr(error, "orig", None) or error
    primary = getattr(getattr(said, "diag", None), "message_primary", None)
    return " ".join(str(primary or said).split()).rstrip(".?")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """The database's failures, in words that may be logged. RuntimeError: panfit should not have asked for that."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError) as error:
        raise UnavailableError(f"the database of likes cannot answer: {_said(error)}") from None
    except exc.DBAPIError as error:
        raise RuntimeError(f"the database of likes refused a statement: {_said(error)}") from None
