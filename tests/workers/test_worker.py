"""The worker as a process: what rings, what nobody rang for, and who is away."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from running import PUSH_WAIT_S, RedisServer, Running, config, free_base, until
from sqlalchemy import text

from runtime.bells import CHANNEL


def start(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers", "--config", str(path)],
        capture_output=True, text=True, timeout=30, check=False, env=dict(os.environ),
    )  # fmt: skip


def test_a_bad_configuration_stops_the_start_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "smsgw.toml"
    path.write_text("[service]\nport_bas = 1\n")
    ended = start(path)
    assert ended.returncode != 0
    assert ended.stderr.splitlines() == ["smsgw worker: service.port_bas: unknown key"]


def test_a_taken_port_stops_the_start_with_a_line(tmp_path: Path, database_url: str, redis_server: RedisServer) -> None:
    base = free_base()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 84))
        taken.listen()
        ended = start(config(tmp_path, database_url, redis_server.url, base))
    assert ended.returncode != 0
    assert f"smsgw worker: port {base + 84}:" in ended.stderr.splitlines()[-1]


def test_a_worker_lives_through_the_absence_of_redis(worker: Running) -> None:
    worker.redis.kill()
    until(lambda: worker.reasons() == {"redis"})
    owner = worker.edit()  # and nobody can ring
    until(lambda: worker.pushed(owner) == 1, 5)
    worker.redis.start()
    until(lambda: not worker.reasons())
    until(lambda: jobs_are_done(worker))
    assert worker.stop() == 0


def jobs_are_done(worker: Running) -> bool:
    """Whether a ring is answered by a job, not by a round: rounds publish nothing and empty no queue."""
    worker.ring()
    with redis.Redis.from_url(worker.redis.url) as client:
        time.sleep(0.2)
        return client.llen("rq:queue:smsgw") == 0


def test_a_worker_stops_while_redis_is_away(worker: Running) -> None:
    worker.redis.kill()
    until(lambda: worker.reasons() == {"redis"})
    assert worker.stop() == 0


def test_a_worker_lives_through_the_absence_of_the_database(worker: Running) -> None:
    worker.db.execute(
        text("select pg_terminate_backend(pid) from pg_stat_activity"
             " where datname = current_database() and pid <> pg_backend_pid()")
    )  # fmt: skip
    worker.db.commit()
    owner = worker.edit()
    worker.ring()
    until(lambda: worker.pushed(owner) == 1, 8)
    assert worker.stop() == 0


def test_a_ring_is_answered_at_once_and_rings_on(worker: Running) -> None:
    with redis.Redis.from_url(worker.redis.url) as client, client.pubsub() as channel:
        channel.subscribe(CHANNEL + "outbox")
        assert channel.get_message(timeout=5) is not None  # subscribed
        took = []
        for _ in range(5):
            owner = worker.edit()
            began = time.monotonic()
            worker.ring()
            message = until(lambda: channel.get_message(ignore_subscribe_messages=True, timeout=0.05))
            took.append(time.monotonic() - began)
            assert message["channel"] == (CHANNEL + "outbox").encode()
            assert worker.pushed(owner) == 1
    assert sorted(took)[2] < 0.5  # rounds come every 2 s


def test_a_second_edit_is_planned_when_it_is_due(worker: Running) -> None:
    owner = worker.edit()
    worker.ring()
    until(lambda: worker.pushed(owner) == 1)
    for _ in range(3):
        worker.edit(owner)
    worker.ring()
    until(lambda: worker.pushed(owner) == 4)
    late, waited, pushed = worker.db.execute(
        text("""select extract(epoch from b.planned_at - b.due_at), extract(epoch from b.planned_at - a.planned_at),
                       b.messages
                  from push a join push b on b.id > a.id""")
    ).one()
    worker.db.rollback()
    assert 0 <= late < 0.3
    assert waited >= PUSH_WAIT_S
    assert pushed == 3  # the three became one push


def test_what_became_of_a_push_is_followed(worker: Running) -> None:
    owner = worker.edit()
    worker.ring()
    until(lambda: worker.pushed(owner) == 1)
    worker.db.execute(text("update outbox set state = 3, due_at = null"))
    worker.db.commit()

    def state() -> bool:
        found = worker.db.execute(text("select state from push")).scalar_one()
        worker.db.rollback()
        return bool(found == "delivered")

    until(state, 5)


def test_metrics_and_health_are_told_and_logs_tell_nothing_of_people(worker: Running) -> None:
    owner = worker.edit()
    worker.ring()
    until(lambda: worker.pushed(owner) == 1)
    assert worker.page("healthz")[0] == 200
    until(lambda: "smsgw_pushes_planned_total 1.0" in worker.page("metrics")[1])
    assert worker.stop(signal.SIGINT) == 0
    log = worker.log.read_text()
    assert '"what": "serving"' in log
    assert "张三丰" not in log
    assert "13800" not in log


@pytest.mark.parametrize("idle", [True, False])
def test_a_worker_stops_within_seconds(worker: Running, idle: bool) -> None:
    if not idle:
        for _ in range(3):
            worker.edit()
        worker.ring()
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 5
