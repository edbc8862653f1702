"""LIKES: one suite for both kinds of database; then what is SQLite's alone. PostgreSQL's: test_likes_postgres."""

import hashlib
import json
import logging
import random
import secrets
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, CursorResult, text
from sqlalchemy.exc import OperationalError

from panfit.errors import DataError, MissingExtraError, UnknownIdError
from panfit.ids import OutfitIds
from panfit.serve import likes_database
from panfit.serve.likes import LikesStore, Opinion, Profile, UnavailableError, is_newcomer_id, opinion_id
from panfit.serve.likes_database import Database
from panfit.serve.likes_tables import HEAD, METADATA, VERSION_TABLE

COAT, SUIT, SKIRT = ("coat", None, "boots"), ("jacket", "trousers", "shoes"), ("blouse", "skirt", None)
NOBODY = "new-" + "0" * 32


@pytest.fixture
def store(database: str) -> Iterator[LikesStore]:
    store = LikesStore(database, max_opinions=5)
    store.open()
    yield store
    store.close()


def said(profile: Profile) -> list[tuple[OutfitIds, bool]]:
    return [(opinion.outfit, opinion.liked) for opinion in profile.opinions]


def test_a_newcomer_is_read_as_he_was_made(store: LikesStore) -> None:
    made = store.create("  Ann Ö. ", [COAT, SUIT, COAT], [SKIRT])
    assert store.get(made.id) == made
    assert (made.name, made.version) == ("Ann Ö.", 1)
    assert said(made) == [(COAT, True), (SUIT, True), (SKIRT, False)]
    assert made.created_at.tzinfo is not None
    assert store.get(made.id).created_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=1)
    assert is_newcomer_id(made.id)
    assert store.count() == 1


def test_ids_cannot_be_guessed_and_have_one_form(store: LikesStore) -> None:
    ids = {store.create("Ann").id for _ in range(7)}
    assert len(ids) == 7
    assert len({character for newcomer in ids for character in newcomer[4:]}) == 16
    for other in ("", "u1", NOBODY.upper(), NOBODY + "\n", NOBODY + "0", NOBODY[:-1] + "g", NOBODY[:-1] + "٣"):
        assert not is_newcomer_id(other)


def test_an_opinion_s_id_is_the_outfit_s_hash() -> None:
    # Ids are kept in databases and in addresses: they may not change from one panfit to the next.
    assert opinion_id(COAT) == hashlib.sha256(b'["boots","coat"]').hexdigest()[:32]
    assert opinion_id(("boots", None, "coat")) == opinion_id(COAT), "two tops, in either order (decision D14)"
    assert opinion_id(('coat","boots', None)) != opinion_id(("coat", "boots", None))


def test_the_same_again_changes_nothing_and_the_opposite_replaces(store: LikesStore) -> None:
    made = store.create("Ann", [COAT, SUIT])
    assert store.put(made.id, [SUIT, COAT], liked=True) == made
    turned = store.put(made.id, [COAT, SKIRT], liked=False)
    assert said(turned) == [(SUIT, True), (COAT, False), (SKIRT, False)]
    assert turned.version == 2
    assert turned.opinions[1].id == made.opinions[0].id
    assert store.put(made.id, [], liked=True) == turned == store.get(made.id)


def test_opinions_are_removed_one_by_one(store: LikesStore) -> None:
    made = store.create("Ann", [COAT, SUIT], [SKIRT])
    left = store.remove(made.id, made.opinions[1].id)
    assert said(left) == [(COAT, True), (SKIRT, False)]
    assert left.version == 2
    for opinion in (made.opinions[1].id, "", "\0", "x" * 1000):
        with pytest.raises(UnknownIdError, match="has no opinion"):
            store.remove(made.id, opinion)
    assert store.get(made.id) == left
    assert said(store.put(made.id, [SUIT], liked=True))[-1] == (SUIT, True)


def test_a_name_changes_the_version_too(store: LikesStore) -> None:
    made = store.create("Ann", [COAT])
    assert store.rename(made.id, " Ann ") == made
    assert store.rename(made.id, "Bo") == replace(made, name="Bo", version=2) == store.get(made.id)


