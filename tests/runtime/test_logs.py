"""A log line is one JSON record, and names nobody."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runtime import logs

Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write() -> Iterator[Write]:
    """write(message, …) -> the record as it stands in the log; there must be exactly one line."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logger = logging.getLogger("test")
    logger.propagate = False
    logger.addHandler(handler)

    def one(message: object, *arguments: object, **more: Any) -> dict[str, Any]:
        logger.error(message, *arguments, **more)
        lines = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        assert len(lines) == 1
        return dict(json.loads(lines[0]))

    yield one
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    "number",
    ["+8613900000001", "13900000001", "+254 712 000 001", "0712-000-001", "tel:+8613900000001;x", "8613900000001"],
)
def test_a_number_is_masked_wherever_it_stands(write: Write, number: str) -> None:
    digits = "".join(filter(str.isdigit, number))
    in_values = [number, {"number": [number]}, {number: (number,)}, ValueError(number)]
    records = [write(f"to {number}"), write("to %s", number)]
    for record in records + [write("x", extra={"who": value}) for value in in_values]:
        shown = "".join(filter(str.isdigit, json.dumps(record, ensure_ascii=False).replace(record["at"], "")))
        assert digits not in shown
        assert number not in json.dumps(record, ensure_ascii=False)


def test_a_number_is_masked_as_an_integer_too(write: Write) -> None:
    assert write("x", extra={"who": 8613900000001})["who"] == "861…01"
    assert write("x", extra={"octets": 123_456_789})["octets"] == 123_456_789


def test_what_is_too_short_to_be_a_number_stays(write: Write) -> None:
    assert write("20880 took 150 ms, 1234567")["what"] == "20880 took 150 ms, 1234567"


def test_a_trace_is_not_masked_and_can_be_followed(write: Write) -> None:
    assert write("x", extra={"trace": "1234567890123456"})["trace"] == "1234567890123456"


@pytest.mark.parametrize("sign", ["\n", "\r\n", "\x1b[31m", "\0", "\u2028", "\x9b", "\x85", '"}'])
def test_control_characters_cannot_make_another_record(write: Write, sign: str) -> None:
    record = write("a%sb", sign, extra={"link": f"x{sign}y"})
    assert record["what"] == f"a{sign}b"
    assert record["link"] == f"x{sign}y"


def test_an_exceptions_words_stay_out_of_the_log(write: Write) -> None:
    try:
        raise ValueError("the text of a person")
    except ValueError:
        record = write("it failed", exc_info=True)
    assert record["error"] == "ValueError"
    assert record["trace_back"][-1].startswith("test_logs.py:")
    assert "person" not in json.dumps(record)


def test_a_record_says_when_where_and_how_bad(write: Write) -> None:
    record = write("x")
    assert (record["level"], record["from"], record["what"]) == ("error", "test", "x")
    assert record["at"].endswith("+00:00")


@pytest.mark.parametrize("value", [b"\xff", {1, 2}, object(), float("nan"), "\ud800"])
def test_any_value_can_be_logged(write: Write, value: object) -> None:
    write("x", extra={"value": value})
