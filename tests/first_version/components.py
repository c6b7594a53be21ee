"""The components. Frozen: see ``__init__.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import evolve, field, frozen
from attrs.validators import gt

from prefloop import Completion, Observer, Pair, Progress, Prompt, Sampling, Scores, Step, UserError, Verdict

if TYPE_CHECKING:
    import mlx.core as mx

    from prefloop import Evaluation, Policy, Run


@frozen
class Redrawn:
    """One completion from the policy and one from the reference, each made anew from its parts."""

    reference_samples: ClassVar[bool] = True

    tokens: int = field(default=12, validator=gt(0), metadata={"help": "A completion is cut after so many."})

    @property
    def sampling(self) -> Sampling:
        return Sampling(0.9, 0.95, 0, 0.0, self.tokens)

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        if not 1 <= progress.step <= progress.steps or progress.epoch > progress.epochs:
            raise UserError(f"step {progress.step} of {progress.steps} is no step")
        warm = Sampling(temperature=1.0, max_tokens=self.tokens)
        ours = policy.generate(prompts, self.sampling, seed=progress.seed)
        theirs = policy.generate(prompts, warm, seed=progress.seed + 1, source="reference")
        firsts = [Completion(c.tokens, c.text, c.stopped, c.source) for c in ours]
        seconds = [
            Completion(tokens=c.tokens, text=c.text, stopped=c.stopped, source=c.source) for c in theirs
        ]
        again = [Prompt(p.tokens, p.text, p.messages, p.id, p.fields) for p in prompts]
        return [Pair(prompt=p, first=a, second=b) for p, a, b in zip(again, firsts, seconds, strict=True)]


@frozen
class Vowels:
    """Prefers the answer with the larger share of vowels; asks itself in both orders."""

    symmetric: ClassVar[bool] = True

    temperature: float = field(default=0.05, validator=gt(0), metadata={"help": "How sure a share makes it."})

    def prepare(self) -> None:
        if self.temperature > 1:
            raise UserError("a temperature above 1 says nothing")

    def close(self) -> None:
        pass

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self._one(pair) for pair in pairs]

    def _one(self, pair: Pair) -> Verdict:
        if not pair.first.text and not pair.second.text:
            return Verdict.abstain("two empty answers")
        shares = self._share(pair.first.text), self._share(pair.second.text)
        if shares[0] == shares[1]:
            return Verdict(0.5, "tie", "as many vowels")
        sure = Verdict.from_scores(*shares, temperature=self.temperature)
        if sure.prefers_first is None:
            return Verdict.tie("as good as equal", orders=(0.5, 0.5))
        made = Verdict(probability=sure.probability, status="ok", reason=None, orders=(sure.probability,) * 2)
        return made if made.gap == 0 else Verdict.error("two orders, two minds")

    def _share(self, text: str) -> float:
        return sum(text.count(vowel) for vowel in "aeiou") / max(1, len(text))


@frozen
class Squared:
    """``(1 - beta d)^2``, by the margin that the scores have."""

    beta: float = field(default=0.5, metadata={"help": "Scale of the margin."})

    def __call__(self, scores: Scores) -> mx.array:
        return (1 - self.beta * scores.margin) ** 2


@frozen
class Likely:
    """Adds up every score that a bonus may ask for."""

    needs = frozenset({"reference", "kl", "per_token", "reference_samples"})

    alpha: float = field(default=1e-3, metadata={"help": "Weight of the bonus."})

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        swapped = evolve(scores, policy_chosen=scores.policy_rejected, policy_rejected=scores.policy_chosen)
        mean = (scores.policy_chosen + swapped.policy_chosen) / (
            scores.chosen_tokens + scores.rejected_tokens
        )
        per_token = (scores.chosen_per_token.policy * scores.chosen_per_token.mask).sum(-1)
        drawn = scores.chosen_from_reference + scores.rejected_from_reference
        fade = 1 - progress.epoch / progress.epochs
        kl = scores.kl_chosen + scores.kl_rejected
        return self.alpha * fade * (mean + per_token + kl + drawn) * scores.probability


@frozen
class Doubled:
    """The four of them together."""

    alpha: float = field(default=1e-3, metadata={"help": "Weight of the bonus."})

    def settings(self) -> Mapping[str, Any]:
        return {
            "sampler": {"use": "redrawn", "tokens": 10},
            "judge": "vowels",
            "loss": "squared",
            "bonuses": [{"use": "likely", "alpha": self.alpha}],
        }


@frozen
class Diary(Observer):
    """Writes down every event, with something of each record."""

    path: str = field(default="diary.jsonl", metadata={"help": "File of the diary."})

    def _write(self, event: str, value: Any) -> None:
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(json.dumps([event, value]) + "\n")

    def run_started(self, run: Run) -> None:
        self._write("run_started", run.path.name)

    def pairs_judged(self, progress: Progress, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self._write("pairs_judged", [progress.step, len(pairs), [v.outcome for v in verdicts]])

    def step_finished(self, step: Step) -> None:
        made = Step(step.progress, step.metrics, step.pairs, step.verdicts)
        self._write("step_finished", [made.progress.step, round(made.metrics["loss"], 4)])

    def evaluated(self, evaluation: Evaluation) -> None:
        rate = evaluation.win_rate
        self._write("evaluated", [evaluation.step, rate.low <= rate.rate <= rate.high, rate.pairs])

    def checkpoint_saved(self, step: int, path: str) -> None:
        self._write("checkpoint_saved", step)

    def run_finished(self, run: Run) -> None:
        self._write("run_finished", run.status)


@frozen
class Ear:
    """A plain object with one method."""

    def step_finished(self, step: Step) -> None:
        assert step.progress.step >= 1
