"""`smsgw bench`: every figure that the README names, one after the other, as a table and as JSON.

    python -m bench [--only mt,mo,…] [--json FILE] [--quick]

Each row says what was asked for; the status is 1 if one was missed. Rates depend on the machine and on what else it
does: the JSON says which machine, which versions and when.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from bench import api, ceiling, codec, edit, mo, mt

PACKAGES = ("aiohttp", "psycopg", "sqlalchemy", "uvloop", "pydantic", "cryptography", "rq", "smpplib")
RESULTS = Path("build") / "bench.json"


class Row(NamedTuple):
    """One figure: what it is, what came out, and what was asked for ("" if nothing was)."""

    name: str
    value: float
    unit: str
    asked: str = ""
    met: bool = True


def _least(name: str, value: float, unit: str, bound: float) -> Row:
    return Row(name, value, unit, f"at least {bound:,.0f}", value >= bound)


def _most(name: str, value: float, unit: str, bound: float) -> Row:
    return Row(name, value, unit, f"at most {bound:,.0f}", value <= bound)


def _codec(_quick: bool) -> list[Row]:
    found = codec.run()
    ours, theirs = found["codec cycle"], found["codec cycle, python-smpplib"]
    return [
        _most("codec: submit_sm, its response, a receipt", round(ours, 2), "µs", 5),
        Row("codec: the same with python-smpplib", round(theirs, 1), "µs", f"{theirs / ours:.0f} times ours"),
    ]


def _mt(quick: bool) -> list[Row]:
    count = 20_000 if quick else 100_000
    bare = ceiling.run(count)["messages_per_second"]
    found = mt.run(count)
    rate = found["messages_per_second"]
    return [
        _least("MT: sent, receipt matched", rate, "/s", 20_000),
        Row("MT: the same statements bare", bare, "/s", f"the gateway reaches {rate / bare:.0%}"),
        _most("MT: CPU of gateway and PostgreSQL", found["gateway_cpu_us"] + found["postgres_cpu_us"], "µs", 90),
        _most("MT: memory of the gateway", found["gateway_memory_mb"], "MB", 150),
        Row("MT: not delivered", count - found["delivered"], "", "0", count == found["delivered"]),
    ]


def _mo(quick: bool) -> list[Row]:
    found = mo.run(*((12_000, 4_000) if quick else (60_000, 20_000)))
    return [
        _least("MO: committed and acknowledged", found["kept_per_second"], "/s", 10_000),
        _least("MO: ADD through keyword, book, outbox", found["done_per_second"], "/s", 2_000),
    ]


def _api(quick: bool) -> list[Row]:
    found = api.run(*((4_000, 4) if quick else (20_000, 20)))
    return [
        _least("API: single posts accepted", found["singles_per_second"], "/s", 3_000),
        _least("API: messages in batches accepted", found["batched_per_second"], "/s", 50_000),
    ]


def _edit(quick: bool) -> list[Row]:
    found = edit.run(20 if quick else 100)
    return [
        _most("Edit to first submit_sm: median", found["median_ms"], "ms", 150),
        _most("Edit to first submit_sm: p99", found["p99_ms"], "ms", 500),
    ]


PARTS: dict[str, Callable[[bool], list[Row]]] = {"codec": _codec, "mt": _mt, "mo": _mo, "api": _api, "edit": _edit}


def machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": model,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": "embedded, synchronous_commit on",
        "versions": {package: version(package) for package in PACKAGES},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def main() -> None:
    """Measure what was asked for, print the table, keep the JSON."""
    parser = argparse.ArgumentParser(prog="smsgw bench", description="Measure every figure that the README names.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of: {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages: rates are lower")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.only.split(",") if name]
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}")
    where = machine()
    rows: list[Row] = []
    for name in chosen:
        for row in PARTS[name](arguments.quick):
            rows.append(row)
            mark = "  " if row.met else "! "
            print(f"{mark}{row.name:<44} {row.value:>12,g} {row.unit:<3}  {row.asked}", flush=True)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({**where, "rows": [row._asdict() for row in rows]}, indent=1) + "\n")
    print(f"\n{where['cores']} cores, {where['cpu']}; kept in {arguments.json}")
    sys.exit(0 if all(row.met for row in rows) else 1)


if __name__ == "__main__":
    main()
