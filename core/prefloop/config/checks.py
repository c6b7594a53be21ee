"""What must hold between settings, which no single field can check."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, get_args

from prefloop.components import BaseBonus, BaseLoss, BaseSampler, adapt
from prefloop.config.dump import origin_of
from prefloop.config.tree import Node, Problem
from prefloop.errors import UserError
from prefloop.registry import BUNDLED, Registry
from prefloop.types import Need

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefloop.config.schema import Config


def cross_checks(config: Config, root: Node, registry: Registry) -> list[Problem]:
    """One problem for each pair of settings that do not go together. `registry` is asked for remedies."""
    found = [*_needs(config, registry), *_full_training(config), *_warmup(config), *_evaluation(config)]
    found += _ties(config)
    return [_problem(root, path, message) for path, message in found]


def _problem(root: Node, path: tuple[str, ...], message: str) -> Problem:
    """The problem, in the place of the nearest node that was written."""
    node = root
    for key in path:
        children = {str(i): item for i, item in enumerate(node.items or ())} | (node.mapping or {})
        below = children.get(key)
        if below is None:
            break
        node = below
    return Problem(node.place, path, message)


Finding = tuple[tuple[str, ...], str]


def _needs(config: Config, registry: Registry) -> Iterator[Finding]:
    """Everything that a loss or bonus asks for is known, and the sampler draws what is needed."""
    bonuses = ((("bonuses", str(i)), adapt(bonus, BaseBonus)) for i, bonus in enumerate(config.bonuses))
    sampler = adapt(config.sampler, BaseSampler)
    scored: list[tuple[tuple[str, ...], BaseLoss | BaseBonus]] = [
        (("loss",), adapt(config.loss, BaseLoss)),
        *bonuses,
    ]
    for path, component in scored:
        needs = component.needs
        for unknown in sorted(needs - set(get_args(Need))):
            yield path, f"its class asks for '{unknown}', which scoring does not know."
        if "reference_samples" in needs and not sampler.reference_samples:
            name = origin_of(config.sampler, "sampler", config.origins).name
            message = f"needs completions from the reference, and sampler '{name}' draws none."
            yield path, message + _remedy(registry)


def _remedy(registry: Registry) -> str:
    names = []
    for provider in registry.providers:
        if provider.kind == "sampler" and provider.distribution == BUNDLED:
            with suppress(UserError, TypeError):  # one with an option that it needs
                if adapt(provider.load()(), BaseSampler).reference_samples:
                    names.append(f"'sampler: {provider.name}'")
    return f" Use {' or '.join(names)}." if names else ""


def _full_training(config: Config) -> Iterator[Finding]:
    if config.adapter.type == "full" and config.model.quantize != "none":
        message = (
            f"full weights cannot be trained with 'model.quantize: {config.model.quantize}', as quantized "
            "weights have no gradient. Use lora or dora, or 'quantize: none'."
        )
        yield ("adapter", "type"), message


def _warmup(config: Config) -> Iterator[Finding]:
    schedule, iters = config.training.schedule, config.training.iters
    if schedule is not None and iters is not None and schedule.warmup >= iters:
        message = f"{schedule.warmup} steps of warm-up leave nothing of a run of {iters} steps."
        yield ("training", "schedule", "warmup"), message


def _ties(config: Config) -> Iterator[Finding]:
    """A loss without soft labels would take a probability of one half for a label."""
    if config.judging.ties == "keep" and not adapt(config.loss, BaseLoss).soft_labels:
        message = "keep is for a loss with soft labels: set 'loss.soft_labels: true', or use half or drop."
        yield ("judging", "ties"), message


def _evaluation(config: Config) -> Iterator[Finding]:
    training = config.training
    no_prompts = config.evaluation.prompts is None and config.evaluation.held_out == 0
    if training.evaluate_every and no_prompts:
        message = "there is nothing to evaluate on: set evaluation.prompts, or evaluation.held_out above 0."
        yield ("training", "evaluate_every"), message
    for key, wanted in (("early_stop", training.early_stop), ("load_best", training.load_best)):
        if wanted and not training.evaluate_every:
            yield ("training", key), "goes by evaluations during the run: set training.evaluate_every."
    if training.load_best and not training.keep_best:
        yield ("training", "load_best"), "needs a checkpoint to load: set training.keep_best to 1 or more."
