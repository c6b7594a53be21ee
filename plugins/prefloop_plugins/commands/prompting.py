"""What is to be known of a run's prompts before it begins: how many, how long, which of them come twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from attrs import asdict, frozen

from prefloop.beginning import beginning, begun
from prefloop.config import Config, PromptsConfig, load_config
from prefloop.embedded import resolve
from prefloop.errors import UserError
from prefloop.model.loading import load_tokenizer
from prefloop.prompts.loading import PromptSet
from prefloop.runs.sources import evaluation_sets, held_out_of, joined, training_sets
from prefloop.types import Prompt

BARS = 8
"""Stretches of a histogram of lengths."""
Key = Callable[[Prompt], Hashable]


@frozen
class Bar:
    """How many prompts have from `least` to `most` tokens."""

    least: int
    most: int
    count: int


@frozen
class Lengths:
    """The lengths of a set's prompts in tokens, those that are left out too."""

    least: int
    median: float
    p95: int
    most: int
    limit: int
    """``max_length``."""
    histogram: tuple[Bar, ...]


@frozen
class Some:
    """Prompts of a kind: how many, and the ids of some; of copies, those of the most frequent one."""

    count: int
    ids: tuple[str, ...]


@frozen
class Part:
    """One set of prompts: a source, or what evaluations read by themselves."""

    key: str
    """Its key path in a configuration."""
    name: str
    path: str
    prompts: int
    dropped: int
    cut: int
    lengths: Lengths
    copies: Some
    """Equal as the model reads them."""
    near_copies: Some
    """Equal but for capitals and white space."""
    special: Some
    """Those with a special token in their own text, such as one that ends a turn; the ids of the first."""


@frozen
class Leaks:
    """Prompts of evaluations that are trained on as well: how many, and some, each with a training prompt."""

    count: int
    examples: tuple[tuple[str, str], ...]


@frozen
class Shown:
    """A prompt as the model reads it, special tokens included."""

    id: str
    tokens: int
    text: str


@frozen
class Found:
    """Everything that is shown."""

    what: str
    model: str
    parts: tuple[Part, ...]
    training: int
    evaluating: int
    leaks: Leaks
    near_leaks: Leaks
    first: tuple[Shown, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def read(what: str, *, model: str | None, overrides: Sequence[str], first: int) -> Found:
    """The prompts of a data set, or of a run's configuration. Raises `UserError` as the run would."""
    config = _config(what, model, overrides)
    with begun(beginning()):
        remote = config.model.trust_remote_code
        tokenizer = load_tokenizer(config.model.path, trust_remote_code=remote)
        sets = training_sets(config, tokenizer)
        training, evaluating = held_out_of(config, tokenizer, joined(sets))
        parts = sets | evaluation_sets(config, tokenizer)
    return Found(
        what=what,
        model=config.model.path,
        parts=tuple(_part(key, found, _limit(config, key), tokenizer) for key, found in parts.items()),
        training=len(training),
        evaluating=len(evaluating),
        leaks=_leaks(training, evaluating, as_read),
        near_leaks=_leaks(training, evaluating, as_text),
        first=tuple(_shown(prompt, tokenizer) for prompt in _some_of_each(sets, first)),
    )


def _config(what: str, model: str | None, overrides: Sequence[str]) -> Config:
    if Path(resolve(what)).suffix.lower() in (".yaml", ".yml"):
        if model is not None:
            raise UserError(f"--model: the configuration names one. Change it by --set model.path={model}.")
        return load_config(resolve(what), overrides)
    settings: Mapping[str, Any] = {
        "model": {"path": model or "embedded:policy"},
        "prompts": {"path": what},
        "judge": {"use": "rule", "length": "shorter"},  # a configuration has one; it is not asked
        "evaluation": {"held_out": 0},
    }
    return load_config(settings, overrides)


def _limit(config: Config, key: str) -> int:
    """The longest prompt that a set may have."""
    if isinstance(config.prompts, PromptsConfig):
        return config.prompts.max_length
    return config.sources[key.removesuffix(".evaluation")].max_length


def as_read(prompt: Prompt) -> Hashable:
    """Equal for prompts that the model cannot tell apart."""
    return prompt.tokens


def as_text(prompt: Prompt) -> Hashable:
    """Equal for prompts that differ only in capitals and white space."""
    return " ".join(prompt.text.casefold().split())


def _part(key: str, found: PromptSet, limit: int, tokenizer: Any) -> Part:
    names = tuple(tokenizer.get_added_vocab())
    special = [p.id for p in found.prompts if any(name in m["content"] for name in names for m in p.messages)]
    return Part(
        key=key,
        name=found.prompts[0].source or found.source,
        path=found.source,
        prompts=len(found.prompts),
        dropped=found.dropped,
        cut=found.cut,
        lengths=_lengths(sorted(found.lengths), limit),
        copies=_copies(found.prompts, as_read),
        near_copies=_copies(found.prompts, as_text),
        special=Some(len(special), tuple(special[:3])),
    )


def _lengths(ordered: Sequence[int], limit: int) -> Lengths:
    least, most = ordered[0], ordered[-1]
    width = -(-(most - least + 1) // BARS)
    spans = ((start, start + width - 1) for start in range(least, most + 1, width))
    bars = (Bar(low, high, sum(low <= length <= high for length in ordered)) for low, high in spans)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return Lengths(least, median(ordered), p95, most, limit, tuple(bars))


def _copies(prompts: Sequence[Prompt], key: Key) -> Some:
    groups: dict[Hashable, list[str]] = {}
    for prompt in prompts:
        groups.setdefault(key(prompt), []).append(prompt.id)
    largest = max(groups.values(), key=len)
    return Some(len(prompts) - len(groups), tuple(largest) if len(largest) > 1 else ())


def _leaks(training: Sequence[Prompt], evaluating: Sequence[Prompt], key: Key) -> Leaks:
    trained: dict[Hashable, str] = {}
    for prompt in training:
        trained.setdefault(key(prompt), prompt.id)
    found = [(prompt.id, trained[key(prompt)]) for prompt in evaluating if key(prompt) in trained]
    return Leaks(len(found), tuple(found[:3]))


def _some_of_each(sets: Mapping[str, PromptSet], count: int) -> list[Prompt]:
    """The first prompts of every source."""
    return [prompt for found in sets.values() for prompt in found.prompts[:count]]


def _shown(prompt: Prompt, tokenizer: Any) -> Shown:
    return Shown(prompt.id, len(prompt.tokens), tokenizer.decode(list(prompt.tokens)))
