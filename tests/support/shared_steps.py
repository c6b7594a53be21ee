"""What each rank of `tests/test_ranks.py` does: the steps of several loops, as JSON in a file of its own.

Started as ``python -m support.shared_steps FOLDER SCENARIO …``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from prefloop import Loop, Pair, Policy, StopRun, UserError, Verdict, component
from prefloop.config import AdapterConfig, TrainingConfig
from prefloop.ranks.group import Ranks, joined
from prefloop.settings import OptimizerConfig

STEPS = 20
ANIMALS = ("cow", "dog", "cat", "duck", "pig", "hen", "bee", "owl", "frog", "fox")
QUESTIONS = [f"What does a {animal} say?" for animal in ANIMALS]
PLAIN = {"batch_size": 4, "iters": STEPS, "learning_rate": 0.1, "optimizer": OptimizerConfig("sgd")}


@frozen
class Undecided:
    """Prefers the larger token ids. Some pairs are ties, and about some it does not say anything."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self._of(pair) for pair in pairs]

    def _of(self, pair: Pair) -> Verdict:
        kind = (sum(pair.first.tokens) + sum(pair.second.tokens)) % 5
        if kind < 2:
            return (Verdict.tie(), Verdict.abstain("no"))[kind]
        return Verdict(0.8 if pair.first.tokens > pair.second.tokens else 0.3)


@frozen
class Failing(Undecided):
    """Stops, on one rank alone, at the pairs of one step."""

    rank: int
    calls: list[int]

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.calls.append(len(pairs))
        if joined().rank == self.rank and len(self.calls) == 3:
            raise StopRun("enough of it", failed=True)
        return super().judge(pairs)


def scenario(name: str, ranks: Ranks) -> Loop:
    """A loop that is shared. The same one for one rank and for several."""
    options: dict[str, Any] = {"judge": Undecided(), "ranks": ranks}
    training: dict[str, Any] = dict(PLAIN)
    sampler = "policy"
    if name == "xpo":
        sampler = "policy-reference"
        options |= {"bonuses": [component("bonus", "optimism")(alpha=1e-2)]}
    if name == "rollout":
        training |= {"rollout": 4}
    if name == "accumulation":
        training |= {"batch_size": 2, "gradient_accumulation": 3}
    if name == "ties":
        options |= {"ties": "half"}
    if name == "single":  # a rank has no prompt
        training |= {"batch_size": 1}
    if name == "failing":
        options["judge"] = Failing(ranks.size - 1, [])
    policy = Policy.load("embedded:policy", AdapterConfig(rank=2, layers=2))
    prompts = [policy.encode(question) for question in QUESTIONS]
    if name == "mixture":
        prompts = [evolve(p, source="ab"[i % 3 == 0]) for i, p in enumerate(prompts)]
        options |= {"weights": {"a": 1.0, "b": 2.0}}
    drawn = component("sampler", sampler)(max_completion_length=6, temperature=1.0, top_p=0.95)
    return Loop(policy, prompts, sampler=drawn, training=TrainingConfig(**training), **options)


def outcome(loop: Loop) -> dict[str, Any]:
    """What the steps were made of, and what they came to."""
    steps = []
    end = ""
    try:
        with loop.ranks.ending_together():
            for step in loop:
                steps.append(
                    {
                        "prompts": [pair.prompt.text for pair in step.pairs],
                        "tokens": [[pair.first.tokens, pair.second.tokens] for pair in step.pairs],
                        "verdicts": [[v.probability, v.status] for v in step.verdicts],
                        "loss": step.metrics.get("loss", 0.0),
                        "labelled": step.metrics["labelled"],
                    }
                )
    except (StopRun, UserError) as error:
        end = str(error)
    trained = {name: value.tolist() for name, value in loop.policy.trainable().items()}
    return {"steps": steps, "end": end, "taken": loop.steps_taken, "trained": trained}


def main(folder: str, *names: str) -> None:
    for name in names:
        ranks = joined()
        file = Path(folder) / f"{name}-{ranks.rank}-of-{ranks.size}.json"
        file.write_text(json.dumps(outcome(scenario(name, ranks))))


if __name__ == "__main__":
    main(*sys.argv[1:])
