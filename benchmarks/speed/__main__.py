"""``python -m benchmarks.speed``: one command, one table, one JSON file."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed import floor, growth, page, profiling, rows, table, versus
from benchmarks.speed.processes import ROOT, THEIRS, Workshop, versions

from prefloop import UserError

RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
PAGE = ROOT / "docs" / "performance.md"


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser("python -m benchmarks.speed", description=__doc__)
    found.add_argument("--rows", help="names of rows, with commas between them; all of the table by default")
    found.add_argument("--repeats", type=int, help="rounds of each row")
    found.add_argument("--steps", type=int, help="steps that each process is timed for")
    found.add_argument("--quick", action="store_true", help="only try: one row, one round")
    found.add_argument("--memory", action="store_true", help="the rows of the 100 M model instead")
    found.add_argument("--floor", action="store_true", help="phases against their arithmetic floor instead")
    found.add_argument("--growth", action="store_true", help="prefloop alone as the work grows instead")
    found.add_argument("--profile", action="store_true", help="where processor time goes, by perf, instead")
    found.add_argument("--against-version", metavar="GIT_REF", help="prefloop against an earlier one")
    found.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "prefloop-speed")
    found.add_argument("--output", type=Path, default=RESULTS, help="the results; other rows stay in it")
    found.add_argument("--write-docs", action="store_true", help="put the results into docs/performance.md")
    found.add_argument("--wrap", default="", help="a command to run every process under")
    return found


def main() -> int:
    """Measure what is asked for, print it, and keep it."""
    arguments = parser().parse_args()
    try:
        if arguments.write_docs:
            page.write_docs(PAGE, json.loads(arguments.output.read_text()))
        else:
            _measure(arguments)
    except (UserError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(arguments: argparse.Namespace) -> None:
    shop = Workshop(arguments.folder, arguments.wrap)
    section = _section(arguments)
    with tempfile.TemporaryDirectory() as name:
        version = arguments.against_version
        source = versus.checkout(version, Path(name) / "source") if version else None
        for row in _rows(arguments):
            steps = arguments.steps or (1 if arguments.quick else row.steps)
            repeats = arguments.repeats or (1 if arguments.quick else row.repeats)
            if section == "floor":
                found = floor.measure(row, shop, steps=steps)
            elif section == "growth":
                found = growth.measure(row, shop, steps=steps)
            elif section == "profile":
                found = profiling.measure(row, shop, steps=steps, source=source)
            elif source:
                found = versus.against_version(row, shop, source, repeats=repeats, steps=steps)
            else:
                found = versus.measure(row, shop, repeats=repeats, steps=steps)
            keep(arguments.output, section, {**found, "version": version, **_circumstances()}, shop)
    print(table.text(json.loads(arguments.output.read_text()), section))


def _section(arguments: argparse.Namespace) -> str:
    if arguments.against_version and not arguments.profile:
        return "versions"
    sections = ("profile", "memory", "floor", "growth")
    return next((name for name in sections if getattr(arguments, name)), "table")


def _rows(arguments: argparse.Namespace) -> list[rows.Row]:
    if arguments.rows:
        found = [rows.named(name.strip()) for name in arguments.rows.split(",")]
    elif arguments.memory:
        found = list(rows.MEMORY)
    elif arguments.growth:
        found = growth.ROWS
    elif arguments.profile:
        found = profiling.ROWS
    else:
        alone = arguments.floor or arguments.against_version
        found = [row for row in rows.TABLE if not alone or row.kind == "same"]
        found = found[:1] if arguments.quick else found
    newcomers = sys.platform == "linux"
    return [row for row in found if newcomers or row.kind != "newcomer"]


def keep(output: Path, section: str, found: dict[str, Any], shop: Workshop) -> None:
    """Put one row's results among those of other rows and earlier runs."""
    results = json.loads(output.read_text()) if output.exists() else {}
    measured = {**results.get(section, {}), found["row"]["name"]: found}
    order = [row.name for row in (*rows.TABLE, *rows.MEMORY, *growth.ROWS)]
    results[section] = dict(sorted(measured.items(), key=lambda row: [*order, row[0]].index(row[0])))
    results["setting"] = {
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "versions": [THEIRS, *versions()],
        "blas": Path(shop.library).name if shop.library else None,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")


def _circumstances() -> dict[str, str]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return {"measured": now, "commit": commit.stdout.strip()}


if __name__ == "__main__":
    sys.exit(main())
