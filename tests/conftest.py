"""Real PostgreSQL and Redis for every test; a database of its own, cloned from a migrated template."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import create_engine, make_url

from addressbook.migrations import upgrade
from addressbook.sealed import KeyRing, attach
from addressbook.service import BookSession, Service, session_info
from runtime.database import Database, driver_url
from runtime.engines import EngineAddresses, Engines

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineAddresses]:
    """Embedded engines of this test process; nothing they hold survives it."""
    running = Engines(Path(tmp_path_factory.mktemp("engines")) / "data", durable=False)
    addresses = running.acquire()
    try:
        upgrade(addresses.database_url)
        yield addresses
    finally:
        running.release()


@pytest.fixture
def database_url(engines: EngineAddresses) -> Iterator[str]:
    """The address of a migrated, empty database that only this test uses."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(make_url(engines.database_url).set(database="postgres").render_as_string(False),
                         autocommit=True) as admin:  # fmt: skip
        admin.execute(f"create database {name} template smsgw")
        yield make_url(engines.database_url).set(database=name).render_as_string(hide_password=False)
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def redis_url(engines: EngineAddresses) -> str:
    """The test process's Redis, emptied."""
    client = redis.Redis.from_url(engines.redis_url)
    client.flushall()
    client.close()
    return engines.redis_url


@pytest.fixture(scope="session")
def keys() -> KeyRing:
    return KeyRing({1: bytes(range(32))}, {1: bytes(range(32, 64))})


@pytest.fixture
def service(keys: KeyRing) -> Service:
    return Service(keys=keys, name="Friend Book", address="20880")


@pytest.fixture
def db(database_url: str, service: Service) -> Iterator[BookSession]:
    """A session on a database of its own; the test commits when it wants to."""
    engine = create_engine(driver_url(database_url))
    attach(engine, service.keys)
    with BookSession(engine, info=session_info(service)) as session:
        yield session
    engine.dispose()


@pytest.fixture
async def database(database_url: str, service: Service) -> AsyncIterator[Database]:
    """The door that processes use, on a database of its own."""
    opened = Database(database_url, session_class=BookSession, info=session_info(service))
    attach(opened.engine, service.keys)
    yield opened
    await opened.close()
