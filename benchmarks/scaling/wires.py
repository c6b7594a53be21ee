"""A loopback of one's own: what goes over it is counted by the kernel, and its rate can be held down.

A command runs in a network namespace of its own (``unshare``, as root on Linux), so that no other program's
packets are counted. ``tc`` limits the rate with a token bucket. Everything that all processes send there goes
through the one bucket, so that each of n that send alike has an n-th of the rate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen
from benchmarks.harness.workers import PACKAGES, ROOT, BenchmarkError, variables

_INSIDE = """
import json, subprocess, sys
command, mbits, found = json.loads(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
if mbits:
    # A bucket drops what does not fit in it, and a packet on a loopback has up to 64 KiB and its headers.
    limit = ["rate", f"{mbits}mbit", "burst", "256kb", "latency", "60s"]
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "tbf", *limit], check=True)
code = subprocess.run(command).returncode
line = next(x for x in open("/proc/net/dev") if x.strip().startswith("lo:"))
with open(found, "w") as file:
    json.dump({"code": code, "bytes": int(line.split()[1]), "packets": int(line.split()[2])}, file)
"""


@frozen
class Counted:
    """What a command left on its loopback."""

    bytes: int
    """All that was sent, headers included."""
    packets: int


def can_count() -> bool:
    """Whether this machine lets one have a network of one's own."""
    try:
        done = subprocess.run(["unshare", "-n", "true"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def run_counted(
    arguments: Sequence[str], mbits: float = 0, environment: Mapping[str, str] | None = None
) -> Counted:
    """Run a Python command in a network of its own, at so many Mbit/s where that is not 0.

    Raises `BenchmarkError` where it fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch, "found.json")
        command = json.dumps([sys.executable, *arguments])
        done = subprocess.run(
            ["unshare", "-n", sys.executable, "-c", _INSIDE, command, str(mbits), str(found)],
            cwd=ROOT,
            env={**variables([ROOT / name for name in PACKAGES]), **(environment or {})},
            capture_output=True,
            text=True,
        )
        about = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {"code": done.returncode}
    if about.pop("code"):
        raise BenchmarkError(f"{' '.join(arguments[:4])} failed:\n{done.stderr.strip()[-2000:]}")
    return Counted(**about)
