"""The results as tables: time of a step, memory, noise, and a comparison with an earlier commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.harness import records
from benchmarks.harness.pages import Cells, markdown
from benchmarks.harness.statistics import geometric_mean
from benchmarks.speed.pairing import MEMORY, PHASES

RESULTS = records.RESULTS / "speed.json"
Row = dict[str, Any]


def steps(results: Iterable[Row]) -> str:
    """Seconds of a step on both sides and how many times faster prefloop is, with the geometric mean."""
    rows = [row for row in results if row["row"]["kind"] in ("same", "newcomer")]
    heads = ("row", "mlx-lm-lora, s", "prefloop, s", "times faster", "both orders, s", "times faster")
    heads += ("rounds, steps", "commit")
    means = [_mean(rows, orders) for orders in ("one order", "both orders")]
    mean = ("geometric mean of equal BLAS", "", "", means[0], "", means[1], "", "")
    return markdown(heads, [*map(_step_line, rows), mean]) if rows else ""


def _step_line(row: Row) -> Cells:
    rounds = row["steps"]["prefloop"]
    return (
        row["row"]["name"],
        _seconds(row, "mlx-lm-lora"),
        _seconds(row, "prefloop"),
        _times(row, "one order", "step_seconds"),
        _seconds(row, "both"),
        _times(row, "both orders", "step_seconds"),
        f"{len(rounds)}, {len(rounds[0])}",
        row["provenance"]["commit"],
    )


def _mean(rows: Iterable[Row], orders: str) -> str:
    found = [
        row["times"][orders]["step_seconds"]["median"]
        for row in rows
        if row["row"]["kind"] == "same" and orders in row.get("times", {})
    ]
    return f"{geometric_mean(found):.2f}" if found else ""


def real(results: Iterable[Row]) -> str:
    """The pretrained model: what each side of each row took, mlx-lm-lora first."""
    seconds = [f"{phase.removesuffix('_seconds')}, s" for phase in PHASES]
    memory = ["tokens sampled a second", "peak, MB", "rss, MB"]
    heads = ["row", "", "step, s", "times faster", *seconds, *memory, "rounds, steps", "commit"]
    lines = [
        _side_line(row, name)
        for row in results
        if row["row"]["kind"] == "real"
        for name in ("mlx-lm-lora", "prefloop")
    ]
    return markdown(heads, lines)


def _side_line(row: Row, name: str) -> Cells:
    side, rounds = row["sides"][name], row["steps"][name]
    return (
        row["row"]["name"],
        name,
        f"{side['step_seconds']:.2f}",
        _times(row, "one order", "step_seconds") if name == "prefloop" else "",
        *(f"{side[phase]:.2f}" for phase in PHASES),
        f"{row['work']['sampled'] / side['sampling_seconds']:.0f}",
        f"{side['peak_mb']:.0f}",
        "" if side["rss_mb"] is None else f"{side['rss_mb']:.0f}",
        f"{len(rounds)}, {len(rounds[0])}",
        row["provenance"]["commit"],
    )


def noise(results: Iterable[Row]) -> str:
    """prefloop against itself: what the ratios are worth."""
    rows = [row for row in results if row["row"]["kind"] == "twice"]
    lines = [
        (
            row["row"]["name"],
            _seconds(row, "prefloop"),
            _seconds(row, "again"),
            _times(row, "one order", "step_seconds"),
        )
        for row in rows
    ]
    return markdown(("row", "first, s", "second, s", "first / second"), lines)


def phases(results: Iterable[Row]) -> str:
    """Seconds of each phase, a line for each side of each row; `both` is prefloop with both judge orders."""
    lines = [
        (row["row"]["name"], name, *(f"{row['sides'][name][phase]:.3f}" for phase in PHASES))
        for row in results
        for name in ("mlx-lm-lora", "prefloop", "both")
        if row["row"]["kind"] in ("same", "newcomer") and name in row["sides"]
    ]
    return markdown(("row", "", *(phase.removesuffix("_seconds") for phase in PHASES)), lines)


def memory(results: Iterable[Row]) -> str:
    """Megabytes of mlx-lm-lora and of prefloop with one judge order, a line for each row."""
    heads = ("row", *(name.removesuffix("_mb") for name in MEMORY))
    lines = [
        (row["row"]["name"], *(_megabytes(row["sides"], name) for name in MEMORY))
        for row in results
        if "mlx-lm-lora" in row["sides"] and row["row"]["kind"] != "real"
    ]
    return markdown(heads, lines)


def _megabytes(sides: dict[str, Row], name: str) -> str:
    values = [sides[side][name] for side in ("mlx-lm-lora", "prefloop")]
    return "" if None in values else " / ".join(f"{value:.0f}" for value in values)


def against_version(results: Iterable[Row], version: str) -> str:
    """prefloop against an earlier commit of itself, both judge orders."""
    heads = ("row", f"{version}, s", "now, s", f"{version} / now", "peak MB", f"peak, {version} / now")
    lines = [
        (
            row["row"]["name"],
            _seconds(row, "earlier"),
            _seconds(row, "prefloop"),
            _times(row, "one order", "step_seconds"),
            " / ".join(f"{row['sides'][side]['peak_mb']:.0f}" for side in ("earlier", "prefloop")),
            _times(row, "one order", "peak_mb"),
        )
        for row in results
    ]
    return markdown(heads, lines)


def _seconds(row: Row, side: str) -> str:
    return f"{row['sides'][side]['step_seconds']:.3f}" if side in row["sides"] else ""


def _times(row: Row, orders: str, what: str) -> str:
    if "times" not in row:
        return "unequal work"
    if orders not in row["times"]:
        return ""
    found = row["times"][orders][what]
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _origin(*, pretrained: bool) -> Callable[[Iterable[Row]], str]:
    def origin(results: Iterable[Row]) -> str:
        found = [row for row in results if (row["row"]["kind"] == "real") == pretrained]
        return records.origin(found) if found else ""

    return origin


TABLES: dict[str, Callable[[Iterable[Row]], str]] = {
    "real": real,
    "real origin": _origin(pretrained=True),
    "steps": steps,
    "noise": noise,
    "memory": memory,
    "phases": phases,
    "origin": _origin(pretrained=False),
}


def block(name: str) -> str:
    """What a page shows of the recorded results under this name."""
    return TABLES[name](records.load(RESULTS).values())
