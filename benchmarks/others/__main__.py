"""``python -m benchmarks.others losses|learning|real``: results, and pages written anew. See the package."""

from __future__ import annotations

import json
from pathlib import Path

import click
from attrs import asdict
from benchmarks import pages
from benchmarks.harness import environments, records
from benchmarks.harness.statistics import MOST_SEEDS
from benchmarks.harness.workers import run_worker
from benchmarks.others.tables import results

cache_option = click.option(
    "--cache", type=click.Path(path_type=Path), default=environments.CACHE, show_default=True
)


@click.group(help="prefloop beside mlx-lm-lora and TRL.")
def main() -> None:
    pass


@main.command(help="Ask TRL anew, keep its answers for the tests, and compare.")
@cache_option
def losses(cache: Path) -> None:
    from benchmarks.others.losses import FIXTURE, compare

    found = run_worker(
        "benchmarks.others.trl_losses_worker", {}, python=environments.interpreter("trl", cache)
    )
    kept = {name: found[name] for name in ("versions", "tables", "cases")}
    fixture = {"made_by": "python -m benchmarks.others losses", **kept}
    FIXTURE.write_text(json.dumps(fixture) + "\n", encoding="utf-8")
    comparisons = [asdict(c) | {"value_difference": c.value_difference} for c in compare(fixture)]
    origin = records.provenance(found["device"], found["versions"])
    records.save(results("losses"), {"provenance": origin, "comparisons": comparisons})
    pages.write()


@main.command(help="Train what has not been trained yet, and put everything together.")
@click.option("--seeds", default=5, type=click.IntRange(2, MOST_SEEDS), show_default=True)
@cache_option
def learning(seeds: int, cache: Path) -> None:
    from benchmarks.others.learning import measure

    records.save(results("learning"), measure(cache, range(seeds)))
    pages.write()


@main.command(help="Train SmolLM2 with each tool, where that is not on record.")
@click.option("--seeds", default=3, type=click.IntRange(2, MOST_SEEDS), show_default=True)
@cache_option
def real(seeds: int, cache: Path) -> None:
    from benchmarks.others.real import Campaign, jobs

    Campaign(cache).run(jobs(range(seeds)))
    pages.write()


if __name__ == "__main__":
    main()
