"""Trains every row with every seed, keeps what is done, and puts it together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from attrs import asdict
from benchmarks.harness.internals import arrays, local_path
from benchmarks.harness.statistics import half_width
from benchmarks.harness.worker import Record
from benchmarks.others import rows, task
from benchmarks.others.evaluating import STYLE, Referee
from benchmarks.others.rows import Row
from benchmarks.others.runs import Runs
from benchmarks.others.task import Job, Place


class Campaign(Runs):
    """Trains the quick start's policy; what is finished is kept in `cache`."""

    def __init__(self, cache: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        start = start_model(cache)
        super().__init__(cache, cache / "learning.jsonl", start, local_path("embedded:prompts"))
        self.referee = Referee(start)

    def run(self, table: Iterable[Row], seeds: Sequence[int]) -> list[Record]:
        """The rows of a table, each with its seeds put together."""
        return [self._row(row, seeds) for row in table]

    def _row(self, row: Row, seeds: Sequence[int]) -> Record:
        found = [self.trained(row.job(seed), f"{row.table}: {row.name}") for seed in seeds]
        return summary(row, seeds, found)

    def measured(self, job: Job, place: Place, probed: Sequence[float]) -> Record:
        return self.referee(place, probed)


def start_model(cache: Path) -> Path:
    """The quick start's policy in float32: the same bytes for everybody, and fast on a CPU."""
    import mlx.core as mx

    place, source = cache / "models" / "quick-start", local_path("embedded:policy")
    if not (place / "model.safetensors").exists():
        shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
        weights = arrays(mx.load(str(source / "model.safetensors")))
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(config | {"torch_dtype": "float32"}, indent=2))
        wide = {name: value.astype(mx.float32) for name, value in weights.items()}
        mx.save_safetensors(str(place / "model.safetensors"), wide, metadata={"format": "mlx"})
    return place


def summary(row: Row, seeds: Sequence[int], found: Sequence[Record]) -> Record:
    """A row with mean and interval over its seeds, step by step."""
    steps = found[0]["evaluations"]
    return {
        **asdict(row),
        "seeds": list(seeds),
        "judgements": sorted({r["judgements"] for r in found}),
        "logit_difference": max(r["logit_difference"] for r in found),
        "provenance": found[0]["provenance"],
        "evaluations": {
            step: {name: spread([r["evaluations"][step][name] for r in found]) for name in steps[step]}
            for step in steps
        },
    }


def spread(values: Sequence[float]) -> Record:
    """Mean and 95 % interval over seeds."""
    half = half_width(values) if len(values) > 1 else None
    return {"mean": fmean(values), "half": half, "values": list(values)}


def best(sweep: Iterable[Record]) -> dict[str, float]:
    """Each tool's learning rate with the highest win rate at the end that leaves the facts right.

    Of equals it is the lowest; where none leaves them right, the lowest of all.
    """
    found: dict[str, tuple[float, float]] = {}
    for row in sweep:
        end = row["evaluations"][str(STYLE.steps)]
        kept = end["facts_right"]["mean"] >= rows.FACTS_KEPT
        reached = end["win_rate"]["mean"] if kept else 0.0
        if row["tool"] not in found or reached > found[row["tool"]][0]:
            found[row["tool"]] = (reached, row["learning_rate"])
    return {tool: rate for tool, (_, rate) in found.items()}


def measure(cache: Path, seeds: Sequence[int]) -> Record:
    """Every table of the page."""
    campaign = Campaign(cache)
    swept = campaign.run(rows.sweep(), rows.SWEEP_SEEDS)
    return {
        "task": {
            **{name.lower(): value for name, value in vars(task).items() if isinstance(value, int | float)},
            **{name: value for name, value in vars(STYLE).items() if name != "score"},
        },
        "start": campaign.referee.start,
        "same rate": campaign.run(rows.same_rate(), seeds),
        "sweep": swept,
        "best rate": campaign.run(rows.best_rate(best(swept)), seeds),
        "differences": campaign.run(rows.differences(), seeds),
        "xpo": campaign.run(rows.xpo(), seeds),
    }
