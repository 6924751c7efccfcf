"""Two gateway processes on one bind: one carries, the other waits, and takes over the moment the first dies."""

import time

import pytest
from installation import Installation, wait_for
from test_kill_nine import WINDOW, Client, Run, accepted, texts

pytestmark = pytest.mark.slow

COUNT = 4_000


def status(installation: Installation) -> tuple[str, str | None]:
    rows = installation.rows("select state, last_error from network_status")
    return rows[0] if rows else ("", None)


def test_the_second_waits_takes_over_and_nothing_is_lost_or_sent_by_both(installation: Installation) -> None:
    carrier = installation.simulator("+8613900000001:A", deliver_window=200)
    carrier.faults(answer_delay_s=0.04, receipt_delay_s=0.1)
    run = Run(installation, carrier)
    first = installation.gateway(carrier.smpp_port, window=WINDOW)
    assert first.config
    config = installation.config(carrier.smpp_port, window=WINDOW)
    second = installation.gateway(config=config, ready=False)
    installation.wait_ready(second, "/healthz")
    wait_for("the second says what it waits for", lambda: "another process" in str(second.call("GET", "/readyz")[1]))

    # It serves the API all the while; what it accepts goes over the first one's link.
    client = Client(installation.token(first.config), [texts(200, at) for at in range(0, COUNT, 200)])
    client.port = second.port
    client.start()
    accepted(carrier, COUNT // 4)
    assert len(carrier.links) == 1
    assert status(installation)[0] == "up"
    time_up = time.monotonic() + 4  # longer than the pause between two reports
    while time.monotonic() < time_up and carrier.counters["accepted"] < COUNT // 2:
        assert status(installation)[0] == "up"
        time.sleep(0.05)

    first.kill()
    run.crashed(first)
    wait_for("the second took over", lambda: len(carrier.links) == 1, 5)
    installation.wait_ready(second)
    client.join(60)
    run.settle(60)
    counts = run.check(client.ids)
    assert counts["messages"] == COUNT
    assert carrier.counters["binds"] == 2
    wait_for("the link table", lambda: status(installation)[0] == "up", 5)
    # Texts of phones are answered by the one that is left.
    carrier.text("8613900000001", "START 小红")
    carrier.wait_text("8613900000001", "欢迎")


def test_the_first_one_stopped_politely_doubles_nothing_at_all(installation: Installation) -> None:
    carrier = installation.simulator(deliver_window=200)
    carrier.faults(answer_delay_s=0.04, receipt_delay_s=0.1)
    run = Run(installation, carrier)
    first = installation.gateway(carrier.smpp_port, window=WINDOW)
    assert first.config
    second = installation.gateway(config=installation.config(carrier.smpp_port, window=WINDOW), ready=False)
    installation.wait_ready(second, "/healthz")
    client = Client(installation.token(first.config), [texts(200, at) for at in range(0, COUNT, 200)])
    client.port = second.port
    client.start()
    accepted(carrier, COUNT // 4)
    assert first.stop() == 0
    client.join(60)
    run.settle(60)
    counts = run.check(client.ids)
    assert (counts["doubled"], counts["UNKNOWN"], counts["codes not sent"]) == (0, 0, 0), counts
