"""`python -m tests.tools`: install what the tests need beside Python packages, if it is missing.

Debian's packages with apt-get (as root, else it says what to install), and the SMPP library of npm, which no one here
wrote, as a second carrier.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = {"tshark": "tshark", "text2pcap": "wireshark-common", "chromium": "chromium", "setpriv": "util-linux"}
FONTS = ("fonts-noto-cjk", Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"))
PEERS = Path(__file__).parent.parent / "build" / "peers"
NPM_PACKAGES = ("smpp@0.5.1",)


def main() -> None:
    """Install what is missing; status 1 with what to do where that cannot be done."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not FONTS[1].exists():
        missing.append(FONTS[0])
    if missing:
        _apt(missing)
    if not (PEERS / "node_modules" / "smpp").exists():
        if shutil.which("npm") is None:
            sys.exit("the tests need Node.js with npm: install it")
        PEERS.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--silent",
             "--prefix", str(PEERS), *NPM_PACKAGES],
            check=True,
        )  # fmt: skip


def _apt(packages: list[str]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"the tests need: {' '.join(packages)}. Install them, e.g. apt-get install {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment, stdout=subprocess.DEVNULL)
    subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
        check=True, env=environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip


if __name__ == "__main__":
    main()
