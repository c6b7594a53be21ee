"""The fault campaign, cut short: ``python -m benchmarks.faults`` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        ("--kills", "15", "--disks", "0", "--damages", "0", "--ranks-kills", "0"),
        ("--kills", "0", "--disks", "4", "--damages", "42", "--ranks-kills", "0"),
        ("--kills", "0", "--disks", "0", "--damages", "0", "--ranks-kills", "4"),
    ],
    ids=["kills", "files", "ranks"],
)
def test_no_fault_loses_a_label(faults: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", *faults]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
