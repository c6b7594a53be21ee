"""The results as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.pages import Cells, markdown
from benchmarks.speed.pairing import geometric_mean
from benchmarks.speed.samples import COLUMNS

Results = dict[str, Any]
PHASES = ("sampling", "judging", "scoring", "update")
SIDES = ("mlx-lm-lora", "earlier", "prefloop", "both", "again")


def text(results: Results, section: str) -> str:
    """The tables of a section."""
    found = [make(results) for name, make in TABLES.items() if name.split()[0] == section]
    return "\n\n".join(part for part in found if part)


def steps(results: Results) -> str:
    """Seconds of a step on both sides and how many times faster prefloop is, with the geometric mean."""
    rows = list(results.get("table", {}).values())
    heads = ("row", "mlx-lm-lora, s", "prefloop, s", "times faster", "both orders, s", "times faster")
    heads += ("rounds, steps", "commit")
    lines = [_step_line(row) for row in rows if row["row"]["kind"] != "twice"]
    means = [_mean(rows, orders) for orders in ("one order", "both orders")]
    mean = ("geometric mean of equal BLAS", "", "", means[0], "", means[1], "", "")
    return markdown(heads, [*lines, mean]) if lines else ""


def _step_line(row: Results) -> Cells:
    sides, times, rounds = row["sides"], row.get("times", {}), row["steps"]["prefloop"]
    return (
        row["row"]["name"],
        _seconds(sides, "mlx-lm-lora"),
        _seconds(sides, "prefloop"),
        _times(times, "one order", "step"),
        _seconds(sides, "both"),
        _times(times, "both orders", "step"),
        f"{len(rounds)}, {len(rounds[0])}",
        row["commit"],
    )


def _mean(rows: Iterable[Results], orders: str) -> str:
    found = [
        row["times"][orders]["step"]["median"]
        for row in rows
        if row["row"]["kind"] == "same" and orders in row.get("times", {})
    ]
    return f"{geometric_mean(found):.2f}" if found else ""


def noise(results: Results) -> str:
    """prefloop against itself: what the ratios are worth."""
    rows = [row for row in results.get("table", {}).values() if row["row"]["kind"] == "twice"]
    heads = ("row", "first, s", "second, s", "first / second")
    lines = [
        (
            row["row"]["name"],
            _seconds(row["sides"], "prefloop"),
            _seconds(row["sides"], "again"),
            _times(row.get("times", {}), "one order", "step"),
        )
        for row in rows
    ]
    return markdown(heads, lines)


def phases(results: Results) -> str:
    """Seconds of each phase, a line for each side of each row."""
    return _sides(results, "table", PHASES, lambda side, phase: f"{side['seconds'][phase]:.3f}")


def memory(results: Results) -> str:
    """Megabytes and processor seconds, a line for each side of each row."""
    return _memory(results, "table")


def large(results: Results) -> str:
    """The same of the 100 M model."""
    return _memory(results, "memory")


def _memory(results: Results, section: str) -> str:
    names = ("held_mb", "peak_mb", "working_mb", "rss_mb", "processor_seconds")
    shown = _sides(
        results, section, names, lambda side, name: "" if side[name] is None else f"{side[name]:.1f}"
    )
    rows = results.get(section, {}).values()
    heads = ("row", "held", "at the peak", "working")
    lines = [
        (row["row"]["name"], *(_share(row["times"]["one order"][name]["median"]) for name in names[:3]))
        for row in rows
        if row["row"]["kind"] != "twice" and "times" in row
    ]
    return f"{shown}\n\n{markdown(heads, lines)}" if lines else shown


def _share(times: float) -> str:
    return f"{1 / times:.2f}"


def _sides(results: Results, section: str, names: Cells, cell: Callable[[Any, str], str]) -> str:
    lines = [
        (row["row"]["name"], side, *(cell(row["sides"][side], name) for name in names))
        for row in results.get(section, {}).values()
        for side in SIDES
        if side in row["sides"]
    ]
    return markdown(("row", "", *(name.replace("_", " ") for name in names)), lines)


def floor(results: Results) -> str:
    """Seconds of each phase, the least it could take, and their quotient."""
    heads = ("row", "phase", "s", "GFLOP", "products, s", "exponentials, s", "times the floor")
    lines = [
        (
            row["row"]["name"],
            name,
            f"{phase['seconds']:.3f}",
            f"{phase['gigaflop']:.1f}",
            f"{phase['products']:.3f}",
            f"{phase['exponentials']:.3f}",
            f"{phase['seconds'] / (phase['products'] + phase['exponentials']):.1f}",
        )
        for row in results.get("floor", {}).values()
        for name, phase in row["phases"].items()
    ]
    return markdown(heads, lines)


def rates(results: Results) -> str:
    """The machine's rates, as they were measured beside each row."""
    heads = ("row", "GFLOP/s by rows of the product", "GB/s of reading", "ns for an exponential: mlx, NumPy")
    lines = [
        (
            row["row"]["name"],
            ", ".join(f"{rows}: {rate:.0f}" for rows, rate in row["rates"]["gigaflops"].items()),
            f"{row['rates']['gigabytes']:.1f}",
            ", ".join(f"{rate:.2f}" for rate in row["rates"]["exp_nanoseconds"].values()),
        )
        for row in results.get("floor", {}).values()
    ]
    return markdown(heads, lines)


