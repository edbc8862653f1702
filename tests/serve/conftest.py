"""Databases for tests of the service: SQLite always, PostgreSQL where it is installed."""

from collections.abc import Iterator

import pytest

from tests.serve.postgres import SKIPPED, Server, find_binaries


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for all tests."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(SKIPPED)
    server = Server(binaries)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of either kind."""
    if request.param == "sqlite":
        folder = request.getfixturevalue("tmp_path")
        return f"sqlite:///{folder / 'likes.db'}"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database()