def test_who_is_forgotten_is_unknown(store: LikesStore) -> None:
    ann, bo = store.create("Ann", [COAT]), store.create("Bo", [COAT])
    store.forget(ann.id)
    actions: list[Callable[[str], object]] = [
        store.get,
        store.forget,
        lambda newcomer: store.put(newcomer, [COAT], liked=True),
        lambda newcomer: store.remove(newcomer, ann.opinions[0].id),
        lambda newcomer: store.rename(newcomer, "Cy"),
    ]
    for newcomer in (ann.id, NOBODY, "u1", "\0", "x" * 1000):
        for action in actions:
            with pytest.raises(UnknownIdError, match="there is no newcomer") as caught:
                action(newcomer)
            assert len(str(caught.value)) < 200
    assert store.get(bo.id) == bo
    assert store.count() == 1


def test_more_opinions_than_allowed_are_refused_and_none_is_kept(store: LikesStore) -> None:
    outfits = [(f"item-{number}", None) for number in range(6)]
    with pytest.raises(DataError, match="6 opinions are more than the 5"):
        store.create("Ann", outfits[:3], outfits[3:])
    assert store.count() == 0
    made = store.create("Ann", outfits[:4])
    with pytest.raises(DataError, match="Remove some"):
        store.put(made.id, outfits[3:], liked=True)
    assert store.get(made.id) == made
    full = store.put(made.id, outfits[3:5], liked=False)
    assert len(full.opinions) == 5
    assert store.put(made.id, outfits[:1], liked=False).version == 3  # full, and no more than before


def test_names_that_cannot_be_kept(store: LikesStore) -> None:
    made = store.create("x" * 80)
    for name in ("", " \t", "Ann" * 27, "Ann\nB", "Ann\0B", "Ann\x7fB", "Ann\u2028B", "Ann\ud800B"):
        for call in (store.create, lambda name: store.rename(made.id, name)):
            with pytest.raises(DataError, match="newcomer's name") as caught:
                call(name)
            assert "Ann" not in str(caught.value)
    assert store.get(made.id) == made
    assert store.create("Zoë 👩🏽‍🎤 o'Neil; --").name == "Zoë 👩🏽‍🎤 o'Neil; --"


def test_outfits_that_cannot_be_kept(store: LikesStore) -> None:
    with pytest.raises(DataError, match="without any item"):
        store.create("Ann", [(None, None)])
    with pytest.raises(DataError, match="liked and disliked"):
        store.create("Ann", [COAT, SUIT], [SUIT])
    made = store.create("Ann", [COAT])
    with pytest.raises(DataError, match="without any item"):
        store.put(made.id, [SUIT, ()], liked=True)
    assert store.get(made.id) == made


def test_any_item_id_can_be_kept(store: LikesStore) -> None:
    strange = ("\0", "\ud800", 'a"b\\', "a/b c?d=%41", "Zoë 👩🏽‍🎤", "", "x" * 5000, None)
    made = store.create("Ann", [strange])
    assert store.get(made.id).opinions == (Opinion(strange, True, opinion_id(strange)),)


def test_any_history_ends_as_a_plain_dictionary_says(store: LikesStore) -> None:
    chance = random.Random(5)
    outfits = [(f"top-{number % 3}", f"shoe-{number % 4}") for number in range(8)]
    newcomer = store.create("Ann").id
    held: dict[OutfitIds, bool] = {}
    version = 1
    for _ in range(60):
        after = dict(held)
        if held and chance.random() < 0.4:
            gone = chance.choice(list(held))
            del after[gone]
            profile = store.remove(newcomer, opinion_id(gone))
        else:
            asked, liked = chance.sample(outfits, chance.choice([1, 2, 3])), chance.random() < 0.5
            for outfit in asked:
                if after.get(outfit) != liked:
                    after.pop(outfit, None)
                    after[outfit] = liked
            if len(after) > max(5, len(held)):
                with pytest.raises(DataError):
                    store.put(newcomer, asked, liked=liked)
                continue
            profile = store.put(newcomer, asked, liked=liked)
        version += list(after.items()) != list(held.items())
        held = after
        assert (said(profile), profile.version) == (list(held.items()), version)
        assert profile == store.get(newcomer)
    assert version > 20


