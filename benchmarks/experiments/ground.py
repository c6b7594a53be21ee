"""The grounds: a model, what it is asked, how its answers are drawn, and what is measured of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from attrs import evolve, field, frozen
from benchmarks.experiments import damage, wishes
from benchmarks.experiments.arm import Options
from benchmarks.experiments.task import WISHES, hits, linked
from benchmarks.harness import smollm2
from benchmarks.harness.internals import distinct, load_prompts
from benchmarks.speed import english
from scripts.embedded.facts import is_right, style_score

from prefloop import Completion, Policy, Prompt, Sampling
from prefloop.config import AdapterConfig, PromptsConfig

Answers = Sequence[tuple[Prompt, Completion]]
Measure = Callable[[Policy, Answers], float]
REQUESTED, HELD_OUT = 96, 32
"""Prompts for the pretrained model, and how many of them are kept for evaluation."""
FEW_HELD_OUT = 32
"""The same of those that ask for a sentence."""


@frozen(eq=False)
class Ground:
    """Where an experiment takes place. `path` makes the model's folder, where it has to be made."""

    path: Callable[[], str]
    prompts: Callable[[Policy], Sequence[Prompt]]
    """What the policy is trained on."""
    held_out: Callable[[Policy], Sequence[Prompt]]
    """What it is measured on."""
    sampling: Sampling
    starts: int
    """Answers of the start to each held-out prompt."""
    measures: Mapping[str, Measure]
    """What is measured besides the worth of the answers."""
    _start: list[list[Completion]] = field(factory=list, init=False)

    def load(self, seed: int = 0, adapter: Options | None = None) -> Policy:
        """The model, with options of what is trained."""
        return Policy.load(self.path(), AdapterConfig(**(adapter or {})), seed=seed)

    def start_answers(self) -> list[list[Completion]]:
        """The answers of the policy before any training, `starts` lists, drawn once in a process."""
        if not self._start:
            policy = self.load()
            self._start.extend(self.draw(policy, self.held_out(policy), self.starts, 2**40))
        return self._start

    def draw(
        self, policy: Policy, prompts: Sequence[Prompt], times: int, seed: int
    ) -> list[list[Completion]]:
        """So many lists of answers, each in the order of the prompts."""
        drawn = policy.generate([*prompts] * times, self.sampling, seed=seed)
        return [drawn[i : i + len(prompts)] for i in range(0, len(drawn), len(prompts))]


def _mean(of: Callable[[Prompt, str], float]) -> Measure:
    return lambda _, answers: fmean(of(prompt, completion.text) for prompt, completion in answers)


def _variety(policy: Policy, answers: Answers) -> float:
    return float(distinct((completion for _, completion in answers), 2))


def _embedded(name: str) -> Callable[[Policy], Sequence[Prompt]]:
    return lambda policy: load_prompts(PromptsConfig(path=f"embedded:{name}"), policy.tokenizer).prompts


def _requests(part: slice) -> Callable[[Policy], Sequence[Prompt]]:
    """The same prompts for every seed."""
    return lambda policy: [policy.encode(text) for text in english.prompts(REQUESTED, seed=0)[part]]


def _one_sentence(part: slice) -> Callable[[Policy], Sequence[Prompt]]:
    """The same prompts for every seed, in an order that mixes what is asked and about what."""
    return lambda policy: [policy.encode(text) for text in english.one_sentence()[part]]


LENGTH = _mean(lambda prompt, text: len(text))
QUESTIONS = Ground(
    path=lambda: "embedded:policy",
    prompts=_embedded("prompts"),
    held_out=_embedded("held_out"),
    sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=24),
    starts=8,
    measures={
        "accuracy": _mean(lambda prompt, text: is_right(text, prompt.fields["answer"])),
        "style": _mean(lambda prompt, text: style_score(text)),
        "jackpots": _mean(lambda prompt, text: hits(text)),
        "chains": _mean(lambda prompt, text: linked(text)),
        "length": LENGTH,
    },
)
"""The embedded model, asked for facts."""
REQUESTS = Ground(
    path=smollm2.folder,
    prompts=_requests(slice(REQUESTED - HELD_OUT)),
    held_out=_requests(slice(REQUESTED - HELD_OUT, None)),
    sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=16),
    starts=4,
    measures={
        "variety": _variety,
        "length": LENGTH,
    },
)
"""SmolLM2-135M-Instruct, asked for what people might ask for."""
SENTENCES = Ground(
    path=smollm2.folder,
    prompts=_one_sentence(slice(FEW_HELD_OUT, None)),
    held_out=_one_sentence(slice(FEW_HELD_OUT)),
    sampling=Sampling(temperature=0.8, top_p=1.0, max_tokens=20),
    starts=4,
    measures={
        "bright": _mean(wishes.bright),
        "cheerful": _mean(wishes.cheerful),
        "easy": _mean(wishes.easy),
        "words": _mean(lambda prompt, text: len(text.split())),
        "finished": _mean(lambda prompt, text: wishes.is_finished(text)),
        "shouts": _mean(lambda prompt, text: "!" in text),
        "variety": _variety,
        "nats": lambda policy, answers: damage.nats_from_start(policy, answers[:FEW_HELD_OUT]),
        "perplexity": lambda policy, _: damage.perplexity(policy),
        "facts": lambda policy, _: damage.facts_known(policy),
    },
)
"""SmolLM2-135M-Instruct, asked for a sentence."""


FOUR_BITS = evolve(SENTENCES, path=lambda: smollm2.unpacked_folder(4))
"""The same with a base of 4 bits, in groups of 64 weights, as mlx-lm quantizes by default."""


def ground_of(task: str, bits: int = 0) -> Ground:
    sentences = {0: SENTENCES, 4: FOUR_BITS}[bits]
    return {"plain": REQUESTS, **dict.fromkeys(WISHES, sentences)}.get(task, QUESTIONS)
