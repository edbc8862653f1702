"""MIGRATIONS: how a database of likes becomes what this panfit needs, step by step (Alembic, run by `open`)."""