def test_secrets_are_one_to_a_name_and_the_same_for_all(store: LikesStore, database: str) -> None:
    other = LikesStore(database)
    other.open()
    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(lambda number: (store if number % 2 else other).secret("page"), range(12)))
    assert len(found) == 1
    assert {len(secret) for secret in found} == {32}
    assert store.secret("other") not in found
    other.close()


def test_everything_is_there_after_a_restart(store: LikesStore, database: str) -> None:
    made, secret = store.create("Ann", [COAT], [SUIT]), store.secret("page")
    store.close()
    again = LikesStore(database)
    again.open()
    again.open()
    again.ping()
    assert again.get(made.id) == made
    assert again.secret("page") == secret
    again.close()
    for use in (again.ping, again.count, lambda: again.create("Bo")):
        with pytest.raises(RuntimeError, match="call open"):
            use()


def test_threads_act_as_if_one_after_the_other(store: LikesStore, database: str) -> None:
    other = LikesStore(database, max_opinions=5)
    other.open()
    newcomer = store.create("Ann").id
    asked = [((f"top-{at % 4}", f"shoe-{at % 3}"), at % 5 > 1) for at in range(60)]

    def act(at: int) -> Profile | None:
        outfit, liked = asked[at]
        try:
            return (store if at % 2 else other).put(newcomer, [outfit], liked=liked)
        except DataError:
            return None

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(act, range(60)))
    states: dict[int, list[tuple[OutfitIds, bool]]] = {1: []}
    for profile in done:
        if profile is not None:
            assert states.setdefault(profile.version, said(profile)) == said(profile)
    assert sorted(states) == list(range(1, len(states) + 1))
    made_by = 0
    for version in range(2, len(states) + 1):
        before, after = states[version - 1], states[version]
        kept = [opinion for opinion in before if opinion[0] != after[-1][0]]
        assert after == [*kept, after[-1]]
        assert len(after) <= 5
        made_by += any(profile is not None and profile.version == version for profile in done)
    assert made_by == len(states) - 1 > 5
    assert said(store.get(newcomer)) == states[len(states)] == said(other.get(newcomer))
    other.close()


WRITE = """
import sys
from panfit.serve.likes import LikesStore
url, name = sys.argv[1:]
store = LikesStore(url)
print("ready", flush=True)
input()  # until all are there
store.open()
print(store.secret("page").hex(), flush=True)
newcomer = input()
for number in range(15):
    print(store.put(newcomer, [(f"{name}-{number}", None)], liked=True).version, flush=True)
store.close()
"""


