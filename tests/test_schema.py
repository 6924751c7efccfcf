"""The migrations end at the models."""

from alembic import command

from addressbook.migrations import alembic_config, pending


def test_migrations_end_at_the_models(database_url: str) -> None:
    assert not pending(database_url)
    command.check(alembic_config(database_url))  # raises if autogenerate would add anything
