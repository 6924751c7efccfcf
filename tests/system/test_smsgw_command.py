"""The `smsgw` command from outside: what it prints, what its status says, what it leaves behind."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from installation import Installation, call, clean_environment, command, processes_of, smsgw, wait_for

from bench.bed import free_base
from runtime.engines import Engines

# ---- what is wrong is said at once, in one line each


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "COMMAND"),
        (("nonsense",), 2, "invalid choice"),
        (("up", "--colour"), 2, "unrecognized arguments: --colour"),
        (("key", "burn"), 2, "invalid choice"),
        (("--config", "/nowhere/at.toml", "up"), 1, "config: /nowhere/at.toml: No such file or directory"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: tuple[str, ...], status: int, said: str) -> None:
    ran = smsgw(*arguments)
    assert ran.returncode == status
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_help_names_every_command() -> None:
    ran = smsgw("--help")
    assert ran.returncode == 0
    for name in ("demo", "up", "gateway", "worker", "simulator", "migrate", "doctor", "token", "key", "bench"):
        assert re.search(rf"^\s+{name}\s+\w", ran.stdout, re.MULTILINE), name


def test_everything_wrong_with_a_configuration_is_said_at_once(folder: Path) -> None:
    path = folder / "bad.toml"
    path.write_text(
        f"""
        colour = "red"
        [service]
        data_dir = "{folder}/data"
        port_base = 80
        default_region = "China"
        log_levle = "info"
        [[bind]]
        name = "carrier-a"
        host = "127.0.0.1"
        port = 99999
        system_id = "us"
        password = "password"
        address = "20880"
        [[bind]]
        name = "carrier-b"
        host = "127.0.0.1"
        port = 2775
        system_id = "us"
        address = "20880"
        """
    )
    ran = smsgw("--config", str(path), "up", SMSGW_SERVICE_NAEM="x", SMSGW_BIND_CARRIER_C_PORT="1")
    assert ran.returncode == 1
    lines = ran.stderr.strip().splitlines()
    assert all(line.startswith("config: ") for line in lines), lines
    for where in (
        "colour: unknown key", "service.port_base", "service.default_region", "service.log_levle: unknown key",
        "bind.carrier-a.port", "bind.carrier-b: give either password or password_file", "service.naem: unknown key",
        "SMSGW_BIND_CARRIER_C_PORT",
    ):  # fmt: skip
        assert any(where in line for line in lines), (where, lines)
    assert not (folder / "data").exists()


def test_a_secret_that_everybody_knows_stops_the_start(folder: Path) -> None:
    path = folder / "weak.toml"
    path.write_text(
        f'[service]\ndata_dir = "{folder}/data"\n[[bind]]\nname = "a"\nhost = "127.0.0.1"\nport = 2775\n'
        'system_id = "us"\npassword = "secret"\naddress = "20880"\n'
    )
    ran = smsgw("--config", str(path), "up")
    assert ran.returncode == 1
    assert "password is one that everybody knows" in ran.stderr
    assert '"secret"' not in ran.stderr


def test_up_without_a_link_says_what_to_do(folder: Path) -> None:
    path = folder / "empty.toml"
    path.write_text(f'[service]\ndata_dir = "{folder}/data"\n')
    ran = smsgw("--config", str(path), "up")
    assert ran.returncode == 1
    assert "no [[bind]]" in ran.stderr and "smsgw demo" in ran.stderr
    assert processes_of(folder) == []


def test_an_unknown_profile_stops_the_gateway(folder: Path) -> None:
    path = written(folder, 'profile = "kannel"')
    ran = smsgw("--config", str(path), "gateway")
    assert ran.returncode == 1
    assert "profile 'kannel' is not known" in ran.stderr
    assert processes_of(folder) == []


def written(folder: Path, *lines: str) -> Path:
    """A configuration that is right, with a link to nowhere and these lines."""
    base = free_base()
    path = folder / "smsgw.toml"
    path.write_text(
        f'[service]\ndata_dir = "{folder}/data"\nport_base = {base}\n[[bind]]\nname = "carrier-a"\n'
        f'host = "127.0.0.1"\nport = {base + 75}\nsystem_id = "us"\npassword = "f3x9Qa1"\naddress = "20880"\n'
        + "\n".join(lines)
    )
    return path


# ---- one thing each


@pytest.mark.slow
def test_doctor_finds_what_is_wrong_and_says_what_to_do(folder: Path) -> None:
    path = written(folder)
    ran = smsgw("--config", str(path), "doctor")
    assert ran.returncode == 1  # the carrier takes no connection
    found = {line[9:23].strip(): line[24:] for line in ran.stdout.splitlines()}
    problems = [line[9:23].strip() for line in ran.stdout.splitlines() if line.startswith("PROBLEM")]
    assert problems == ["link carrier-a"], ran.stdout
    assert "no schema yet: run `smsgw migrate`" in found["postgres"]
    assert found["redis"] == "answers"
    assert "ask the carrier" in found["link carrier-a"]
    assert processes_of(folder) == []  # it left no engine running
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_doctor_finds_nothing_wrong_with_a_service_that_runs(installation: Installation) -> None:
    carrier = installation.simulator()
    gateway = installation.gateway(carrier.smpp_port)
    assert gateway.config
    installation.worker(gateway.config)
    ran = smsgw("--config", str(gateway.config), "doctor")
    assert ran.returncode == 0, ran.stdout
    assert "PROBLEM" not in ran.stdout
    assert "the gateway answers there" in ran.stdout and "the worker answers there" in ran.stdout
    assert installation.one("select 1") == 1  # the engines are still there


@pytest.mark.slow
def test_migrate_makes_the_schema_and_the_gateway_asks_for_it(folder: Path) -> None:
    path = written(folder)
    before = smsgw("--config", str(path), "gateway")
    assert before.returncode == 1
    assert "run `smsgw migrate`" in before.stderr
    for _ in range(2):  # twice is no harm
        ran = smsgw("--config", str(path), "migrate")
        assert (ran.returncode, ran.stdout) == (0, "the database has the newest schema\n")
    assert processes_of(folder) == []


@pytest.mark.slow
def test_tokens_are_made_listed_and_revoked(installation: Installation) -> None:
    carrier = installation.simulator()
    gateway = installation.gateway(carrier.smpp_port)
    given = ("--config", str(gateway.config), "token")
    made = smsgw(*given, "add", "shop", "--scope", "send")
    assert made.returncode == 0
    token = made.stdout.strip()
    assert re.fullmatch(r"[\w-]{40,}", token)
    again = smsgw(*given, "add", "shop")
    assert again.returncode == 1 and again.stderr.startswith("smsgw token: ")
    listed = smsgw(*given, "list")
    assert re.fullmatch(r"shop\tsend\t\d{4}-\d\d-\d\d\tvalid\n", listed.stdout)
    assert token not in listed.stdout
    body = {"to": "+8613800138000", "text": "hello"}
    headers = {"Authorization": f"Bearer {token}"}
    assert call(gateway.port, "POST", "/v1/messages", body, headers)[0] == 202
    assert call(gateway.port, "GET", "/v1/messages/1", None, headers)[0] == 403  # it may send, not read
    assert smsgw(*given, "revoke", "nobody").returncode == 1
    revoked = smsgw(*given, "revoke", "shop")
    assert (revoked.returncode, revoked.stdout) == (0, "revoked shop\n")
    wait_for(
        "the token's end", lambda: call(gateway.port, "POST", "/v1/messages", body, headers)[0] == 401, 8
    )  # a gateway may know it for 5 s
    assert "\trevoked " in smsgw(*given, "list").stdout
    assert installation.rows("select 1 from api_token where encode(token_hash, 'escape') like %s", f"%{token}%") == []


@pytest.mark.slow
def test_a_new_key_seals_what_is_new_and_old_values_stay_readable(installation: Installation) -> None:
    phone = "8613900000001"
    carrier = installation.simulator(f"+{phone}:A")
    gateway = installation.gateway(carrier.smpp_port)
    given = ("--config", str(gateway.config), "key")
    carrier.said(phone, "START 小红", "欢迎")
    carrier.said(phone, "ADD 张三 13800138000", "已保存")
    added = smsgw(*given, "add")
    assert added.returncode == 0
    assert "made seal key 2" in added.stdout
    assert gateway.stop() == 0
    gateway = installation.gateway(config=gateway.config)
    carrier.said(phone, "ADD 李四 13700137000", "已保存")
    listed = carrier.said(phone, "LIST", "李四")
    assert "张三" in listed  # what the old key sealed
    assert installation.rows("select distinct get_byte(name, 0) from contact order by 1") == [(1,), (2,)]
    # The old key is still needed: numbers are found by one digest key for ever.
    shown = smsgw(*given, "list")
    assert [line.split("\t")[:2] for line in shown.stdout.splitlines()] == [
        ["digest", "1"],
        ["seal", "1"],
        ["seal", "2"],
    ]
    files = list((installation.data / "keys").glob("*.key"))
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
    for one in files:
        assert one.read_text().strip() not in added.stdout + shown.stdout


# ---- up: the whole service, watched


class Up:
    """`smsgw up`, its lines as they come."""

    def __init__(self, config: Path) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command("--config", str(config), "up"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env=clean_environment() | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(line.rstrip("\n") for line in lines)

    def wait_line(self, pattern: str, timeout_s: float = 60.0) -> str:
        try:
            return wait_for(
                f"a line like {pattern!r}",
                lambda: next((line for line in self.lines if re.search(pattern, line)), None),
                timeout_s,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; it said {self.lines}") from None

    def end(self, timeout_s: float = 20.0) -> int:
        status = self.process.wait(timeout_s)
        self._reader.join(5)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(25)
            self.process.kill()
        self._reader.join(5)


@pytest.fixture
def up(folder: Path) -> Iterator[tuple[Up, int, Path]]:
    """The service with no carrier at its link's port yet; its process, its port_base, its folder."""
    config = written(folder)
    base = int(re.findall(r"port_base = (\d+)", config.read_text())[0])
    one = Up(config)
    try:
        one.wait_line("^worker ")
        yield one, base, folder
    finally:
        one.close()
        # Only this test's own processes name this folder; none may outlive it, whatever the test found.
        for line in processes_of(folder):
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)


