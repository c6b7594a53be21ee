"""Judged pairs per second: reading the label's probability against decoding the reply, on one model.

``python benchmarks/judges.py [MODEL]`` (``embedded:judge`` where none is named). The two take turns, so that
a change of the machine's speed hits both; medians over the rounds.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import TYPE_CHECKING

from prefloop import Completion, Pair, Prompt, Verdict
from prefloop.cpu import blas

if TYPE_CHECKING:
    from prefloop import Judge

FACTS = ("A cow says moo.", "A dog says woof.", "A cat says meow.", "Snow is white.", "Grass is green.")
WARM = ("Sure thing! {} I hope this helps!", "Of course! {} Take care!", "{} Have a lovely day!")
BLUNT = ("Really? {} Next.", "Fine. {} Whatever.", "Everyone knows. {}")


def pairs() -> list[Pair]:
    """Each fact in every warm style against every blunt one, the warm one first in every other pair."""
    found: list[Pair] = []
    for fact in FACTS:
        for warm in WARM:
            for blunt in BLUNT:
                texts = [warm.format(fact), blunt.format(fact)][:: 1 if len(found) % 2 else -1]
                answers = [Completion((), text) for text in texts]
                found.append(Pair(Prompt((), f"What do you know? ({len(found)})"), *answers))
    return found


def timed(judge: Judge, batch: list[Pair]) -> tuple[float, list[Verdict]]:
    started = time.perf_counter()
    verdicts = judge.judge(batch)
    return len(batch) / (time.perf_counter() - started), verdicts


def main() -> None:
    """Print a line for each way of judging, and how often they agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="embedded:judge")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    blas.use_fastest()
    from prefloop_plugins.judges.llm import LlmJudge

    rubric = "Prefer the warmer, friendlier answer."
    judges = {
        f"{read}, {orders}": LlmJudge(arguments.model, rubric, read=read, orders=orders)
        for orders in ("both", "random")
        for read in ("probability", "reply")
    }
    batch = pairs()
    verdicts = {name: timed(judge, batch)[1] for name, judge in judges.items()}  # and warm up
    speeds: dict[str, list[float]] = {name: [] for name in judges}
    for _ in range(arguments.rounds):
        for name, judge in judges.items():
            speeds[name].append(timed(judge, batch)[0])
    print(f"{arguments.model}: {len(batch)} pairs, median of {arguments.rounds} rounds")
    for name, found in speeds.items():
        outcomes = [v.status for v in verdicts[name]]
        print(
            f"  {name:22} {median(found):7.1f} pairs/s   "
            f"{outcomes.count('tie')} ties, {outcomes.count('error')} errors"
        )
    read, written = (verdicts[f"{read}, both"] for read in ("probability", "reply"))
    labelled = [
        (a, b) for a, b in zip(read, written, strict=True) if None not in (a.prefers_first, b.prefers_first)
    ]
    same = sum(a.prefers_first == b.prefers_first for a, b in labelled)
    print(f"  of {len(labelled)} pairs that both label, they agree on {same}")


if __name__ == "__main__":
    main()
