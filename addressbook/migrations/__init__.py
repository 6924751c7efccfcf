"""The schema's history, applied: `upgrade(url)` brings a database to the models in schema.py."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url

LOCK_TIMEOUT_MS = 5_000  # a migration that waits for a lock blocks every query behind it: give up, try again later
STATEMENT_TIMEOUT_MS = 600_000


def alembic_config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = make_url(url).set(drivername="postgresql+psycopg")
    return config


def upgrade(url: str) -> None:
    """Apply what is missing; safe to call from several processes at once, and beside running old code."""
    command.upgrade(alembic_config(url), "head")


def pending(url: str) -> bool:
    """Whether the database lacks a migration that this code brings."""
    config = alembic_config(url)
    engine = create_engine(config.attributes["url"])
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return current != ScriptDirectory.from_config(config).get_current_head()
