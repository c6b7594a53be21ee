"""Runs a row: prefloop and another side take turns on the same work, each in fresh processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from attrs import asdict, frozen
from benchmarks.harness import environments, records
from benchmarks.harness.workers import ROOT, run_worker
from benchmarks.speed import pairing
from benchmarks.speed.measuring import SAME, Result
from benchmarks.speed.rows import Row

Side = Callable[[dict[str, Any]], Result]
WARMUP = 1


@frozen
class Bench:
    """How rows are measured. `cache` keeps models and environments, `earlier` holds an earlier commit."""

    cache: Path
    earlier: Path | None = None
    steps: int | None = None
    rounds: int | None = None
    """Instead of what the row has."""

    def measure(self, row: Row) -> dict[str, Any]:
        """Let the sides take turns. prefloop goes first and says in which order it took the prompts."""
        sides = self._sides(row)
        results: dict[str, list[Result]] = {name: [] for name in sides}
        models = self.models(row, judge_is_policy=row.kind == "memory")
        rounds, steps = self.rounds or row.rounds, self.steps or row.steps
        for seed in range(rounds):
            work = row.job(seed, steps, warmup=0 if row.kind == "memory" else WARMUP)
            job = {**work, **models}
            for name, side in sides.items():
                found = side(job)
                job["order"] = found["prompts"]
                results[name].append(found)
                step = pairing.summary(found)["step_seconds"]
                click.echo(f"{row.name} round {seed + 1}/{rounds} {name}: {step:.3f} s a step", err=True)
        return report(row, results)

    def _sides(self, row: Row) -> dict[str, Side]:
        if self.earlier:
            return {"prefloop": _prefloop("both"), "earlier": _prefloop("both", checkout=self.earlier)}
        share_blas = row.kind != "newcomer"
        ours = _prefloop("fixed", share_blas=share_blas)
        if row.kind == "twice":
            return {"prefloop": ours, "again": ours}
        python = environments.interpreter("mlx-lm-lora", self.cache, as_here=(*SAME, "mlx-cpu"))

        def theirs(job: dict[str, Any]) -> Result:
            return run_worker("benchmarks.speed.theirs", job, python=python, share_blas=share_blas)

        both = {"both": _prefloop("both")} if row.kind == "same" else {}
        return {"prefloop": ours, "mlx-lm-lora": theirs, **both}

    def models(self, row: Row, *, judge_is_policy: bool) -> dict[str, str]:
        """The folders of a row's policy and judge, made where they are missing."""
        policy = self._wanted(row, bits=row.bits)
        judge = policy if judge_is_policy else self._wanted(row, judge=True)
        run_worker("benchmarks.speed.models", {"models": [policy, judge]})
        return {"policy": policy["folder"], "judge": judge["folder"]}

    def _wanted(self, row: Row, *, judge: bool = False, bits: int | None = None) -> dict[str, Any]:
        pretrained = row.kind == "real"
        name = row.model if pretrained else row.size.name
        folder = self.cache / "models" / f"{name}{'-judge' if judge else ''}{f'-{bits}bit' if bits else ''}"
        made = {"size": asdict(row.size), "judge": judge, "bits": bits}
        return {"folder": str(folder), "cache": str(self.cache), "pretrained": pretrained, **made}


def _prefloop(orders: str, *, checkout: Path = ROOT, share_blas: bool = True) -> Side:
    """prefloop as it is in `checkout`, measured by that checkout's own worker."""

    def side(job: dict[str, Any]) -> Result:
        given = {**job, "orders": orders}
        return run_worker("benchmarks.speed.ours", given, checkout=checkout, share_blas=share_blas)

    return side


def report(row: Row, results: dict[str, list[Result]]) -> dict[str, Any]:
    """What the sides took and, where their work was the same, how they compare."""
    ours = results["prefloop"]
    found: dict[str, Any] = {
        "row": row.as_json(),
        "sides": {name: pairing.middle(side) for name, side in results.items()},
        "work": {what: ours[0][what][0] for what in ("sampled", "scored", "questions")},
        "steps": {name: [result["step"] for result in side] for name, side in results.items()},
        "unequal": _unequal(row, results),
        "provenance": records.provenance(ours[0]["device"], _versions(results)),
    }
    other = next(name for name in results if name not in ("prefloop", "both"))
    if not found["unequal"]:
        pairs = {"one order": "prefloop", "both orders": "both"}
        found["times"] = {
            pair: pairing.compared(results[other], results[name])
            for pair, name in pairs.items()
            if name in results
        }
    return found


def _versions(results: dict[str, list[Result]]) -> dict[str, str]:
    sides = [side[0].get("versions", {}) for side in results.values()]
    return dict(sorted({name: version for side in sides for name, version in side.items()}.items()))


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
