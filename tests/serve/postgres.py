"""A real PostgreSQL server for tests, where one is installed: started by the tests, gone with them."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

USER, PASSWORD = "panfit", "p@ss/w:rd"  # a password that a URL must escape
SKIPPED = "no PostgreSQL server here (initdb, pg_ctl): these tests need Debian's package postgresql"


def find_binaries() -> Path | None:
    """The folder that holds initdb and pg_ctl; None: no server is installed."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


class Server:
    """A server on a socket in a folder of its own; nothing but this machine reaches it.

    The folder is not pytest's: PostgreSQL refuses to run as root, and another user may not enter root's.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._user = "postgres" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="panfit-postgres-"))
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        password = self.folder / "password"
        password.write_text(PASSWORD, "utf-8")
        password.chmod(0o644)
        self._run(
            *("initdb", "-D", self._data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}"),
            *("--no-sync", "--encoding=UTF8", "--locale=C"),
        )
        self._made = 0

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def start(self) -> None:
        # Without fsync a test is quick, and a process that is killed loses nothing all the same.
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-l", str(self.folder / "log"), "-o", options, "-w", "start")

    def stop(self) -> None:
        """At once, as if it had crashed."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def url(self, database: str, *, user: str = USER, password: str = "p%40ss%2Fw%3Ard") -> str:
        return f"postgresql+psycopg://{user}:{password}@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The URL of a place without any tables."""
        # A schema is as empty, and made far quicker.
        self._made += 1
        self.execute(f"CREATE SCHEMA likes{self._made}")
        return f"{self.url('postgres')}&options=-csearch_path%3Dlikes{self._made}"

    def connect(self) -> psycopg.Connection:
        """As the superuser; every statement is a transaction of its own."""
        return psycopg.connect(host=str(self.folder), user=USER, password=PASSWORD, dbname="postgres", autocommit=True)

    def execute(self, statement: str) -> None:
        with self.connect() as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *arguments: str) -> None:
        # Not through pipes: the server would inherit them, and whoever reads them would wait for its end.
        out = self.folder / "out"
        with out.open("wb") as file:
            done = subprocess.run(
                [str(self._binaries / program), *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                check=False,
                user=self._user,
                extra_groups=None if self._user is None else [],
            )
        assert done.returncode == 0, out.read_text("utf-8")
