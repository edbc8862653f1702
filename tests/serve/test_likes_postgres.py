"""LIKES on PostgreSQL: what is its own. The suite that both databases pass is in test_likes."""

import threading

import pytest

from panfit.errors import DataError
from panfit.serve import likes_database
from panfit.serve.likes import LikesStore, UnavailableError
from tests.serve.postgres import Server


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_the_url_is_understood(postgres: Server, scheme: str) -> None:
    store = LikesStore(postgres.new_database().replace("postgresql+psycopg", scheme))
    store.open()
    assert store.count() == 0
    store.close()


def test_a_server_that_lets_nobody_in(postgres: Server) -> None:
    wanted = {
        postgres.url("postgres", password="hunter2"): "password authentication failed.*right user and password",
        postgres.url("postgres", user="nobody", password="hunter2"): "password authentication failed",
        postgres.url("missing"): 'database "missing" does not exist.*createdb',
        f"postgresql://ann:hunter2@/likes?host={postgres.folder}/missing": "See that the server runs",
        f"postgresql://ann@/likes?host={postgres.folder}/missing&password=hunter2": "See that the server runs",
        f"postgresql://ann@/likes?host={postgres.folder}&hunting=1&password=hunter2": "invalid connection option",
    }
    for url, message in wanted.items():
        with pytest.raises(DataError, match=f"postgresql.psycopg://.*cannot be opened: .*{message}") as caught:
            LikesStore(url).open()
        assert "hunter2" not in str(caught.value)
        assert "p%40ss" not in str(caught.value)
        assert "p@ss" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_user_who_may_not_make_tables(postgres: Server) -> None:
    postgres.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as is usual from PostgreSQL 15 on
    postgres.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    with pytest.raises(DataError, match=r"permission denied.*GRANT CREATE"):
        LikesStore(postgres.url("postgres", user="guest", password="guest")).open()


def test_a_server_that_crashes_and_comes_back(postgres: Server) -> None:
    store = LikesStore(postgres.new_database())
    store.open()
    made = store.create("Ann", [("coat", None)])
    postgres.stop()
    try:
        for use in (store.ping, lambda: store.get(made.id), lambda: store.create("Bo")):
            with pytest.raises(UnavailableError, match="cannot answer"):
                use()
    finally:
        postgres.start()
    store.ping()
    assert store.get(made.id) == made
    postgres.stop()
    postgres.start()
    assert store.put(made.id, [("skirt", None)], liked=True).version == 2  # nobody noticed
    store.close()


def test_one_process_at_a_time_migrates(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LikesStore(postgres.new_database())
    opening = threading.Thread(target=store.open)
    with postgres.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s)", [likes_database.MIGRATION_LOCK])
        opening.start()
        waiting = 0
        while waiting == 0 and opening.is_alive():
            row = other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone()
            assert row is not None
            waiting = row[0]
        assert waiting == 1
        with monkeypatch.context() as patch:
            patch.setattr(likes_database, "BUSY_SECONDS", 0.05)
            with pytest.raises(DataError, match=r"lock timeout.*Another program"):
                LikesStore(postgres.new_database()).open()
    opening.join()
    assert store.count() == 0
    store.close()
