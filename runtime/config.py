"""The configuration: TOML, overridden by the environment; everything wrong with it is said at once.

    file.toml  <  SMSGW_<SECTION>_<KEY>  (for a link: SMSGW_BIND_<NAME>_<KEY>)
    a secret `password` may instead be `password_file`: the file's first line

Unknown keys, bad values and secrets that everybody knows stop the start.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

KNOWN_SECRETS = frozenset(
    {"", "password", "passwd", "pass", "secret", "changeme", "change-me", "default", "admin", "test", "smppclient1",
     "1234", "12345678"}
)  # fmt: skip
# The fields of LinkProfile (smsgw/carriers.py), which this room may not import; a test holds the two together.
PROFILE_KEYS = frozenset(
    {"alphabet", "id_format", "long_messages", "national_shift", "passes_udh", "query_sm", "receipts_expected",
     "reference_bits", "send_user_message_reference", "short_code_npi", "short_code_ton", "validity_form"}
)  # fmt: skip
Port = Annotated[int, Field(ge=1, le=65535)]


class BadConfig(Exception):
    """The configuration cannot be used. `problems` has one line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceConfig(_Section):
    """Where things are. Without database_url or redis_url the engine is embedded in data_dir."""

    data_dir: Path = Path("~/.local/share/smsgw")
    keys_dir: Path | None = None  # default: keys/ in data_dir; one folder for all processes of one database
    database_url: str | None = None
    redis_url: str | None = None
    port_base: Annotated[int, Field(ge=1024, le=65400)] | None = None
    host: str = "127.0.0.1"
    default_region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "CN"
    public_url: str | None = None
    name: Annotated[str, Field(min_length=1, max_length=20)] = "Friend Book"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def data_path(self) -> Path:
        return self.data_dir.expanduser().resolve()

    @property
    def keys_path(self) -> Path:
        return self.data_path / "keys" if self.keys_dir is None else self.keys_dir.expanduser().resolve()

    def port(self, offset: int) -> int:
        """The port of a page (80 web_login, 81 callcentre, 82 gateway API, 83 simulator) or of SMPP (75)."""
        if self.port_base is not None:
            return self.port_base + offset
        return 2700 + offset if offset == 75 else 8000 + offset


def _plain(value: Any) -> Any:
    """What an environment variable says, as TOML would have said it."""
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class BindConfig(_Section):
    """One SMPP link to a carrier. Single keys of its profile may stand among its own: they are kept in `override`."""

    name: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9-]{0,38}$")]
    host: str
    port: Port
    system_id: Annotated[str, Field(max_length=15)]
    password: Annotated[str, Field(max_length=8)] | None = None  # SMPP 3.4, 4.1.1: 8 characters at most
    password_file: Path | None = None
    system_type: Annotated[str, Field(max_length=12)] = ""
    bind_type: Literal["transceiver", "transmitter", "receiver"] = "transceiver"
    address: Annotated[str, Field(pattern=r"^[+0-9A-Za-z]{1,20}$")]
    window: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_segments_per_second: Annotated[float, Field(ge=0, le=100_000)] = 0
    tls: bool = False
    tls_ca_file: Path | None = None
    # Links of one message centre (a transmitter and a receiver) share its message ids.
    carrier: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9-]{0,38}$")] | None = None
    profile: str = "default"
    override: dict[str, Any] = Field(default_factory=dict)
    prefixes: list[Annotated[str, Field(pattern="^[0-9]{1,15}$")]] = Field(default_factory=list)
    outbind_port: Port | None = None  # wait here for the outbind of `host` instead of connecting first
    response_timeout_s: Annotated[float, Field(gt=0, le=80)] = 60.0  # shorter than the lease of a claim (outbox.py)
    enquire_link_s: Annotated[float, Field(gt=0, le=3_600)] = 30.0

    @model_validator(mode="before")
    @classmethod
    def _profile_keys(cls, raw: Any) -> Any:
        """Put what belongs to the profile into `override`; smsgw/carriers.py checks the values."""
        if not isinstance(raw, dict) or not isinstance(raw.get("override", {}), dict):
            return raw
        given = {key: _plain(value) for key, value in raw.items() if key in PROFILE_KEYS}
        rest = {key: value for key, value in raw.items() if key not in PROFILE_KEYS}
        return {**rest, "override": {**raw.get("override", {}), **given}} if given else rest

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if misfit := _misfit(self.password, self.password_file, self.tls and self.outbind_port is not None):
            raise ValueError(misfit)
        return self

    def secret(self) -> str:
        """The password, read now. Raises BadConfig if its file cannot be read or holds a known secret."""
        if self.password is not None:
            return self.password
        assert self.password_file is not None
        where = f"bind.{self.name}.password_file"
        try:
            secret = self.password_file.expanduser().read_text().split("\n", 1)[0].strip()
        except OSError as error:
            raise BadConfig([f"{where}: {error.strerror}"]) from None
        except UnicodeDecodeError:
            raise BadConfig([f"{where}: is not text"]) from None
        if secret.lower() in KNOWN_SECRETS or len(secret) > 8:
            raise BadConfig([f"{where}: must hold 1 to 8 characters that not everybody knows"])
        return secret