def test_processes_agree_from_the_first_moment(database: str) -> None:
    """Three make the database at once, then write to one newcomer."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, database, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "abc"
    ]

    def tell(line: str) -> None:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

    def hear() -> set[str]:
        return {process.stdout.readline().strip() for process in processes if process.stdout is not None}

    assert hear() == {"ready"}
    tell("all are there")
    told = hear()
    store = LikesStore(database)
    store.open()
    newcomer = store.create("Ann").id
    tell(newcomer)
    versions = [int(line) for process in processes for line in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert told == {store.secret("page").hex()}
    assert sorted(versions) == list(range(2, 47))
    kept = store.get(newcomer)
    store.close()
    assert kept.version == 46
    assert {opinion.outfit[0] for opinion in kept.opinions} == {
        f"{name}-{number}" for name in "abc" for number in range(15)
    }


def test_the_migrations_make_the_tables_that_are_used(store: LikesStore) -> None:
    with store._database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, METADATA) == []


def test_a_database_that_is_up_to_date_needs_no_alembic(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations = Config()
    migrations.set_main_option("script_location", str(likes_database.MIGRATIONS))
    assert ScriptDirectory.from_config(migrations).get_heads() == [HEAD]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "alembic", None)
        with pytest.raises(ImportError):
            LikesStore(database).open()  # it is empty
    store = LikesStore(database)
    store.open()
    store.close()
    monkeypatch.setitem(sys.modules, "alembic", None)
    store.open()
    assert store.count() == 0
    store.close()


def test_a_newer_panfit_s_database_is_left_alone(store: LikesStore, database: str) -> None:
    with store._database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(DataError, match=r"newer panfit \(migration 9999\).*Update panfit"):
        LikesStore(database).open()


def test_tables_of_somebody_else_are_left_alone(database: str) -> None:
    raw = Database(database)
    raw.open()
    with raw.writing() as connection:
        connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
    with pytest.raises(DataError, match=r"already exists.*name another database"):
        LikesStore(database).open()
    raw.close()


def test_no_error_shows_what_was_to_be_written(store: LikesStore) -> None:
    again = text("INSERT INTO panfit_secrets (name, value) VALUES (:name, :value)")
    values = [{"name": "Ann", "value": b"1"}, {"name": "Ann", "value": b"2"}]
    refused = pytest.raises(RuntimeError, match=r"refused a statement.*panfit_secrets")
    with refused as caught, store._database.writing() as connection:
        connection.execute(again, values)
    assert "Ann" not in "".join(traceback.format_exception(caught.value))
    assert store.create("Bo").version == 1


# SQLite alone


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "likes.db"


@pytest.fixture
def kept(file: Path) -> Iterator[LikesStore]:
    store = LikesStore(f"sqlite:///{file}", max_opinions=500)
    store.open()
    yield store
    store.close()


def content(file: Path) -> bytes:
    """The bytes of the database and of the files beside it."""
    return b"".join(path.read_bytes() for path in sorted(file.parent.glob(file.name + "*")))


def test_what_is_acknowledged_is_on_the_disk(kept: LikesStore) -> None:
    # synchronous 2: FULL. A power cut cannot be had in a test; SQLite promises it for this setting.
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 30_000}
    with kept._database.writing() as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in wanted}
    assert found == wanted


def test_nobody_else_may_read_the_files(kept: LikesStore, file: Path) -> None:
    kept.create("Ann")
    modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
    assert modes == {"likes.db": 0o600, "likes.db-shm": 0o600, "likes.db-wal": 0o600}


def history(store: LikesStore, chance: random.Random) -> tuple[str, set[bytes]]:
    """A newcomer with a past: his id, and what would remind of him (the beginnings of all his words)."""
    words: list[str] = []

    def word() -> str:
        words.append(f"{chance.randbytes(6).hex()}{'.' * chance.choice([0, 3, 40, 300])}")
        return words[-1]

    profile = store.create(word()[:12], [(word(), word())])
    for step in range(8):
        outfit = tuple(word() for _ in range(chance.choice([1, 2, 5])))
        profile = store.put(profile.id, [outfit], liked=step % 2 == 0)
        if chance.random() < 0.4:
            profile = store.remove(profile.id, chance.choice(profile.opinions).id)
    store.rename(profile.id, word()[:12])
    return profile.id, {word[:10].encode() for word in words} | {profile.id[4:14].encode()}


def test_who_is_forgotten_leaves_nothing_in_the_files(
    kept: LikesStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(32)  # with these, secure_delete alone leaves a trace (SQLite 3.40)
    monkeypatch.setattr(secrets, "token_hex", lambda count: chance.randbytes(count).hex())
    people = [history(kept, chance) for _ in range(20)]
    found = content(file)
    assert all(sum(word in found for word in words) > len(words) / 2 for _, words in people)  # it would be seen
    for newcomer, words in people[::2]:
        kept.forget(newcomer)
        left = content(file)
        assert not [word for word in words if word in left]
    assert kept.count() == 10
    assert all(len(kept.get(newcomer).opinions) > 2 for newcomer, _ in people[1::2])


def test_an_erasure_that_was_cut_short_is_done_at_the_next_start(
    kept: LikesStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = kept.create("Ann", [("cardigan", None)])
    with monkeypatch.context() as patch:
        patch.setattr(Database, "erase", lambda self: None)  # as if it were killed there
        kept.forget(ann.id)
    assert b"cardigan" in content(file)
    again = LikesStore(f"sqlite:///{file}")
    again.open()
    assert b"cardigan" not in content(file)
    again.close()


def test_who_reads_for_long_only_delays_an_erasure(
    kept: LikesStore, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(likes_database, "READER_SECONDS", 0)
    ann, bo = kept.create("Ann", [("cardigan", None)]), kept.create("Bo")
    reader = sqlite3.connect(file)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM panfit_newcomers").fetchall()
    with caplog.at_level(logging.WARNING, "panfit"):
        kept.forget(ann.id)
    assert "is being read" in caplog.text
    assert kept.count() == 1
    assert b"cardigan" in content(file)
    reader.close()
    kept.forget(bo.id)
    assert b"cardigan" not in content(file)


def test_erasures_at_once_share_the_work(kept: LikesStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [kept.create("Ann", [(f"cardigan-{number}", None)]).id for number in range(12)]
    gate = threading.Barrier(4)

    def forget(four: list[str]) -> None:
        for newcomer in four:
            gate.wait()
            kept.forget(newcomer)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(forget, [people[at::4] for at in range(4)]))
    assert kept.count() == 0
    assert b"cardigan" not in content(file)


def test_a_locked_database_is_told_without_what_was_to_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likes_database, "BUSY_SECONDS", 0)
    store = LikesStore(f"sqlite:///{file}")
    store.open()
    other = sqlite3.connect(file)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="cannot answer: database is locked") as caught:
        store.create("Ann", [("cardigan", None)])
    assert "Ann" not in str(caught.value)
    assert "cardigan" not in str(caught.value)
    assert store.count() == 0
    other.close()
    store.create("Ann")
    store.close()


def test_processes_that_start_together_try_again_for_the_log(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite does not wait for others when it begins to use a log, whatever its busy_timeout."""
    real, refused = Connection.exec_driver_sql, ["once", "twice"]

    def locked(self: Connection, statement: str) -> CursorResult[Any]:
        if "journal_mode" in statement and refused:
            refused.pop()
            raise OperationalError(statement, {}, sqlite3.OperationalError("database is locked"))
        return real(self, statement)

    monkeypatch.setattr(Connection, "exec_driver_sql", locked)
    store = LikesStore(f"sqlite:///{file}")
    store.open()
    assert refused == []
    assert store.create("Ann").version == 1
    store.close()


