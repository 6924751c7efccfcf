"""The documents say what is so: their links lead somewhere, and what they list is what the code has."""

import argparse
import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from runtime import command
from runtime.config import BindConfig, Config, ServiceConfig, SimulatorConfig, load
from simulator.story import Phones, Story
from smsgw import keywords
from smsgw.carriers import PROFILES, LinkProfile, profile
from smsgw.metrics import Metrics as GatewayMetrics
from workers.jobs import Metrics as WorkerMetrics

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ROOMS = "smsgw|addressbook|runtime|workers|simulator|bench|tests|docs"


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def prose(document: Path) -> str:
    """Without blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """What a link may name after "#", as code hosts make it of a heading."""
    headings = re.findall(r"^#+ (.*)$", prose(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def section(heading: str) -> str:
    """One section of operations.md, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}[^\n]*\n(.*?)(?=^#|\Z)", OPERATIONS, flags=re.DOTALL | re.MULTILINE)
    assert found, f"operations.md has no section {heading!r}"
    return found[1]


def first_cells(text: str) -> set[str]:
    """The code words in the first cell of each row of the tables in a text."""
    rows = re.findall(r"^\|([^|]*)\|", text, flags=re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


# ---- links and paths


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    lost = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_file_that_is_named_exists(document: Path) -> None:
    named = re.findall(rf"`((?:{ROOMS})/[\w./-]+\.\w+)`", document.read_text(encoding="utf-8"))
    built_later = {"smsgw/ussd_menu.py"}  # a room that is kept free
    assert [path for path in named if path not in built_later and not (ROOT / path).exists()] == []
    assert not any((ROOT / path).exists() for path in built_later)


def test_every_decision_is_in_the_list_and_has_its_three_parts() -> None:
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert len(pages) >= 10
    for number, page in enumerate(pages, 1):
        text = page.read_text(encoding="utf-8")
        title = text.split("\n", 1)[0].removeprefix("# ")
        assert title.startswith(f"{number:04} "), page.name
        assert f"| [{number:04}]({page.name}) | {title[5:]} |" in listed, page.name
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, flags=re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_the_picture_is_text_without_scripts_and_not_large() -> None:
    picture = (ROOT / "docs" / "simulator.svg").read_text(encoding="utf-8")
    assert "docs/simulator.svg" in README
    assert picture.startswith("<svg ")
    assert len(picture.encode()) < 300_000
    assert "<script" not in picture and "data:" not in picture
    assert "张三" in picture  # letters are letters


# ---- the command


def subcommands() -> set[str]:
    parser = command._parser()
    (found,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return set(found.choices)


def test_the_readme_lists_every_subcommand_and_no_other() -> None:
    table = README[README.index("| command |") :].split("\n\n", 1)[0]
    assert {word.removeprefix("smsgw ") for word in first_cells(table)} == subcommands()


def test_every_command_line_in_the_documents_can_be_parsed() -> None:
    lines = []
    for document in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            lines += [line for line in block.splitlines() if line.startswith(".venv/bin/smsgw ")]
    assert lines
    for line in lines:
        arguments = shlex.split(line, comments=True)[1:]
        chosen, rest = command._parser().parse_known_args(arguments)
        assert not rest or chosen.command in {"token", "bench"}, line


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        named = set(re.findall(r"`make ([a-z]+)", text)) | set(re.findall(r"^make ([a-z]+)", text, flags=re.MULTILINE))
        assert named <= targets, document.name


# ---- the demo


def test_the_readme_shows_the_steps_of_the_story(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMSGW_STORY_TOKEN", "")
    monkeypatch.setenv("SMSGW_DATABASE_URL", "")
    story = Story(Phones.__new__(Phones), None, argparse.Namespace(gateway=""))  # type: ignore[arg-type]  # only its list
    assert re.findall(r"^ok (\S+) ", README, flags=re.MULTILINE) == [name for name, _ in story.steps]


def test_the_ports_of_the_readme_are_the_defaults() -> None:
    service = ServiceConfig()
    for offset in (82, 83, 84, 75):
        assert f"127.0.0.1:{service.port(offset)}" in README


# ---- what a person can text


def rows_of_texts() -> Iterator[str]:
    table = README[README.index("| to do |") :].split("\n\n", 1)[0]
    for row in table.splitlines()[2:]:
        yield from re.findall(r"`([^`]+)`", row)


def test_every_text_in_the_readme_is_understood() -> None:
    texts = list(rows_of_texts())
    assert len(texts) > 30
    assert [text for text in texts if isinstance(keywords.parse(text), keywords.Misuse)] == []


def test_the_readme_shows_a_text_for_every_command() -> None:
    shown = {type(keywords.parse(text)) for text in rows_of_texts()}
    assert shown == set(keywords.Command.__args__)


# ---- the configuration


@pytest.mark.parametrize(
    ("heading", "model"),
    [("[service]", ServiceConfig), ("[[bind]]", BindConfig), ("[simulator]", SimulatorConfig)],
    ids=["service", "bind", "simulator"],
)
def test_operations_lists_every_key_of_a_section_and_no_other(heading: str, model: type) -> None:
    assert first_cells(section(heading)) == set(model.model_fields)  # type: ignore[attr-defined]  # a pydantic model


def test_operations_lists_every_section() -> None:
    headings = re.findall(r"^### \[+(\w+)\]+", OPERATIONS, flags=re.MULTILINE)
    assert set(headings) == set(Config.model_fields)


def test_operations_lists_every_key_and_name_of_a_link_profile() -> None:
    text = section("Link profiles")
    assert first_cells(text) == set(LinkProfile.__dataclass_fields__)
    for name in PROFILES:
        assert f"`{name}`" in text


def shown_as(default: object) -> str | None:
    """How a default stands in the tables; None where they say it in words."""
    match default:
        case bool():
            return str(default).lower()
        case int() | float():
            return f"{default:g}"
        case str() | Path():
            return str(default) or None
    return None


@pytest.mark.parametrize(
    ("heading", "defaults"),
    [
        ("[service]", {name: one.default for name, one in ServiceConfig.model_fields.items()}),
        ("[[bind]]", {name: one.default for name, one in BindConfig.model_fields.items()}),
        ("Link profiles", dataclasses.asdict(profile("default"))),
        ("[simulator]", {name: one.default for name, one in SimulatorConfig.model_fields.items()}),
    ],
    ids=["service", "bind", "profile", "simulator"],
)
def test_the_defaults_in_operations_are_those_of_the_code(heading: str, defaults: dict[str, object]) -> None:
    told = {}
    for names, cell in re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", section(heading), flags=re.MULTILINE):
        said = [one.strip("` ").partition(":")[0] for one in cell.split(",")]
        told |= dict(zip(re.findall(r"`(\w+)`", names), said, strict=False))
    expected = {name: shown for name, value in defaults.items() if (shown := shown_as(value)) is not None}
    assert expected
    assert {name: told.get(name) for name in expected} == expected


def test_the_configuration_in_the_readme_is_enough(tmp_path: Path) -> None:
    (found,) = re.findall(r"^```toml\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    secret = tmp_path / "carrier-a.password"
    secret.write_text("hK3-pq9\n")
    path = tmp_path / "smsgw.toml"
    path.write_text(found.replace("/etc/smsgw/carrier-a.password", str(secret)))
    config = load(path, {})
    assert [bind.name for bind in config.bind] == ["carrier-a"]


# ---- metrics and states


def series(registry: CollectorRegistry) -> set[str]:
    """As Prometheus sees them: a counter ends in _total."""
    return {f"{one.name}_total" if one.type == "counter" else one.name for one in registry.collect()}


def test_operations_lists_every_metric_and_no_other() -> None:
    counted = series(GatewayMetrics().registry) | series(WorkerMetrics().registry)
    assert len(counted) > 10
    assert first_cells(section("Metrics")) == counted


def test_operations_lists_the_states_of_a_link() -> None:
    source = (ROOT / "smsgw" / "smpp_bind.py").read_text(encoding="utf-8")
    states = set(re.findall(r'_set\(\s*"(\w+)"', source)) | set(
        re.findall(r'"(\w+)" if permanent else "(\w+)"', source)[0]
    )
    assert first_cells(section("Links: the table network_status")) == states
