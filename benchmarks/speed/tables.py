"""The results as tables: time of a step, memory, noise, and a comparison with an earlier commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks.harness import records
from benchmarks.harness.pages import Cells, markdown
from benchmarks.harness.statistics import geometric_mean
from benchmarks.speed.pairing import MEMORY, PHASES
from benchmarks.speed.rows import OTHERS

RESULTS = records.RESULTS / "speed.json"
Row = dict[str, Any]


def steps(results: Iterable[Row]) -> str:
    """Seconds of a step on both sides and how many times faster prefloop is, with the geometric mean."""
    rows = [row for row in results if row["row"]["kind"] in ("same", "newcomer")]
    heads = ("row", "mlx-lm-lora, s", "prefloop, s", "times faster", "both orders, s", "times faster")
    heads += ("rounds, steps", "commit")
    means = [_mean(rows, own) for own in ("prefloop", "both")]
    mean = ("geometric mean of equal BLAS", "", "", means[0], "", means[1], "", "")
    return markdown(heads, [*map(_step_line, rows), mean]) if rows else ""


def _step_line(row: Row) -> Cells:
    return (
        row["row"]["name"],
        _seconds(row, "mlx-lm-lora"),
        _seconds(row, "prefloop"),
        _times(row, "mlx-lm-lora", "prefloop"),
        _seconds(row, "both"),
        _times(row, "mlx-lm-lora", "both"),
        counts(row, "prefloop"),
        row["provenance"]["commit"],
    )


def _mean(rows: Iterable[Row], own: str) -> str:
    found = [
        row["times"]["mlx-lm-lora"][own]["step_seconds"]["median"]
        for row in rows
        if row["row"]["kind"] == "same" and own in row.get("times", {}).get("mlx-lm-lora", {})
    ]
    return f"{geometric_mean(found):.2f}" if found else ""


def real(results: Iterable[Row]) -> str:
    """The pretrained model: what a step of each side of each row took, and its memory."""
    heads = ("row", "", "step, s", *(f"times {other}" for other in OTHERS))
    heads += ("peak, MB", "rss, MB", "rounds, steps", "commit")
    return markdown(heads, [_real_line(row, name) for row, name in _sides(results)])


def _sides(results: Iterable[Row]) -> Iterator[tuple[Row, str]]:
    """Every side of every row on the pretrained model, also those that cannot take part."""
    for row in results:
        if row["row"]["kind"] == "real":
            for name in (*OTHERS, "prefloop", "rollout"):
                if name in row["sides"] or name in row["missing"]:
                    yield row, name


def _real_line(row: Row, name: str) -> Cells:
    if name not in row["sides"]:
        return (row["row"]["name"], name, "cannot", *[""] * (len(OTHERS) + 4))
    own, side = name not in OTHERS, row["sides"][name]
    steps = [seconds for found in row["steps"][name] for seconds in found]
    return (
        row["row"]["name"],
        shown(row, name),
        f"{side['step_seconds']:.2f} ({min(steps):.2f} to {max(steps):.2f})",
        *(_times(row, other, name) if own else "" for other in OTHERS),
        *("" if side[what] is None else f"{side[what]:.0f}" for what in ("peak_mb", "rss_mb")),
        counts(row, name),
        row["provenance"]["commit"],
    )


def shown(row: Row, name: str) -> str:
    """What a side is called in a table."""
    own = {"both": "prefloop, both orders", "rollout": f"prefloop, rollout {row['row']['rollout']}"}
    return own.get(name, name)


def counts(row: Row, name: str) -> str:
    """Rounds of a side, and steps in each."""
    rounds = row["steps"][name]
    return f"{len(rounds)}, {len(rounds[0])}"


def work(results: Iterable[Row]) -> str:
    """The pretrained model: where the time of a step goes, and how far prefloop is from its floor."""
    seconds = [f"{phase.removesuffix('_seconds')}, s" for phase in PHASES]
    heads = ("row", "", *seconds, "tokens sampled a second", "GFLOP/s", "times the floor")
    lines = [_work_line(row, name) for row, name in _sides(results) if name in row["sides"]]
    return markdown(heads, lines)


def _work_line(row: Row, name: str) -> Cells:
    side, floors = row["sides"][name], row.get("floors", {}).get(name, {})
    total = {what: sum(floor[what] for floor in floors.values()) for what in ("gigaflop", "seconds")}
    step = side["step_seconds"]
    return (
        row["row"]["name"],
        shown(row, name),
        *(_phase(side[phase], floors.get(phase.removesuffix("_seconds"))) for phase in PHASES),
        f"{row['work'][name]['sampled'] / side['sampling_seconds']:.0f}",
        *((f"{total['gigaflop'] / step:.0f}", f"{step / total['seconds']:.1f}") if floors else ("", "")),
    )


def _phase(seconds: float, floor: Row | None) -> str:
    """Seconds, and in brackets how many times the floor they are."""
    return f"{seconds:.2f}" + (f" ({seconds / floor['seconds']:.1f})" if floor and floor["seconds"] else "")


def rates(results: Iterable[Row]) -> str:
    """What the floors were reckoned with, in words; the slowest and the fastest of the rows."""
    found = [row["rates"] for row in results if "rates" in row]
    if not found:
        return ""
    ends = {name: [end(one[name] for one in found) for end in (min, max)] for name in found[0]}
    (low, high), (slow, fast) = ends["gigaflops"], ends["gigabytes"]
    return f"{low:.0f} to {high:.0f} GFLOP/s and {slow:.0f} to {fast:.0f} GB/s."


def noise(results: Iterable[Row]) -> str:
    """prefloop against itself: what the ratios are worth."""
    rows = [row for row in results if row["row"]["kind"] == "twice"]
    lines = [
        (
            row["row"]["name"],
            _seconds(row, "prefloop"),
            _seconds(row, "again"),
            _times(row, "again", "prefloop"),
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
    """Megabytes of mlx-lm-lora and of prefloop with one judge order, and TRL's process: a line a row."""
    heads = ("row", *(name.removesuffix("_mb") for name in MEMORY), "TRL's rss")
    lines = [
        (row["row"]["name"], *(_megabytes(row["sides"], name) for name in MEMORY), _torch(row["sides"]))
        for row in results
        if "mlx-lm-lora" in row["sides"] and row["row"]["kind"] != "real"
    ]
    return markdown(heads, lines)


