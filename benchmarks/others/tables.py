"""The tables of `docs/experiments/others.md`, from the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from benchmarks.experiments.tables import HEADS, shown
from benchmarks.harness import records
from benchmarks.harness.pages import Cells, markdown
from benchmarks.harness.worker import Record

_markdown = partial(markdown, numbers=False)


REAL = records.RESULTS / "others-real.jsonl"
"""Runs of each tool on SmolLM2."""
REAL_COLUMNS = "win_rate", "bright", "cheerful", "nats", "facts", "variety"


def results(command: str) -> Path:
    """The file of the results of one command."""
    return records.RESULTS / f"others-{command}.json"


def block(name: str) -> str:
    """What the page shows under this name."""
    if name in REAL_PARTS:
        return REAL_PARTS[name](records.Log(REAL).lines.values())
    command, write = PARTS[name]
    found = records.load(results(command))
    return write(found) if found else ""


def losses(found: Record) -> str:
    """Values and differences of every loss that both sides have."""
    heads = (
        "TRL's trainer",
        "prefloop's loss",
        "beta",
        "TRL",
        "prefloop",
        "value differs",
        "gradient differs",
    )
    return _markdown(heads, [_loss_line(c) for c in found["comparisons"]])


def _loss_line(c: Record) -> Cells:
    options = "".join(f", `{name}: {value}`" for name, value in c["options"].items())
    values = (f"{c['beta']:g}", f"{c['theirs']:.6f}", f"{c['ours']:.6f}")
    differences = (f"{c['value_difference']:.0e}", f"{c['gradient_difference']:.0e}")
    return (c["trainer"], f"`{c['loss']}`{options}", *values, *differences)


def setting(found: Record) -> str:
    """What everybody had in common, and who took part."""
    t, rows = found["task"], found["same rate"]
    counts = sorted({n for table in TABLES for row in found[table] for n in row["judgements"]})
    difference = max(row["logit_difference"] for table in TABLES for row in found[table])
    start = found["start"]
    shared = {
        **{name: records.values(rows, name) for name in ("machine", "commit", "date", "versions")},
        "judgements of each run, as counted": _listed(counts),
        "steps": f"{t['steps']}, of {t['batch_size']} prompts with one pair each",
        "adapters": f"LoRA on every linear layer of every block, rank {t['rank']}, factor {t['scale']:g}",
        "optimizer": "AdamW, learning rate by a cosine to zero, no warm-up",
        "loss": f"sigmoid, beta {t['beta']:g}",
        "sampling": f"temperature {t['temperature']:g}, top-p {t['top_p']:g}, {t['max_tokens']} tokens",
        "seeds": f"{_listed(rows[0]['seeds'])}; for the learning rates {_listed(found['sweep'][0]['seeds'])}",
        "adapters as read by the evaluator": f"logits within {difference:.0e} of the tool's own",
        "the start against itself": f"win rate {_percent(start['win_rate'])}, "
        f"ties {_percent(start['ties'])}, facts right {_percent(start['facts_right'])}, "
        f"{start['tokens']:.1f} tokens",
    }
    return _markdown(("what", "how"), shared.items())


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def table(name: str, *, named: str = "") -> Callable[[Record], str]:
    """A table of training runs; `named` heads the first column."""

    def written(found: Record) -> str:
        size = found["task"]["batch_size"]
        counts = [f"after {int(step) * size}" for step in found[name][0]["evaluations"]]
        extra = [key.replace("_", " ") for key in _EXTRA.get(name, ())]
        heads = (named or "tool", *extra, *counts, "facts right", "tokens", "stopped")
        return _markdown(heads, [_line(name, row) for row in found[name]])

    return written


def sweep(found: Record) -> str:
    """Win rate at the end for every tool and rate, over the sweep's own seeds, and right facts."""
    rates = sorted({row["learning_rate"] for row in found["sweep"]})
    lines = []
    for tool in dict.fromkeys(row["tool"] for row in found["sweep"]):
        ends = [_last(row) for row in found["sweep"] if row["tool"] == tool]
        cells = [f"{_percent(e['win_rate']['mean'])} ({_percent(e['facts_right']['mean'])})" for e in ends]
        lines.append((tool, *cells))
    return _markdown(("win rate (facts right)", *(f"{rate:g}" for rate in rates)), lines)


def _line(name: str, row: Record) -> Cells:
    last = _last(row)
    rates = [_spread(found["win_rate"]) for found in row["evaluations"].values()]
    extra = [f"{row[key]:g}" for key in _EXTRA.get(name, ())]
    tokens, stopped = last["tokens"]["mean"], last["stopped"]["mean"]
    return (row["name"], *extra, *rates, _spread(last["facts_right"]), f"{tokens:.1f}", _percent(stopped))


def real(lines: Iterable[Record]) -> str:
    """What each tool ends with at each rate, with Student's intervals over its seeds."""
    arms: dict[tuple[str, float], list[Record]] = {}
    for line in lines:
        job = line["settings"]
        arms.setdefault((job["tool"], job["learning_rate"]), []).append(line["measured"])
    written = [
        (tool, f"{rate:g}", *(shown(ends, column) for column in REAL_COLUMNS))
        for (tool, rate), ends in sorted(arms.items())
    ]
    return _markdown(("tool", "learning rate", *(HEADS[column] for column in REAL_COLUMNS)), written)


def _last(row: Record) -> Record:
    found: Record = list(row["evaluations"].values())[-1]
    return found


def _spread(value: Record) -> str:
    half = "" if value["half"] is None else f" ± {100 * value['half']:.1f}"
    return f"{100 * value['mean']:.1f}{half} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


_EXTRA = {"xpo": ("alpha",), "best rate": ("learning_rate",)}
"""Columns of some tables: fields of a row."""
TABLES = ("same rate", "sweep", "best rate", "differences", "xpo")
REAL_PARTS = {"real": real, "real origin": records.origin}
PARTS: dict[str, tuple[str, Callable[[Record], str]]] = {
    "losses": ("losses", losses),
    "setting": ("learning", setting),
    "same rate": ("learning", table("same rate")),
    "sweep": ("learning", sweep),
    "best rate": ("learning", table("best rate")),
    "differences": ("learning", table("differences", named="prefloop with")),
    "xpo": ("learning", table("xpo")),
}
