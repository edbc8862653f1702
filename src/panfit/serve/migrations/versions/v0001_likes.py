"""Newcomers, their opinions on outfits, and the secrets that a service's processes share."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "panfit_newcomers",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_panfit_newcomers"),
    )
    op.create_table(
        "panfit_opinions",
        sa.Column("newcomer", sa.String(36), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("outfit", sa.Text, nullable=False),
        sa.Column("liked", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(
            ["newcomer"], ["panfit_newcomers.id"], name="fk_panfit_opinions_newcomer", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("newcomer", "id", name="pk_panfit_opinions"),
    )
    op.create_table(
        "panfit_secrets",
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_panfit_secrets"),
    )