class SimulatorConfig(_Section):
    """The simulated carrier and its handsets."""

    system_id: str = "smsgw"
    password_file: Path | None = None  # default: made in the data folder
    short_code: str = "20880"


class Config(_Section):
    service: ServiceConfig = Field(default_factory=ServiceConfig)
    bind: list[BindConfig] = Field(default_factory=list)
    simulator: SimulatorConfig = Field(default_factory=SimulatorConfig)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if twice := _twice([bind.name for bind in self.bind]):
            raise ValueError(twice)
        return self


def _misfit(password: object, password_file: object, tls_for_callers: bool) -> str:
    """What is wrong between the fields of a link, each of which is right; "" if nothing is."""
    if (password is None) == (password_file is None):
        return "give either password or password_file"
    if isinstance(password, str) and password.lower() in KNOWN_SECRETS:
        return "password is one that everybody knows: choose another"
    if tls_for_callers:
        return "outbind_port: not together with tls, for which we would need a certificate"
    return ""


def _twice(names: list[object]) -> str:
    again = sorted({str(name) for name in names if names.count(name) > 1})
    return f"two links are called {', '.join(again)}" if again else ""


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check the configuration. Raises BadConfig with every problem."""
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadConfig([f"{path}: {error.strerror}"]) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadConfig([f"{path}: not TOML: {error}"]) from None
    problems = _apply_environment(raw, environment)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += [_problem(raw, detail) for detail in error.errors()] + _misfits(raw)
        raise BadConfig(list(dict.fromkeys(problems))) from None
    for bind in config.bind:
        try:
            bind.secret()
        except BadConfig as bad:
            problems += bad.problems
    if problems:
        raise BadConfig(problems)
    return config


def _problem(raw: Mapping[str, Any], detail: Any) -> str:
    """One line: where, and what is wrong. The value itself is left out: it may be a secret."""
    parts: list[str] = []
    for part in detail["loc"]:
        if isinstance(part, int) and parts == ["bind"]:
            parts.append(_label(part, raw["bind"][part]))
        else:
            parts.append(str(part))
    words = {"extra_forbidden": "unknown key", "missing": "is missing"}.get(
        detail["type"], detail["msg"].removeprefix("Value error, ")
    )
    return f"{'.'.join(parts)}: {words}" if parts else words


def _label(place: int, bind: object) -> str:
    """How a link is called in a problem: by its name, or by its place where it has none."""
    return str(bind.get("name", place + 1)) if isinstance(bind, dict) else str(place + 1)


def _misfits(raw: Mapping[str, Any]) -> list[str]:
    """What the models say of fields together they say only when each is right alone: here of every link."""
    binds = raw.get("bind")
    if not isinstance(binds, list):
        return []
    tables = {place: bind for place, bind in enumerate(binds) if isinstance(bind, dict)}
    found = []
    for place, bind in tables.items():
        called = bool(bind.get("tls")) and "outbind_port" in bind
        if misfit := _misfit(bind.get("password"), bind.get("password_file"), called):
            found.append(f"bind.{_label(place, bind)}: {misfit}")
    twice = _twice([bind["name"] for bind in tables.values() if "name" in bind])
    return found + ([twice] if twice else [])


def _apply_environment(raw: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Lay SMSGW_… over the file's values; what names nothing is a problem, so that a typing error is seen."""
    problems = []
    listed = raw.get("bind")
    binds = {
        re.sub("[^A-Z0-9]", "_", str(bind.get("name", "")).upper()): bind
        for bind in (listed if isinstance(listed, list) else [])
        if isinstance(bind, dict)
    }
    for variable, value in sorted(environment.items()):
        if not variable.startswith("SMSGW_") or variable in {"SMSGW_DATABASE_URL", "SMSGW_CONFIG"}:
            continue
        section, _, key = variable.removeprefix("SMSGW_").partition("_")
        if section == "BIND":
            link = max((name for name in binds if key.startswith(f"{name}_")), key=len, default=None)
            if link is None:
                problems.append(f"{variable}: no link of that name is in the file")
            else:
                _set(binds[link], BindConfig, key.removeprefix(f"{link}_").lower(), value)
        elif section in {"SERVICE", "SIMULATOR"}:
            _set(raw.setdefault(section.lower(), {}), _SECTIONS[section], key.lower(), value)
        else:
            problems.append(f"{variable}: unknown section")
    return problems


_SECTIONS: dict[str, type[_Section]] = {"SERVICE": ServiceConfig, "SIMULATOR": SimulatorConfig}


def _set(section: object, model: type[_Section], key: str, value: str) -> None:
    if not isinstance(section, dict):
        return  # what stands in its place in the file is a problem already
    field = model.model_fields.get(key)
    is_list = field is not None and "list" in str(field.annotation)
    section[key] = [part.strip() for part in value.split(",") if part.strip()] if is_list else value
