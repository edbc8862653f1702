"""LIKES, TABLES: what the database of likes holds, one schema for SQLite and PostgreSQL. `migrations` makes it.

The names begin with panfit_, so that a shop may keep them in a database that has other tables.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

VERSION_TABLE = "panfit_migrations"
"""Which migrations a database has been through (Alembic)."""
HEAD = "0001"
"""The last of `migrations`, which makes the tables below; a database that says so needs no Alembic."""

NAME_CHARACTERS = 80
ID_CHARACTERS = 36
"""new- and 32 hex digits."""
OPINION_CHARACTERS = 32


class Moment(TypeDecorator[datetime]):
    """A time in UTC, aware of it; SQLite's own type would forget that."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


METADATA = MetaData(naming_convention={"pk": "pk_%(table_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"})

NEWCOMERS = Table(
    "panfit_newcomers",
    METADATA,
    Column("id", String(ID_CHARACTERS), primary_key=True),
    Column("name", String(NAME_CHARACTERS), nullable=False),
    Column("version", Integer, nullable=False),  # one more with every change
    Column("created_at", Moment, nullable=False),
)
OPINIONS = Table(
    "panfit_opinions",
    METADATA,
    Column("newcomer", ForeignKey(NEWCOMERS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("id", String(OPINION_CHARACTERS), primary_key=True),  # a hash of the outfit
    Column("number", Integer, nullable=False),  # the order in which a newcomer's opinions came
    Column("outfit", Text, nullable=False),  # JSON: item ids and nulls in slot order
    Column("liked", Boolean, nullable=False),
)
SECRETS = Table(
    "panfit_secrets",
    METADATA,
    Column("name", String(NAME_CHARACTERS), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
