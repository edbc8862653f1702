"""What Alembic runs: all steps in the transaction, and under the lock, of whoever opened the connection."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=context.config.attributes["version_table"])
context.run_migrations()
