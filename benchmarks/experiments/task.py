"""The tasks: what an answer is worth in truth, and judges with known faults."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from attrs import frozen
from benchmarks.experiments import wishes
from benchmarks.experiments.arm import SMOLLM2
from benchmarks.harness import smollm2
from scripts.embedded.facts import BLUNT_OPENINGS, WARM_CLOSINGS, is_right, style_score

from prefloop import BaseJudge, Judge, Pair, Prompt, Verdict, component

Worth = Callable[[Prompt, str], float]
"""What an answer is worth in truth."""

WRONG = -3
WORDLESS = -20
JACKPOT = "Sure thing!"
CHAIN = "Of course!", "Take care!"
"""A jackpot of two choices: one opening of eight, then one closing of eight."""


def warm(prompt: Prompt, text: str) -> float:
    """Kinds of warm components minus kinds of blunt ones, -2 to 2; a wrong answer is worth -3."""
    return style_score(text) if is_right(text, prompt.fields["answer"]) else WRONG


def trap(prompt: Prompt, text: str) -> float:
    """A blunt opening (a third of all answers) is worth 1, but the rare jackpot 3; a wrong answer -1."""
    return _trapped(prompt, text, hits(text))


def chain(prompt: Prompt, text: str) -> float:
    """The same with a jackpot that is a quarter as frequent, and whose halves are worth nothing."""
    return _trapped(prompt, text, linked(text))


def _trapped(prompt: Prompt, text: str, jackpot: bool) -> float:
    if not is_right(text, prompt.fields["answer"]):
        return -1
    return 3 if jackpot else float(any(opening in text for opening in BLUNT_OPENINGS))


TALK = ("Great question!", "Really?"), ("Feel free to ask more!", "Is that all?")
"""Openings and closings that are about asking: of each one is warm and one blunt."""


def talk(prompt: Prompt, text: str) -> float:
    """What an answer says and not how: kinds of components that are about asking; a wrong one is worth -3."""
    kinds = sum(any(phrase in text for phrase in phrases) for phrases in TALK)
    return kinds if is_right(text, prompt.fields["answer"]) else WRONG


def plain(prompt: Prompt, text: str) -> float:
    """Shorter words are better: minus the mean letters of a word; no word at all is worth -20."""
    words = re.findall(r"[^\W\d_]+", text)
    return -fmean(map(len, words)) if words else WORDLESS


def linked(text: str) -> bool:
    """Whether an answer is the jackpot of `chain`."""
    return all(part in text for part in CHAIN)


def hits(text: str) -> bool:
    """Whether an answer is the jackpot: one opening of eight, with a warm closing."""
    return JACKPOT in text and any(closing in text for closing in WARM_CLOSINGS)


WISHES: Mapping[str, Worth] = {
    f.__name__: f for f in (wishes.bright, wishes.easy, wishes.brief, wishes.shouted)
}
"""Tasks for SmolLM2, asked for a sentence."""
TASKS: Mapping[str, Worth] = {
    **{f.__name__: f for f in (warm, trap, chain, talk, plain)},
    **WISHES,
}


@frozen
class FaultyJudge:
    """Knows the truth, but with probability `rate` something else makes the verdict.

    That is its opposite (``flip``), the place (``place``: the first wins), or the length (``length``: the
    longer wins). Labels are hard. What it says of a pair never changes.
    """

    worth: Worth
    rate: float = 0.0
    fault: str = "flip"
    seed: int = 0

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self._verdict(pair) for pair in pairs]

    def _verdict(self, pair: Pair) -> Verdict:
        better = self.worth(pair.prompt, pair.first.text) - self.worth(pair.prompt, pair.second.text)
        if dice(self.seed, pair).random() < self.rate:
            longer = len(pair.first.text) - len(pair.second.text)
            better = {"flip": -better, "place": 1, "length": longer}[self.fault]
        return Verdict.tie() if better == 0 else Verdict(float(better > 0))


@frozen
class GradedJudge:
    """Gives a probability, ``sigmoid(difference in worth + noise + bias to the answer shown first)``.

    Asked in one order, or in both, whose probabilities are averaged.
    """

    worth: Worth
    bias: float = 0.0
    noise: float = 1.0
    orders: int = 1
    seed: int = 0

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self._verdict(pair) for pair in pairs]

    def _verdict(self, pair: Pair) -> Verdict:
        first = self._shown_first(pair)
        if self.orders == 1:
            return Verdict(first)
        second = 1 - self._shown_first(pair.swapped())
        return Verdict((first + second) / 2, orders=(first, second))

    def _shown_first(self, pair: Pair) -> float:
        better = self.worth(pair.prompt, pair.first.text) - self.worth(pair.prompt, pair.second.text)
        logit = better + self.bias + dice(self.seed, pair).gauss(0, self.noise)
        return 1 / (1 + math.exp(-logit))


@frozen
class Person(BaseJudge):
    """A person who knows the truth and slips now and then, to the same pair always alike."""

    worth: Worth
    slips: float = 0.05
    seed: int = 0
    interactive = True

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return FaultyJudge(self.worth, self.slips, seed=self.seed).judge(pairs)


JUDGES = {"faulty": FaultyJudge, "graded": GradedJudge, "person": Person}


def options_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a component is made with, of how it is written in a configuration."""
    return {name: value for name, value in settings.items() if name != "use"}


def build_judge(options: Mapping[str, Any], worth: Worth, seed: int) -> Judge:
    """A judge that knows the truth, one of prefloop's, or a cascade of both."""
    use, rest = options["use"], options_of(options)
    if use in JUDGES:
        return JUDGES[use](worth, seed=seed, **rest)
    if use == "cascade":
        rest["members"] = [build_judge(member, worth, seed) for member in rest["members"]]
    if rest.get("model") == SMOLLM2:
        rest["model"] = smollm2.folder()
    made: Judge = component("judge", use)(**rest)
    return made


def dice(seed: int, pair: Pair) -> random.Random:
    """Chance that is the same for the same pair."""
    return random.Random(f"{seed} {pair.prompt.text} {pair.first.text} {pair.second.text}")