def growth(results: Results) -> str:
    """Seconds and memory of a step, and seconds for a sampled token."""
    heads = ("row", "parameters, M", "step, s", *PHASES, "ms for a token", "working MB")
    lines = [
        (
            row["row"]["name"],
            f"{row['parameters'] / 1e6:.1f}",
            *(f"{row['seconds'][phase]:.3f}" for phase in ("step", *PHASES)),
            f"{1000 * row['seconds']['step'] / row['sampled']:.2f}",
            f"{row['working_mb']:.0f}",
        )
        for row in results.get("growth", {}).values()
    ]
    return markdown(heads, lines)


def versions(results: Results) -> str:
    """prefloop against an earlier version of itself."""
    heads = ("row", "against", "then, s", "now, s", "times faster", "working memory")
    lines = []
    for row in results.get("versions", {}).values():
        times = row.get("times", {})
        share = _share(times["one order"]["working_mb"]["median"]) if times else ""
        sides = (_seconds(row["sides"], side) for side in ("earlier", "prefloop"))
        lines.append((row["row"]["name"], row["version"], *sides, _times(times, "one order", "step"), share))
    return markdown(heads, lines)


def profile(results: Results) -> str:
    """Seconds of each phase, and seconds of processor time by what they went to."""
    heads = ("row", "", "phase", "s", *COLUMNS)
    lines = [
        (
            row["row"]["name"],
            f"{side} {row['version']}" if side == "earlier" else side,
            name,
            *(f"{seconds:.2f}" for seconds in (phase["seconds"], *map(phase["processor"].get, COLUMNS))),
        )
        for row in results.get("profile", {}).values()
        for side in SIDES
        if side in row["sides"]
        for name, phase in row["sides"][side]["phases"].items()
    ]
    return markdown(heads, lines)


def setting(results: Results) -> str:
    """What the last run ran on."""
    found = results.get("setting", {})
    return markdown(
        ("", ""), [(name, ", ".join(v) if isinstance(v, list) else str(v)) for name, v in found.items()]
    )


def _seconds(sides: Results, name: str) -> str:
    return f"{sides[name]['seconds']['step']:.3f}" if name in sides else ""


def _times(times: Results, orders: str, what: str) -> str:
    if not times:
        return "unequal work"
    if orders not in times:
        return ""
    found = times[orders][what]
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


TABLES: dict[str, Callable[[Results], str]] = {
    "table": steps,
    "table noise": noise,
    "table phases": phases,
    "table memory": memory,
    "memory": large,
    "floor": floor,
    "floor rates": rates,
    "growth": growth,
    "versions": versions,
    "profile": profile,
    "setting": setting,
}