def test_a_database_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likes_database, "BUSY_SECONDS", 0)
    (tmp_path / "text.db").write_text("no database\n" * 99, "utf-8")
    (tmp_path / "folder.db").mkdir()
    lock = sqlite3.connect(tmp_path / "locked.db")
    lock.execute("BEGIN EXCLUSIVE")
    wanted = {
        "text.db": "file is not a database. Name another file",
        "folder.db": "unable to open database file. Name a file, in a folder",
        "locked.db": "database is locked. Another program holds the file",
        "missing/likes.db": "the folder .*missing' does not exist. Make it",
    }
    for name, message in wanted.items():
        with pytest.raises(DataError, match=f"sqlite:///.*{name}: .*{message}"):
            LikesStore(f"sqlite:///{tmp_path / name}").open()
    lock.close()
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "cannot be read. Write sqlite:///FILE or postgresql"),
        ("hunter2", "cannot be read"),
        ("postgresql://ann:hunter2@host:port/likes", "cannot be read"),
        ("postgresql://ann:hunt@er2@host/likes", "two @. In a password write %40"),
        ("mysql://ann:hunter2@host/likes", "cannot be kept in 'mysql'"),
        ("postgresql+asyncpg://ann:hunter2@host/likes", r"cannot be kept in 'postgresql\+asyncpg'"),
        ("sqlite://", "cannot be kept in memory.*Write sqlite:///FILE"),
        ("sqlite:///:memory:", "cannot be kept in memory"),
    ],
)
def test_urls_that_are_no_database_s(url: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        LikesStore(url)
    assert "hunt" not in str(caught.value)
    assert "er2" not in str(caught.value)


def test_a_missing_driver_is_told_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"panfit\[postgres\]"):
        LikesStore("postgresql://ann@host/likes")


def test_what_was_written_is_json(kept: LikesStore, file: Path) -> None:
    kept.create("Ann", [COAT])
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT outfit FROM panfit_opinions").fetchall()
    connection.close()
    assert [tuple(json.loads(outfit)) for (outfit,) in rows] == [COAT]


def test_at_least_one_opinion_is_allowed() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LikesStore("sqlite:///likes.db", max_opinions=0)
