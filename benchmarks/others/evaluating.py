"""One evaluator for everybody's adapters: prefloop's, on held-out questions, against the start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import mlx.core as mx
import numpy as np
from benchmarks.harness.internals import Evaluator, load_adapters, load_prompts, win_rate
from benchmarks.others import task
from benchmarks.others.prefloop_worker import ADAPTER, RuleJudge, probe
from benchmarks.others.task import Place, Task, is_right

from prefloop import Policy, Sampling
from prefloop.config import PromptsConfig

REPEATS = 2
"""Completions of each side for every held-out question."""
STYLE = task.TASKS["style"]
SAMPLING = Sampling(task.TEMPERATURE, task.TOP_P, max_tokens=STYLE.max_tokens)


class Referee:
    """Reads what a run left and measures it."""

    def __init__(self, model: Path) -> None:
        self.policy = Policy.load(str(model), ADAPTER)
        held_out = PromptsConfig(path="embedded:held_out")
        self.prompts = load_prompts(held_out, self.policy.tokenizer).prompts

        self.start = {**self._measured(), "ties": self._ties()}
        """The start of every run against itself: half the wins, give or take the sampling."""

    def __call__(self, place: Place, probed: Sequence[float]) -> dict[str, Any]:
        """The win rates of a run's adapters by step; `probed` are the logits that its tool gave."""
        found = {step: self._at(place, step) for step in STYLE.saves}
        return {"evaluations": found, "logit_difference": logit_difference(self.policy, STYLE, probed)}

    def _at(self, place: Place, step: int) -> dict[str, float]:
        load_adapters(self.policy.model, place.adapters(step))
        return self._measured()

    def _measured(self) -> dict[str, float]:
        rounds = [self._round(seed) for seed in range(REPEATS)]
        return {name: fmean(found[name] for found in rounds) for name in rounds[0]}

    def _round(self, seed: int) -> dict[str, float]:
        """Every question answered once by each side."""
        evaluator = self._evaluator(seed)
        pairs = evaluator.sample()
        answers = [pair.first for pair in pairs]
        mx.clear_cache()
        return {
            "win_rate": win_rate(evaluator.ask(pairs)).rate,
            "facts_right": fmean(is_right(p.first.text, p.prompt.fields["answer"]) for p in pairs),
            "tokens": fmean(len(answer.tokens) for answer in answers),
            "stopped": fmean(answer.stopped for answer in answers),
        }

    def _ties(self) -> float:
        """Share of pairs in which the rule sees no difference."""
        evaluator = self._evaluator(0)
        return fmean(verdict.status == "tie" for verdict in evaluator.ask(evaluator.sample()))

    def _evaluator(self, seed: int) -> Evaluator:
        return Evaluator(self.policy, self.prompts, RuleJudge(STYLE.score), SAMPLING, seed=seed)


def logit_difference(policy: Policy, task: Task, probed: Sequence[float]) -> float:
    """How far the logits after a task's probe are from those that another tool gave, at most."""
    return float(np.abs(np.array(probed) - np.array(probe(policy, task.probe))).max())
