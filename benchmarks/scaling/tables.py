"""What docs/scaling.md shows of what is on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import records
from benchmarks.harness.internals import amount
from benchmarks.harness.pages import markdown
from benchmarks.scaling.bodies import RESULTS
from benchmarks.scaling.here import MBITS
from benchmarks.scaling.simulating import DEFAULT_STALENESS, LINKS, wires

Results = Mapping[str, Any]
BUSY = 6.0
"""A load beyond that of a run's own processes, from which on its seconds say nothing and are not shown."""


def phases(results: Results) -> str:
    """What was measured of each model."""
    heads = ("", "sampling, s", "judging, s", "scoring, s", "update, s", "spread", "tokens", "gradient")
    lines = []
    for name, found in _part(results, "phases ").items():
        own, work = found["phases"], found["work"]
        seconds = [_line(own[phase]) for phase in ("sampling", "judging", "scoring")]
        mean = sum(own["spread"]) / len(own["spread"])
        spread = (sum((one - mean) ** 2 for one in own["spread"]) / len(own["spread"])) ** 0.5
        update, tokens = f"{own['update']:.3f}", f"{own['tokens']:.0f}"
        lines.append((name, *seconds, update, f"{spread:.0%}", tokens, amount(work["gradient_bytes"])))
    return markdown(heads, lines)


def _line(line: Mapping[str, float]) -> str:
    return f"{line['fixed']:.3g} + {line['each']:.3g} n"


def wire(_: Results) -> str:
    """The arithmetic of a step of ranks alone."""
    heads = ("trained", "ranks", "each sends", "1 GbE, s", "10 GbE, s")
    lines = [
        (
            row["name"],
            str(row["machines"]),
            amount(row["bytes"]),
            *(f"{row['seconds'][k]:.3g}" for k in LINKS),
        )
        for row in wires()
    ]
    return markdown(heads, lines)


def simulated(results: Results, name: str) -> str:
    """Times as fast as one machine, as played through."""
    found = results.get(f"simulation {name}", {}).get("rows", ())
    ways = ("ranks", "workers, 0", f"workers, {DEFAULT_STALENESS}")
    links = {"1gbe": "1 GbE", "10gbe": "10 GbE"}
    heads = ("pairs", "machines", *(f"{way}, {links[link]}" for way in ways for link in LINKS))
    times = {(r["pairs"], r["machines"], r["way"], r.get("link")): r["times"] for r in found}
    sizes = dict.fromkeys((r["pairs"], r["machines"]) for r in found if r["machines"] > 1)
    lines = [
        (str(pairs), str(n), *(f"{times[pairs, n, way, link]:.2f}" for way in ways for link in LINKS))
        for pairs, n in sizes
    ]
    return markdown(heads, lines)


def here(results: Results, kind: str) -> str:
    """Runs on this machine beside the calculator."""
    lines = [_compared(name, row) for name, row in _part(results, f"{kind} ").items()]
    heads = ["", "kB a step", "worked out", "s a step", "worked out"]
    if any(len(line) > len(heads) for line in lines):
        heads += [f"more at {MBITS:g} Mbit/s, s", "worked out"]
    return markdown(heads, [[*line, *[""] * (len(heads) - len(line))] for line in lines])


def _compared(name: str, row: Mapping[str, Any]) -> Sequence[str]:
    sizes = [f"{row[key] / 1e3:.1f}" for key in ("bytes", "planned_bytes")]
    seconds = [f"{row[key]:.2f}" for key in ("seconds", "planned_seconds")]
    if row["load"] > BUSY:
        return (name, *sizes, "busy", "")
    if row["slow"] is None:
        return (name, *sizes, *seconds)
    return (name, *sizes, *seconds, f"{row['slow'] - row['seconds']:.2f}", f"{row['planned_slower']:.2f}")


def _part(results: Results, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): found for name, found in results.items() if name.startswith(prefix)}


def block(name: str) -> str:
    """What a page shows: `phases`, `wire`, `ranks`, `workers`, `origin`, or `simulated BODY`."""
    results = records.load(RESULTS)
    if name.startswith("simulated "):
        return simulated(results, name.removeprefix("simulated "))
    writers = {
        "phases": phases,
        "wire": wire,
        "ranks": lambda found: here(found, "ranks"),
        "workers": lambda found: here(found, "workers"),
        "origin": lambda found: records.origin([one for one in found.values() if "provenance" in one]),
    }
    return writers[name](results)
