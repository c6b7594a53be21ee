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
    return joined(training_sets(config, tokenizer))


def training_sets(config: Config, tokenizer: Any) -> dict[str, PromptSet]:
    """The same, each set by its key path. Raises `UserError`."""
    if isinstance(config.prompts, PromptsConfig):
        return {"prompts": load_prompts(config.prompts, tokenizer)}
    return {key: _of_source(key, source, tokenizer) for key, source in config.sources.items()}


def evaluation_sets(config: Config, tokenizer: Any) -> dict[str, PromptSet]:
    """The prompts that `config` names for evaluations alone, each set by its key path. Raises `UserError`.

    They are read as the training prompts are. Prompts that belong to no source of a mixture have the defaults
    of one set.
    """
    path = config.evaluation.prompts
    if path is not None:
        one = config.prompts if isinstance(config.prompts, PromptsConfig) else PromptsConfig(path)
        return {"evaluation.prompts": load_prompts(evolve(one, path=path, limit=None), tokenizer)}
    return {
        (place := f"{key}.evaluation"): _of_source(
            place, evolve(source, path=source.evaluation, source=source.called, limit=None), tokenizer
        )
        for key, source in config.sources.items()
        if source.evaluation is not None
    }


def _of_source(key: str, config: SourceConfig, tokenizer: Any) -> PromptSet:
    """The prompts of one source, with its name.

    Where that was given, it is in front of their ids: two files may have the same name.
    """
    with said_of(key):
        found = load_prompts(config, tokenizer)
    before = f"{config.source}/" if config.source else ""
    named = (evolve(p, id=before + p.id, source=config.called) for p in found.prompts)
    return evolve(found, prompts=tuple(named))


def joined(sets: Mapping[str, PromptSet]) -> PromptSet:
    """Several sets as one, in their order."""
    every = list(sets.values())
    return PromptSet(
        prompts=tuple(prompt for one in every for prompt in one.prompts),
        dropped=sum(one.dropped for one in every),
        cut=sum(one.cut for one in every),
        source=", ".join(one.source for one in every),
        lengths=tuple(length for one in every for length in one.lengths),
    )


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
        with said_of("evaluation.prompts"):
            return prompts.prompts, load_evaluation_prompts(config, tokenizer).prompts
    given, weights = load_evaluation_prompts(config, tokenizer), weights_of(config)
    for source in {prompt.source for prompt in given.prompts}:
        del weights[source]
    if given.prompts and not weights:
        return prompts.prompts, given.prompts
    training, held_out = split_held_out(prompts.prompts, evaluation.held_out, config.training.seed, weights)
    return training, (*held_out, *given.prompts)


def load_evaluation_prompts(config: Config, tokenizer: Any) -> PromptSet:
    """The prompts that `config` names for evaluations alone; none where it names none. Raises `UserError`."""
    return joined(evaluation_sets(config, tokenizer))