def ready(port: int, path: str = "/readyz") -> bool:
    with suppress(OSError):
        return call(port, "GET", path)[0] == 200
    return False


@pytest.mark.slow
def test_up_needs_no_carrier_mends_its_gateway_and_ends_by_a_signal(up: tuple[Up, int, Path]) -> None:
    one, base, folder = up
    assert f"http://127.0.0.1:{base + 82}/" in one.wait_line("^gateway ")
    status, body = call(base + 82, "GET", "/readyz")
    assert status == 503 and b"carrier-a" in body
    assert {path.stat().st_mode & 0o777 for path in (folder / "data", folder / "data" / "keys")} == {0o700}
    (line,) = [line for line in processes_of(folder) if "smsgw.gateway" in line]
    os.kill(int(line.split()[0]), signal.SIGKILL)
    one.wait_line("^gateway ended with status -9: starting it again")
    wait_for("the gateway back", lambda: ready(base + 82, "/healthz"), 20)
    one.process.terminate()
    assert one.end() == 0
    assert processes_of(folder) == []
    assert "Traceback" not in "\n".join(one.lines)
    for log in (folder / "data" / "log").iterdir():
        assert "Traceback" not in log.read_text(errors="replace"), log


@pytest.mark.slow
def test_up_starts_killed_engines_again(up: tuple[Up, int, Path]) -> None:
    _, base, folder = up
    engines = Engines(folder / "data")
    for pid in (engines.postgres_pid(), engines.redis_pid()):
        assert pid
        os.kill(pid, signal.SIGKILL)
    wait_for("the worker noticing", lambda: not ready(base + 84), 10)
    wait_for("the worker ready again", lambda: ready(base + 84), 10)


@pytest.mark.slow
def test_everything_killed_at_once_comes_up_again(up: tuple[Up, int, Path]) -> None:
    one, base, folder = up
    os.killpg(one.process.pid, signal.SIGKILL)
    one.end()
    for line in processes_of(folder):
        with suppress(ProcessLookupError):
            os.kill(int(line.split()[0]), signal.SIGKILL)
    wait_for("all of them gone", lambda: not processes_of(folder), 10)
    again = Up(folder / "smsgw.toml")
    try:
        again.wait_line("^worker ")
        assert ready(base + 84)
        os.killpg(again.process.pid, signal.SIGINT)  # Ctrl-C goes to the whole foreground group
        assert again.end() == 0
        assert "Traceback" not in "\n".join(again.lines)
    finally:
        again.close()
    assert processes_of(folder) == []
