"""Runs a row: prefloop and other sides take turns on the same work, each in fresh processes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any

import click
from attrs import asdict, frozen
from benchmarks.harness import environments, records
from benchmarks.harness.workers import ROOT, run_worker
from benchmarks.speed import floor, pairing
from benchmarks.speed.measuring import SAME, Result
from benchmarks.speed.rows import OTHERS, Row

Side = Callable[[dict[str, Any]], Result]
OWN = ("prefloop", "both", "rollout")
"""prefloop's sides: with one judge order, with both, and with a pool of several steps."""
HERE = (*SAME, "mlx-cpu")
"""What other tools get in the version that is installed here."""
MODULES = {"mlx-lm-lora": "benchmarks.speed.theirs", "TRL": "benchmarks.speed.trl_worker"}


@frozen
class Bench:
    """How rows are measured. `cache` keeps models and environments, `earlier` holds an earlier commit."""

    cache: Path
    earlier: Path | None = None
    steps: int | None = None
    rounds: int | None = None
    """Instead of what the row has."""
    others: Collection[str] = OTHERS
    """The other tools that take part where a row has work for them; installed where they are missing."""

    def measure(self, row: Row) -> dict[str, Any]:
        """Let the sides take turns. prefloop goes first and says in which order it took the prompts."""
        sides = self._sides(row)
        results: dict[str, list[Result]] = {name: [] for name in sides}
        models = self.models(row, judge_is_policy=row.kind == "memory")
        rounds, steps = self.rounds or row.rounds, self.steps or row.steps
        for seed in range(rounds):
            job = {**row.job(seed, steps, row.warmup), **models}
            for name, side in sides.items():
                found = side(job)
                if name == "prefloop":
                    job |= {"order": found["prompts"], "device": found["device"]}
                results[name].append(found)
                step = pairing.summary(found)["step_seconds"]
                click.echo(f"{row.name} round {seed + 1}/{rounds} {name}: {step:.3f} s a step", err=True)
        found = report(row, results)
        floors = self._floors(row, results) if row.kind == "real" and not self.earlier else {}
        return {**found, **floors}

    def _sides(self, row: Row) -> dict[str, Side]:
        if self.earlier:
            return {"prefloop": _prefloop("both"), "earlier": _prefloop("both", checkout=self.earlier)}
        share_blas = row.kind != "newcomer"
        ours = _prefloop("fixed", share_blas=share_blas)
        if row.kind == "twice":
            return {"prefloop": ours, "again": ours}
        sides = {"prefloop": ours}
        for name in self.others:
            if name not in row.missing():
                python = interpreter(name, self.cache)
                sides[name] = other_side(name, python, share_blas=share_blas)
        if row.kind == "same":
            sides["both"] = _prefloop("both")
        if row.rollout > 1:
            sides["rollout"] = _prefloop("fixed", rollout=row.rollout)
        return sides

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

    def _floors(self, row: Row, results: dict[str, list[Result]]) -> dict[str, Any]:
        """The machine's rates, and the least that each of prefloop's sides could take by them."""
        rates = machine_rates()
        pools = {"prefloop": 1, "rollout": row.rollout}
        return {
            "rates": rates,
            "floors": {
                name: floor.phases(row, results[name], rates, pool)
                for name, pool in pools.items()
                if name in results
            },
        }


@cache
def machine_rates() -> dict[str, float]:
    """What this machine can do, measured once in a command."""
    return run_worker("benchmarks.speed.rates_worker", {})["rates"]


def interpreter(name: str, cache: Path) -> str:
    """The Python of another side, installed where it is missing."""
    return environments.interpreter(name.lower(), cache, as_here=HERE)


def is_installed(name: str, cache: Path) -> bool:
    """Whether another side is there without installing anything."""
    return environments.is_installed(name.lower(), cache, as_here=HERE)


def _prefloop(orders: str, *, checkout: Path = ROOT, share_blas: bool = True, rollout: int = 1) -> Side:
    """prefloop as it is in `checkout`, measured by that checkout's own worker."""

    def side(job: dict[str, Any]) -> Result:
        given = {**job, "orders": orders}
        if rollout > 1:
            whole = rollout * -(-job["steps"] // rollout)
            given |= {"steps": whole, "training": {"rollout": rollout}}
        return run_worker("benchmarks.speed.ours", given, checkout=checkout, share_blas=share_blas)

    return side


def other_side(name: str, python: str, *, share_blas: bool) -> Side:
    """Another tool. PyTorch brings a BLAS of its own; its threads wait as those of the shared one do."""
    torch = name == "TRL"
    environment = {"OMP_WAIT_POLICY": "passive"} if torch else {}

    def side(job: dict[str, Any]) -> Result:
        return run_worker(
            MODULES[name],
            job,
            python=python,
            share_blas=share_blas and not torch,
            environment=environment,
        )

    return side


def report(row: Row, results: dict[str, list[Result]]) -> dict[str, Any]:
    """What the sides took and, where their work was the same, how they compare."""
    ours = results["prefloop"]
    found: dict[str, Any] = {
        "row": row.as_json(),
        "sides": {name: pairing.middle(side) for name, side in results.items()},
        "work": {
            name: {what: side[0][what][0] for what in ("sampled", "scored", "questions")}
            for name, side in results.items()
        },
        "steps": {name: [result["step"] for result in side] for name, side in results.items()},
        "missing": row.missing() if row.kind == "real" else {},
        "unequal": _unequal(row, results),
        "provenance": records.provenance(ours[0]["device"], _versions(results), ours[0].get("chip")),
    }
    if not found["unequal"]:
        found["times"] = {
            other: {own: pairing.compared(results[other], results[own]) for own in OWN if own in results}
            for other in results
            if other not in OWN
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
            lines = pairing.unequal(row.as_json(), ours, seen, replies=row.timed)
            found |= dict.fromkeys(f"{name}: {line}" for line in lines)
    return list(found)


def _halved(result: Result) -> Result:
    """As if each pair had been asked about once: asking in both orders is the one thing done twice."""
    return {**result, "questions": [count / 2 for count in result["questions"]]}
