"""Each phase of prefloop's step against the least that its arithmetic takes on this machine."""

from __future__ import annotations

from typing import Any

from attrs import asdict
from benchmarks.speed import counting, pairing
from benchmarks.speed.processes import Workshop
from benchmarks.speed.rows import Row
from benchmarks.speed.versus import WARMUP

MOST_ROWS = 512
"""Products have their full rate with so many rows."""
ORDERS = {"fixed": 1, "both": 2}


def measure(row: Row, shop: Workshop, *, steps: int, orders: str = "fixed") -> dict[str, Any]:
    """Time a few steps, count their work and measure the machine, one right after the other."""
    job = {**row.job(0, steps, WARMUP), **shop.models(row), "orders": orders}
    result = shop.run("ours", job)
    question = result["questions"][0] / row.batch / ORDERS[orders]
    works = phases(row, round(question), kept(job["rubric"]), ORDERS[orders])
    wanted = [min(work.together, MOST_ROWS) for phase in works.values() for work in phase]
    weights = row.size.body + row.size.head
    rates = shop.run("rates", {"size": asdict(row.size), "weights": weights, "rows": wanted})
    measured = pairing.summary(result)["seconds"]
    return {
        "row": row.as_json(),
        "rates": {name: rates[name] for name in ("gigaflops", "gigabytes", "exp_nanoseconds")},
        "phases": {
            name: {"seconds": measured[name], **_least(phase, rates)} for name, phase in works.items()
        },
    }


def phases(row: Row, question: int, prefix: int, orders: int) -> dict[str, list[counting.Work]]:
    """The work of each phase, in parts that pass through the weights with different numbers of tokens."""
    return {
        "sampling": list(counting.sampling(row)),
        "judging": [counting.judging(row, question, prefix, orders)],
        "scoring": [counting.scoring(row)],
    }


def kept(rubric: str) -> int:
    """Tokens at a question's beginning that all questions share: the rubric's turn and two words more."""
    return len(rubric.split()) + 4


def _least(works: list[counting.Work], rates: dict[str, Any]) -> dict[str, float]:
    products, exponentials = 0.0, 0.0
    for work in works:
        gigaflops = rates["gigaflops"][str(min(work.together, MOST_ROWS))]
        least = work.seconds(gigaflops, rates["gigabytes"], min(rates["exp_nanoseconds"].values()))
        products += least[0]
        exponentials += least[1]
    return {
        "gigaflop": sum(work.operations for work in works) / 1e9,
        "products": products,
        "exponentials": exponentials,
    }
