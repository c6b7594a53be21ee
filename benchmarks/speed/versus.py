"""The table: prefloop and another side take turns on the same work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed import pairing
from benchmarks.speed.measuring import Result
from benchmarks.speed.processes import ROOT, Workshop
from benchmarks.speed.rows import PROMPT_LENGTH, Row

from prefloop import UserError

Side = Callable[[dict[str, Any]], Result]
WARMUP = 1


def measure(row: Row, shop: Workshop, *, repeats: int, steps: int) -> dict[str, Any]:
    """One row of the table, as it is written to the results."""
    models = shop.models(row)
    preload = row.kind != "newcomer"

    def ours(job: dict[str, Any]) -> Result:
        return shop.run("ours", {**job, "orders": "fixed"}, preload=preload)

    def ours_in_both_orders(job: dict[str, Any]) -> Result:
        return shop.run("ours", {**job, "orders": "both"}, preload=preload)

    def theirs(job: dict[str, Any]) -> Result:
        return shop.run("theirs", job, python=shop.their_python(), preload=preload)

    sides: dict[str, Side] = {"prefloop": ours}
    if row.kind == "twice":
        sides["again"] = ours
    else:
        sides["mlx-lm-lora"] = theirs
    if row.kind == "same":
        sides["both"] = ours_in_both_orders
    return _rounds(row, sides, models, repeats=repeats, steps=steps)


def against_version(row: Row, shop: Workshop, source: Path, *, repeats: int, steps: int) -> dict[str, Any]:
    """prefloop as it is now, and as it is in the folder `source`, which holds an earlier core and plugins."""
    paths = (source / "core", source / "plugins")

    def now(job: dict[str, Any]) -> Result:
        return shop.run("ours", {**job, "orders": "both"})

    def before(job: dict[str, Any]) -> Result:
        return shop.run("ours", {**job, "orders": "both"}, paths=paths)

    return _rounds(row, {"prefloop": now, "earlier": before}, shop.models(row), repeats=repeats, steps=steps)


def checkout(version: str, folder: Path) -> Path:
    """The sources of `version`, anything that git knows by a name, in `folder`."""
    folder.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "archive", "--format=tar", version, "core", "plugins"], cwd=ROOT, capture_output=True
    )
    if archive.returncode:
        raise UserError(f"--against-version {version}: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def _rounds(
    row: Row, sides: dict[str, Side], models: dict[str, str], *, repeats: int, steps: int
) -> dict[str, Any]:
    """Let the sides take turns. prefloop goes first and says in which order it took the prompts."""
    results: dict[str, list[Result]] = {name: [] for name in sides}
    warmup = 0 if row.kind == "memory" else WARMUP
    for seed in range(repeats):
        job = {**row.job(seed, steps, warmup), **models, "prompt_length": PROMPT_LENGTH}
        for name, side in sides.items():
            found = side(job)
            job["order"] = found["prompts"]
            results[name].append(found)
            step = pairing.summary(found)["seconds"]["step"]
            print(f"{row.name} round {seed + 1}/{repeats} {name}: {step:.3f} s a step", file=sys.stderr)
    return report(row, results)


def report(row: Row, results: dict[str, list[Result]]) -> dict[str, Any]:
    """What the sides took and, where their work was the same, how they compare."""
    ours = results["prefloop"]
    found: dict[str, Any] = {
        "row": row.as_json(),
        "sides": {name: pairing.middle(side) for name, side in results.items()},
        "work": {what: ours[0][what][0] for what in ("sampled", "scored", "questions")},
        "steps": {name: [result["step"] for result in side] for name, side in results.items()},
        "unequal": _unequal(row, results),
    }
    others = [name for name in results if name not in ("prefloop", "both")]
    if not found["unequal"]:
        pairs = {"one order": "prefloop", "both orders": "both"}
        found["times"] = {
            pair: pairing.compared(results[others[0]], results[name])
            for pair, name in pairs.items()
            if name in results
        }
    return found


def _unequal(row: Row, results: dict[str, list[Result]]) -> list[str]:
    found: dict[str, None] = {}
    for name, side in results.items():
        if name == "prefloop":
            continue
        for ours, other in zip(results["prefloop"], side, strict=True):
            seen = _halved(other) if name == "both" else other
            lines = pairing.unequal(row.as_json(), ours, seen, replies=row.kind != "memory")
            found |= dict.fromkeys(lines)
    return list(found)


def _halved(result: Result) -> Result:
    """As if each pair had been asked about once: asking in both orders is the one thing done twice."""
    return {**result, "questions": [count / 2 for count in result["questions"]]}
