"""LIKES: newcomers and what they like and dislike, kept in a database. Knows nothing of the web, nor of a model.

What a method has returned is on disk: it survives a kill -9. Several processes may use one database. A newcomer's id
is all that is needed to act for him, so it cannot be guessed, and nobody else is told it.
"""

import hashlib
import json
import re
import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from panfit.errors import DataError, UnknownIdError
from panfit.ids import OutfitIds
from panfit.serve.likes_database import Database, UnavailableError
from panfit.serve.likes_tables import NAME_CHARACTERS, NEWCOMERS, OPINION_CHARACTERS, OPINIONS, SECRETS

__all__ = ["LikesStore", "Opinion", "Profile", "UnavailableError", "is_newcomer_id", "opinion_id"]


MAX_OPINIONS = 2000
SECRET_BYTES = 32
SHOWN_CHARACTERS = 80
NEWCOMER_ID = re.compile(r"new-[0-9a-f]{32}")


@dataclass(frozen=True)
class Opinion:
    """One outfit that a newcomer likes or dislikes.

    Attributes:
        outfit: item ids in slot order; None where nothing is worn.
        liked: or disliked.
        id: of his opinion on this outfit (`opinion_id`); it may stand in a URL.
    """

    outfit: OutfitIds
    liked: bool
    id: str


@dataclass(frozen=True)
class Profile:
    """A newcomer as the database has him at one moment.

    Attributes:
        id: see `is_newcomer_id`.
        name: what he is called.
        version: 1 when made, and one more with every change.
        opinions: in the order they came.
        created_at: UTC.
    """

    id: str
    name: str
    version: int
    opinions: tuple[Opinion, ...]
    created_at: datetime


def is_newcomer_id(text: str) -> bool:
    """Whether a text has the form of a newcomer's id, "new-" and 32 hex digits: 128 random bits."""
    return NEWCOMER_ID.fullmatch(text) is not None


def opinion_id(outfit: Sequence[str | None]) -> str:
    """An outfit's hash, 32 hex digits: the same in all processes, and for two tops in either order (decision D14)."""
    worn = sorted(item for item in outfit if item is not None)
    return hashlib.sha256(_written(worn).encode("ascii")).hexdigest()[:OPINION_CHARACTERS]


