"""A worker and its Redis for the tests that need them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from running import PUSH_WAIT_S, RedisServer, Running, config, free_base, until
from sqlalchemy import create_engine

from addressbook.sealed import KeyRing, attach
from addressbook.service import BookSession, Limits, Service, session_info
from runtime import keys as key_files
from runtime.database import driver_url


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def worker(tmp_path: Path, database_url: str, redis_server: RedisServer) -> Iterator[Running]:
    """A worker that serves an empty database of its own."""
    service = Service(keys=KeyRing(*key_files.load(tmp_path / "data" / "keys")), limits=Limits(push_wait_s=PUSH_WAIT_S))
    base = free_base()
    path = config(tmp_path, database_url, redis_server.url, base)
    log = tmp_path / "worker.log"
    with ExitStack() as stack:
        engine = create_engine(driver_url(database_url))
        stack.callback(engine.dispose)
        attach(engine, service.keys)
        db = stack.enter_context(BookSession(engine, info=session_info(service)))
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "workers", "--config", str(path)], stderr=output, env=dict(os.environ)
        )
        running = Running(process, redis_server, db, f"http://127.0.0.1:{base + 84}", log)
        try:
            until(lambda: not running.reasons())
            yield running
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
