"""``python -m benchmarks.scaling``: see the package."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
from benchmarks import pages
from benchmarks.harness import environments, records
from benchmarks.harness.workers import BenchmarkError
from benchmarks.scaling import here
from benchmarks.scaling.bodies import RESULTS, Body, bodies, measure
from benchmarks.scaling.simulating import simulate
from benchmarks.scaling.wires import can_count

ORDER = ("phases", "ranks", "workers", "simulation")
cache_option = click.option(
    "--cache", type=click.Path(path_type=Path), default=environments.CACHE, show_default=True
)
body_option = click.option("--body", "name", default="quick start", show_default=True)


@click.group(help="What more machines bring, as far as one machine can tell. Results are kept.")
def main() -> None:
    pass


@main.command(help="Measure the phases of a step, which all else starts from.")
@body_option
@click.option("--steps", type=click.IntRange(2), help="Steps of each size, instead of the body's own number.")
@cache_option
def phases(name: str, steps: int | None, cache: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _keep(f"phases {name}", measure(_body(name, cache), cache, Path(folder), steps))


@main.command(help="Runs of 1 to 4 ranks on this machine, beside the calculator.")
@body_option
@click.option("--most", default=4, show_default=True, type=click.IntRange(1, 8))
@cache_option
def ranks(name: str, most: int, cache: Path) -> None:
    planned, body = _planned(name), _body(name, cache)
    for count in range(1, most + 1):
        _keep(f"ranks {count}", here.measure_ranks(body, count, planned))


@main.command(help="Runs with 1 and 2 workers on this machine, beside the calculator.")
@body_option
@cache_option
def workers(name: str, cache: Path) -> None:
    planned, body = _planned(name), _body(name, cache)
    for count, staleness in ((1, 8), (2, 8), (2, 0)):
        found = here.measure_workers(body, count, staleness, planned)
        _keep(f"workers {count}, staleness {staleness}", found)


@main.command("simulate", help="Play 2 to 64 machines through from the phases on record.")
def play() -> None:
    for name, found in records.load(RESULTS).items():
        kind, _, body = name.partition(" ")
        if kind == "phases":
            _keep(f"simulation {body}", {"rows": simulate(found)})


def _body(name: str, cache: Path) -> Body:
    known = bodies(cache)
    if name not in known:
        raise BenchmarkError(f"there is no body '{name}'. Known: {', '.join(known)}.")
    return known[name]


def _planned(name: str) -> dict[str, Any]:
    """The phases that the calculator starts from. Raises `BenchmarkError` where they are not measured yet."""
    if not can_count():
        raise BenchmarkError(
            "this needs Linux and root: bytes are counted in a network of one's own (unshare)."
        )
    found: dict[str, Any] | None = records.load(RESULTS).get(f"phases {name}")
    if found is None:
        raise BenchmarkError(f"first: python -m benchmarks.scaling phases --body '{name}'")
    return found


def _keep(name: str, found: dict[str, Any]) -> None:
    results = records.load(RESULTS) | {name: found}
    places = sorted(results, key=lambda one: (ORDER.index(one.split()[0]), one))
    records.save(RESULTS, {one: results[one] for one in places})
    click.echo(f"kept {name}")
    pages.write()


if __name__ == "__main__":
    main()