class LikesStore:
    """Newcomers' likes in a database. Safe to use from several threads; does not connect before `open`.

    Every method raises UnavailableError while the database cannot answer.

    Args:
        url: sqlite:///FILE, or postgresql+psycopg://USER:PASSWORD@HOST/NAME.
        max_opinions: that one newcomer may have.

    Raises:
        DataError: the URL is of no such database.
        MissingExtraError: PostgreSQL without its driver.
    """

    def __init__(self, url: str, *, max_opinions: int = MAX_OPINIONS) -> None:
        if max_opinions < 1:
            raise ValueError(f"max_opinions must be at least 1, not {max_opinions}")
        self._database = Database(url)
        self._max_opinions = max_opinions

    def open(self) -> None:
        """Connect, and bring the tables to what this panfit needs; several processes may do so at once.

        Raises:
            DataError: there is no such database, it is not panfit's, or a newer panfit's; says what to do.
        """
        self._database.open()

    def create(
        self, name: str, likes: Iterable[Sequence[str | None]] = (), dislikes: Iterable[Sequence[str | None]] = ()
    ) -> Profile:
        """A new newcomer. Raises DataError for a name or opinions that cannot be kept, or contradict each other."""
        liked, disliked = _opinions(likes, liked=True), _opinions(dislikes, liked=False)
        if liked.keys() & disliked.keys():
            raise DataError("the same outfit is liked and disliked. Leave it out of one of the two lists")
        opinions = liked | disliked
        self._check_number(len(opinions))
        profile = Profile(
            id=f"new-{secrets.token_hex(16)}",
            name=_checked_name(name),
            version=1,
            opinions=tuple(opinions.values()),
            created_at=datetime.now(UTC),
        )
        with self._database.writing() as connection:
            connection.execute(
                insert(NEWCOMERS).values(
                    id=profile.id, name=profile.name, version=profile.version, created_at=profile.created_at
                )
            )
            _add(connection, profile.id, profile.opinions, 0)
        return profile

    def get(self, newcomer_id: str) -> Profile:
        """A newcomer as he is now. Raises UnknownIdError."""
        _check_id(newcomer_id)
        with self._database.reading() as connection:
            return _read(connection, newcomer_id)

    def put(self, newcomer_id: str, outfits: Iterable[Sequence[str | None]], *, liked: bool) -> Profile:
        """He likes, or dislikes, these outfits, whatever he thought of them before. Asked twice, nothing changes.

        Raises:
            UnknownIdError: no such newcomer.
            DataError: an outfit without items, or more opinions than he may have; nothing is kept then.
        """
        _check_id(newcomer_id)
        opinions = _opinions(outfits, liked=liked)
        with self._database.writing() as connection:
            profile = _read(connection, newcomer_id, lock=True)
            held = {opinion.id: opinion for opinion in profile.opinions}
            new = [opinion for opinion in opinions.values() if held.get(opinion.id) != opinion]
            if not new:
                return profile
            replaced = [opinion.id for opinion in new if opinion.id in held]
            if len(new) > len(replaced):
                self._check_number(len(held) + len(new) - len(replaced))
            _drop(connection, newcomer_id, replaced)
            highest = select(func.max(OPINIONS.c.number)).where(OPINIONS.c.newcomer == newcomer_id)
            _add(connection, newcomer_id, new, (connection.scalar(highest) or 0) + 1)
            _raise_version(connection, newcomer_id)
            return _read(connection, newcomer_id)

    def remove(self, newcomer_id: str, opinion_id: str) -> Profile:
        """He no longer has this opinion. Raises UnknownIdError if there is no such newcomer, or he never had it."""
        _check_id(newcomer_id)
        with self._database.writing() as connection:
            profile = _read(connection, newcomer_id, lock=True)
            if opinion_id not in {opinion.id for opinion in profile.opinions}:
                raise UnknownIdError(f"this newcomer has no opinion {_short(opinion_id)}. Ask for his opinions again")
            _drop(connection, newcomer_id, [opinion_id])
            _raise_version(connection, newcomer_id)
            return _read(connection, newcomer_id)

    def rename(self, newcomer_id: str, name: str) -> Profile:
        """He is called otherwise. Raises UnknownIdError; DataError for a name that cannot be kept."""
        _check_id(newcomer_id)
        name = _checked_name(name)
        with self._database.writing() as connection:
            profile = _read(connection, newcomer_id, lock=True)
            if profile.name == name:
                return profile
            connection.execute(update(NEWCOMERS).where(NEWCOMERS.c.id == newcomer_id).values(name=name))
            _raise_version(connection, newcomer_id)
            return _read(connection, newcomer_id)

    def forget(self, newcomer_id: str) -> None:
        """Erase him for good, out of SQLite's files too. Raises UnknownIdError."""
        _check_id(newcomer_id)
        with self._database.writing() as connection:
            if connection.execute(delete(NEWCOMERS).where(NEWCOMERS.c.id == newcomer_id)).rowcount == 0:
                raise _unknown(newcomer_id)
            self._database.mark(connection)
        self._database.erase()

    def count(self) -> int:
        """How many newcomers there are."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(NEWCOMERS)) or 0

    def secret(self, name: str) -> bytes:
        """32 random bytes, made when first asked for, and the same for all processes on this database."""
        make = sqlite.insert if self._database.is_sqlite else postgresql.insert
        kept = select(SECRETS.c.value).where(SECRETS.c.name == name)
        with self._database.writing() as connection:
            new = make(SECRETS).values(name=name, value=secrets.token_bytes(SECRET_BYTES))
            connection.execute(new.on_conflict_do_nothing())
            return bytes(connection.execute(kept).scalar_one())

    def ping(self) -> None:
        """Returns if the database answers; raises UnavailableError if not."""
        with self._database.reading() as connection:
            connection.execute(select(SECRETS.c.name).limit(1)).all()

    def close(self) -> None:
        """Let go of the database. `open` opens it again."""
        self._database.close()

    def _check_number(self, opinions: int) -> None:
        if opinions > self._max_opinions:
            raise DataError(
                f"{opinions} opinions are more than the {self._max_opinions} that a newcomer may have. Remove some"
            )


def _read(connection: Connection, newcomer_id: str, *, lock: bool = False) -> Profile:
    """One statement, so that version and opinions belong together. Raises UnknownIdError."""
    if lock:  # PostgreSQL's; SQLite has no such words, and has locked already
        connection.execute(select(NEWCOMERS.c.id).where(NEWCOMERS.c.id == newcomer_id).with_for_update())
    both = select(NEWCOMERS, OPINIONS.c.id.label("opinion"), OPINIONS.c.outfit, OPINIONS.c.liked)
    rows = connection.execute(
        both.outerjoin_from(NEWCOMERS, OPINIONS).where(NEWCOMERS.c.id == newcomer_id).order_by(OPINIONS.c.number)
    ).all()
    if not rows:
        raise _unknown(newcomer_id)
    first = rows[0]
    opinions = tuple(_opinion(row) for row in rows if row.opinion is not None)
    return Profile(first.id, first.name, first.version, opinions, first.created_at)


def _opinion(row: Row[Any]) -> Opinion:
    return Opinion(tuple(json.loads(row.outfit)), row.liked, row.opinion)


def _add(connection: Connection, newcomer_id: str, opinions: Sequence[Opinion], first: int) -> None:
    if opinions:
        connection.execute(
            insert(OPINIONS),
            [
                {
                    "newcomer": newcomer_id,
                    "id": opinion.id,
                    "number": number,
                    "outfit": _written(opinion.outfit),
                    "liked": opinion.liked,
                }
                for number, opinion in enumerate(opinions, first)
            ],
        )


def _drop(connection: Connection, newcomer_id: str, opinion_ids: Sequence[str]) -> None:
    gone = delete(OPINIONS).where(OPINIONS.c.newcomer == newcomer_id)
    for opinion in opinion_ids:
        connection.execute(gone.where(OPINIONS.c.id == opinion))


def _raise_version(connection: Connection, newcomer_id: str) -> None:
    raised = update(NEWCOMERS).where(NEWCOMERS.c.id == newcomer_id).values(version=NEWCOMERS.c.version + 1)
    connection.execute(raised)


def _opinions(outfits: Iterable[Sequence[str | None]], *, liked: bool) -> dict[str, Opinion]:
    """{opinion id: opinion}, each outfit once, in their order."""
    found: dict[str, Opinion] = {}
    for outfit in map(tuple, outfits):
        if all(item is None for item in outfit):
            raise DataError("an outfit without any item can be neither liked nor disliked. Name at least one item")
        key = opinion_id(outfit)
        found.setdefault(key, Opinion(outfit, liked, key))
    return found


def _written(outfit: Sequence[str | None]) -> str:
    """ASCII alone: every id can be kept, also one with characters that a database would refuse."""
    return json.dumps(list(outfit), separators=(",", ":"))


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name:
        raise DataError("a newcomer's name is empty. Write one, or leave it out")
    if len(name) > NAME_CHARACTERS:
        raise DataError(f"a newcomer's name has {len(name)} characters; at most {NAME_CHARACTERS} are kept. Shorten it")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise DataError("a newcomer's name holds a line break or another control character. Leave it out")
    return name


def _check_id(newcomer_id: str) -> None:
    if not is_newcomer_id(newcomer_id):
        raise _unknown(newcomer_id)


def _unknown(newcomer_id: str) -> UnknownIdError:
    return UnknownIdError(f"there is no newcomer {_short(newcomer_id)}; one is made from a few likes")


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")
