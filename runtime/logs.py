"""Structured logs: one JSON record a line, numbers masked, one `trace` through a message's whole way.

A record never carries names, numbers or texts of people; whatever still looks like a number is masked here, as the
net under that rule.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_UNMASKED = frozenset({"trace"})  # ids of ours that may look like numbers
DIALLED_MIN = 10**9  # an integer from here on may be a number; ids and sizes are smaller
# What JSON leaves as it is, and a terminal, a pager or an encoder may not.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NUMBER = re.compile(r"\+?\d[\d -]{5,}\d")


def mask(found: re.Match[str]) -> str:
    """Leave the first three and the last two digits: enough to tell two apart, too little to dial."""
    digits = re.sub(r"\D", "", found[0])
    return found[0] if len(digits) < 8 else f"{digits[:3]}…{digits[-2:]}"


def masked(value: object) -> object:
    """The value without numbers that could be dialled, however deep they stand in it."""
    if isinstance(value, str):
        return _NUMBER.sub(mask, value)
    if isinstance(value, dict):
        return {str(masked(str(key))): masked(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(one) for one in value]
    if isinstance(value, int) and value >= DIALLED_MIN:
        return masked(str(value))
    return value


class JsonFormatter(logging.Formatter):
    """A record as one line; control characters cannot break out of it."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "what": masked(record.getMessage()),
        }
        fields |= {
            key: value if key in _UNMASKED else masked(value)
            for key, value in vars(record).items()
            if key not in _STANDARD
        }
        if record.exc_info and record.exc_info[0] is not None:
            # The exception's own words may hold a statement's values: its type and place are enough.
            fields["error"] = record.exc_info[0].__name__
            fields["trace_back"] = _places(record.exc_info[2])
        line = json.dumps(fields, ensure_ascii=False, default=lambda value: str(masked(str(value))))
        return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _places(trace_back: Any) -> list[str]:
    places = []
    while trace_back is not None:
        code = trace_back.tb_frame.f_code
        places.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace_back.tb_lineno}:{code.co_name}")
        trace_back = trace_back.tb_next
    return places[-12:]


def set_up(level: str) -> None:
    """Send every record to standard error as JSON. Called once by each process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for quiet in ("sqlalchemy.engine", "asyncio", "aiohttp.access", "alembic"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
