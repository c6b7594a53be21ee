"""The prompts of a run: one set or a mixture of several, those to train on and those to evaluate on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from prefloop.config import Config, PromptsConfig, SourceConfig
from prefloop.errors import said_of
from prefloop.prompts.loading import PromptSet, load_prompts
from prefloop.prompts.order import split_held_out
from prefloop.runs.judges import judges_of
from prefloop.types import Prompt


def load_training(config: Config, tokenizer: Any) -> PromptSet:
    """The prompts that `config` names, those that will be held out among them. Raises `UserError`."""
    if isinstance(config.prompts, PromptsConfig):
        return load_prompts(config.prompts, tokenizer)
    return load_mixture(config.sources, tokenizer)


def weights_of(config: Config) -> dict[str, float]:
    """How often each source of a mixture is drawn."""
    return {source.called: source.weight for source in config.sources.values()}


def held_out_of(
    config: Config, tokenizer: Any, prompts: PromptSet
) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Training prompts and held-out ones; none are held out where nothing would evaluate them."""
    evaluation = config.evaluation
    if not judges_of(config):
        return prompts.prompts, ()
    if evaluation.prompts:
        return prompts.prompts, load_evaluation_prompts(config, tokenizer).prompts
    given, weights = load_evaluation_prompts(config, tokenizer), weights_of(config)
    for source in {prompt.source for prompt in given.prompts}:
        del weights[source]
    if given.prompts and not weights:
        return prompts.prompts, given.prompts
    training, held_out = split_held_out(prompts.prompts, evaluation.held_out, config.training.seed, weights)
    return training, (*held_out, *given.prompts)


def load_evaluation_prompts(config: Config, tokenizer: Any) -> PromptSet:
    """The prompts that `config` names for evaluations alone, those of a mixture by their sources.

    They are read as the training prompts are. Prompts that belong to no source of a mixture have the defaults
    of one set. Raises `UserError`.
    """
    path = config.evaluation.prompts
    if path is not None:
        one = config.prompts if isinstance(config.prompts, PromptsConfig) else PromptsConfig(path)
        with said_of("evaluation.prompts"):
            return load_prompts(evolve(one, path=path, limit=None), tokenizer)
    own = {
        f"{key}.evaluation": evolve(source, path=source.evaluation, source=source.called, limit=None)
        for key, source in config.sources.items()
        if source.evaluation is not None
    }
    return load_mixture(own, tokenizer)


def load_mixture(sources: Mapping[str, SourceConfig], tokenizer: Any) -> PromptSet:
    """The prompts of several sources, given by key path, as one set, in their order.

    Each prompt has its source's name, and its id too where that name was given: two files may have the same.
    Raises `UserError` as `load_prompts` does, with the key path in front.
    """
    prompts: list[Prompt] = []
    sets: list[PromptSet] = []
    for key, config in sources.items():
        with said_of(key):
            sets.append(load_prompts(config, tokenizer))
        before = f"{config.source}/" if config.source else ""
        prompts += (evolve(p, id=before + p.id, source=config.called) for p in sets[-1].prompts)
    dropped, cut = sum(s.dropped for s in sets), sum(s.cut for s in sets)
    return PromptSet(tuple(prompts), dropped, cut, ", ".join(s.source for s in sets))
