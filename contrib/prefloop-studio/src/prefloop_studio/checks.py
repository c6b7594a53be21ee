"""What the report's validity checks say of a run as it is now.

They read all of it. A large run is read by a process of its own, `python -m prefloop_studio.checks RUN`: the
server goes on answering meanwhile, and does not keep the memory.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from prefloop import UserError
from prefloop.runs.view import LEDGER, METRICS
from prefloop_studio.processes import run_command

LARGE = 20_000_000
"""Bytes of a run's ledger and metrics, which are read in half a second."""
SECONDS = 600.0
"""After so long the checks are given up."""


def checks(run: Path) -> list[dict[str, str]]:
    """The checks of the run in the folder `run`, each with its ``level``, ``title`` and ``text``."""
    size = 0
    for name in (LEDGER, METRICS):
        with suppress(OSError):
            size += (run / name).stat().st_size
    if size < LARGE:
        return _checks(run)
    done = run_command([str(run)], SECONDS, "the checks", module="prefloop_studio.checks")
    if done.returncode:
        raise UserError(f"the checks failed: {(done.stderr.strip().splitlines() or ['they ended'])[-1]}")
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def _checks(run: Path) -> list[dict[str, str]]:
    from prefloop_plugins.report.findings import findings
    from prefloop_plugins.report.reading import read_run

    return [{"level": f.level, "title": f.title, "text": f.text} for f in findings(read_run(run))]


if __name__ == "__main__":
    print(json.dumps(_checks(Path(sys.argv[1]))))