def _megabytes(sides: dict[str, Row], name: str) -> str:
    values = [sides[side][name] for side in ("mlx-lm-lora", "prefloop")]
    return "" if None in values else " / ".join(f"{value:.0f}" for value in values)


def _torch(sides: dict[str, Row]) -> str:
    size = sides.get("TRL", {}).get("rss_mb")
    return "" if size is None else f"{size:.0f}"


def against_version(results: Iterable[Row], version: str) -> str:
    """prefloop against an earlier commit of itself, both judge orders."""
    heads = ("row", f"{version}, s", "now, s", f"{version} / now", "peak MB", f"peak, {version} / now")
    lines = [
        (
            row["row"]["name"],
            _seconds(row, "earlier"),
            _seconds(row, "prefloop"),
            _times(row, "earlier", "prefloop"),
            " / ".join(f"{row['sides'][side]['peak_mb']:.0f}" for side in ("earlier", "prefloop")),
            _times(row, "earlier", "prefloop", "peak_mb"),
        )
        for row in results
    ]
    return markdown(heads, lines)


def _seconds(row: Row, side: str) -> str:
    return f"{row['sides'][side]['step_seconds']:.3f}" if side in row["sides"] else ""


def _times(row: Row, other: str, own: str, what: str = "step_seconds") -> str:
    """How many times less prefloop's side `own` takes than `other`, with the range over the rounds."""
    if "times" not in row:
        return "unequal work"
    found = row["times"].get(other, {}).get(own, {}).get(what)
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})" if found else ""


def _origin(*, pretrained: bool) -> Callable[[Iterable[Row]], str]:
    def origin(results: Iterable[Row]) -> str:
        found = [row for row in results if (row["row"]["kind"] == "real") == pretrained]
        return records.origin(found) if found else ""

    return origin


TABLES: dict[str, Callable[[Iterable[Row]], str]] = {
    "real": real,
    "work": work,
    "rates": rates,
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
