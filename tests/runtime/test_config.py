"""A configuration is right, or everything that is wrong with it is said at once, one line for each."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from runtime.config import PROFILE_KEYS, BadConfig, Config, load
from smsgw.carriers import LinkProfile, profile

LINK = """
[[bind]]
name = "carrier-a"
host = "127.0.0.1"
port = 2775
system_id = "smsgw"
password = "s3cret"
address = "20880"
"""


def read(folder: Path, text: str, environment: dict[str, str] | None = None) -> Config:
    path = folder / "smsgw.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environment or {})


def problems(folder: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        read(folder, text, environment)
    assert str(caught.value).splitlines() == caught.value.problems
    return caught.value.problems


# ---- what is wrong


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"nowhere\.toml: No such file"):
        load(tmp_path / "nowhere.toml", {})


@pytest.mark.parametrize("text", ["[service", "a = ", "\x00", "service = {"])
def test_what_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    assert "not TOML" in problems(tmp_path, text)[0]


def test_octets_that_are_not_utf_8_are_named(tmp_path: Path) -> None:
    (tmp_path / "smsgw.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(BadConfig, match="not TOML"):
        load(tmp_path / "smsgw.toml", {})


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = """
    colour = "red"
    [service]
    port_base = 80
    default_region = "china"
    log_levle = "info"
    [[bind]]
    name = "carrier-a"
    host = "a"
    port = 0
    system_id = "smsgw"
    password = "secret"
    address = "20880"
    [[bind]]
    name = "carrier-b"
    host = "c"
    port = 2775
    system_id = "smsgw"
    password = "s3cret"
    address = "20880"
    [[bind]]
    name = "carrier-b"
    host = "b"
    port = 2775
    system_id = "far too long a system id"
    address = "20880"
    """
    found = problems(tmp_path, text, {"SMSGW_SERVICE_COLOUR": "red", "SMSGW_BIND_NOBODY_PORT": "1"})
    for part in (
        "colour: unknown key", "service.port_base:", "service.default_region:", "service.log_levle: unknown key",
        "service.colour: unknown key", "SMSGW_BIND_NOBODY_PORT: no link of that name",
        "bind.carrier-a.port:", "bind.carrier-b.system_id:", "bind.carrier-a: password is one that everybody knows",
        "bind.carrier-b: give either password or password_file", "two links are called carrier-b",
    ):  # fmt: skip
        assert any(line.startswith(part) for line in found), (part, found)
    assert len(found) == len(set(found)) == 11


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("service = 7", "service"),
        ("service = []", "service"),
        ("simulator = 'x'", "simulator"),
        ("bind = 7", "bind"),
        ("bind = ['a']", "bind.1"),
        ("bind = [7, {}]", "bind.1"),
        ("[bind]\nname = 'a'", "bind"),
        ("[[bind]]", "bind.1.name: is missing"),
        (LINK + "colour = 'red'", "bind.carrier-a.colour: unknown key"),
        (LINK.replace("2775", "'x'"), "bind.carrier-a.port"),
        (LINK.replace("carrier-a", "Carrier A"), "bind.Carrier A.name"),
        (LINK.replace("s3cret", "longer than 8"), "bind.carrier-a.password"),
        (LINK + "window = 0", "bind.carrier-a.window"),
        (LINK + "response_timeout_s = 100", "bind.carrier-a.response_timeout_s"),
        (LINK + "prefixes = ['+86']", "bind.carrier-a.prefixes.0"),
        (LINK + "outbind_port = 2776\ntls = true", "bind.carrier-a: outbind_port"),
        ("[service]\nname = ''", "service.name"),
    ],
)
def test_a_bad_value_is_named_by_its_place(tmp_path: Path, text: str, where: str) -> None:
    for environment in ({}, {"SMSGW_SERVICE_HOST": "127.0.0.1"}):
        assert any(line.startswith(where) for line in problems(tmp_path, text, environment))


@pytest.mark.parametrize("password", ["", "password", "Secret", "CHANGEME", "smppclient1", "admin"])
def test_a_password_that_everybody_knows_stops_the_start(tmp_path: Path, password: str) -> None:
    assert any("password" in line for line in problems(tmp_path, LINK.replace("s3cret", password)))


def test_no_value_of_a_secret_is_repeated(tmp_path: Path) -> None:
    for text in (LINK.replace("s3cret", "hunter2hunter2"), LINK.replace('"s3cret"', "[7331]")):
        assert not any("hunter2" in line or "7331" in line for line in problems(tmp_path, text))


@pytest.mark.parametrize("content", ["", "\n", "secret\n", "longer than eight\n", "\nhidden\n"])
def test_a_password_file_without_a_password_is_refused(tmp_path: Path, content: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(content)
    found = problems(tmp_path, LINK.replace('password = "s3cret"', f'password_file = "{secret}"'))
    assert found == ["bind.carrier-a.password_file: must hold 1 to 8 characters that not everybody knows"]


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path, LINK.replace('password = "s3cret"', 'password_file = "/nowhere/secret"'))
    assert found == ["bind.carrier-a.password_file: No such file or directory"]


def test_a_password_file_of_odd_octets_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xff\xfe")
    found = problems(tmp_path, LINK.replace('password = "s3cret"', f'password_file = "{secret}"'))
    assert found[0].startswith("bind.carrier-a.password_file:")


def test_a_password_and_a_file_for_it_are_one_too_many(tmp_path: Path) -> None:
    assert problems(tmp_path, LINK + 'password_file = "x"') == ["bind.carrier-a: give either password or password_file"]


# ---- what is right


def test_nothing_is_needed_but_a_folder_and_a_link(tmp_path: Path) -> None:
    config = read(tmp_path, f'[service]\ndata_dir = "{tmp_path}"\n{LINK}')
    assert config.service.data_path == tmp_path.resolve()
    assert (config.bind[0].window, config.bind[0].profile, config.bind[0].secret()) == (100, "default", "s3cret")
    assert config.service.database_url is None


def test_no_file_gives_the_defaults() -> None:
    config = load(None, {})
    assert (config.service.port(82), config.service.port(75), config.bind) == (8082, 2775, [])


def test_ports_follow_the_base(tmp_path: Path) -> None:
    service = read(tmp_path, "[service]\nport_base = 20000").service
    assert [service.port(offset) for offset in (75, 80, 81, 82, 83)] == [20075, 20080, 20081, 20082, 20083]


@pytest.mark.parametrize(
    ("variable", "value", "look"),
    [
        ("SMSGW_SERVICE_PORT_BASE", "21000", lambda c: c.service.port_base == 21000),
        ("SMSGW_SERVICE_DEFAULT_REGION", "KE", lambda c: c.service.default_region == "KE"),
        ("SMSGW_BIND_CARRIER_A_WINDOW", "7", lambda c: c.bind[0].window == 7),
        ("SMSGW_BIND_CARRIER_A_PASSWORD", "other", lambda c: c.bind[0].secret() == "other"),
        ("SMSGW_BIND_CARRIER_A_TLS", "true", lambda c: c.bind[0].tls is True),
        ("SMSGW_BIND_CARRIER_A_PREFIXES", "86, 254", lambda c: c.bind[0].prefixes == ["86", "254"]),
        ("SMSGW_SIMULATOR_SHORT_CODE", "10086", lambda c: c.simulator.short_code == "10086"),
    ],
)
def test_the_environment_counts_more_than_the_file(tmp_path: Path, variable: str, value: str, look: Any) -> None:
    assert look(read(tmp_path, "[service]\nport_base = 20000\n" + LINK, {variable: value}))


@pytest.mark.parametrize(
    "variable", ["SMSGW_COLOUR_RED", "SMSGW_SERVICE_COLOUR", "SMSGW_BIND_CARRIER_A_COLOUR", "SMSGW_X"]
)
def test_a_variable_that_names_nothing_is_a_problem(tmp_path: Path, variable: str) -> None:
    assert len(problems(tmp_path, LINK, {variable: "x"})) == 1


def test_links_whose_names_begin_alike_are_told_apart(tmp_path: Path) -> None:
    text = LINK + LINK.replace("carrier-a", "carrier-a-b")
    config = read(tmp_path, text, {"SMSGW_BIND_CARRIER_A_B_WINDOW": "7"})
    assert [bind.window for bind in config.bind] == [100, 7]


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret2\nonly the first line counts\n")
    config = read(tmp_path, LINK.replace('password = "s3cret"', f'password_file = "{secret}"'))
    assert config.bind[0].secret() == "s3cret2"
    secret.write_text("s3cret3\n")
    assert config.bind[0].secret() == "s3cret3"


def test_single_keys_of_a_profile_stand_among_the_links_own(tmp_path: Path) -> None:
    text = LINK + "reference_bits = 16\nquery_sm = true\noverride = { short_code_ton = 0 }\n"
    bind = read(tmp_path, text, {"SMSGW_BIND_CARRIER_A_PASSES_UDH": "true"}).bind[0]
    assert bind.override == {"reference_bits": 16, "query_sm": True, "short_code_ton": 0, "passes_udh": True}
    assert profile(bind.profile, **bind.override).reference_bits == 16


def test_every_key_of_a_profile_is_known_here() -> None:
    assert {field.name for field in dataclasses.fields(LinkProfile)} == PROFILE_KEYS
