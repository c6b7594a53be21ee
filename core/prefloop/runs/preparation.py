"""Everything that a run needs, loaded and checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, frozen

from prefloop.config import Config
from prefloop.errors import UserError, said_of
from prefloop.evaluation import Evaluator, sampling_of
from prefloop.loop import Loop
from prefloop.runs.plan import Plan, make_plan
from prefloop.policy import Policy
from prefloop.prompts.loading import PromptSet, load_prompts, split_held_out
from prefloop.types import Judge, Prompt


@frozen(eq=False)
class Prepared:
    """Everything loaded and checked; nothing is written yet."""

    config: Config
    policy: Policy
    prompts: PromptSet
    loop: Loop
    evaluator: Evaluator | None
    plan: Plan


def prepare(config: Config) -> Prepared:
    """Load the model, the prompts and what evaluates them. Raises `UserError` where that fails."""
    policy = Policy.load(config.model, config.adapter, config.reference, seed=config.training.seed)
    prompts = load_prompts(config.prompts, policy.tokenizer)
    training, held_out = _held_out(config, policy, prompts)
    loop = Loop(
        policy,
        training,
        judge=config.judge,
        sampler=config.sampler,
        loss=config.loss,
        bonuses=config.bonuses,
        training=config.training,
        ties=config.judging.ties,
    )
    evaluator = _evaluator(config, policy, held_out)
    return Prepared(config, policy, prompts, loop, evaluator, make_plan(config, loop, prompts, held_out))


def prepare_components(config: Config) -> None:
    """Let judges and sampler load what they need while nothing is written yet."""
    for key, component in _components(config):
        if (prepare_it := getattr(component, "prepare", None)) is not None:
            with said_of(key):
                prepare_it()


def close_components(config: Config) -> None:
    """Let them give back what they hold, where they have a method ``close()``."""
    for _, component in _components(config):
        if (close := getattr(component, "close", None)) is not None:
            close()


def _components(config: Config) -> list[tuple[str, object]]:
    judges = [("judge", config.judge), ("evaluation.judge", config.evaluation.judge)]
    return [("sampler", config.sampler), *judges]


def _held_out(
    config: Config, policy: Policy, prompts: PromptSet
) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Training prompts and held-out ones; none are held out where nothing would evaluate them."""
    evaluation = config.evaluation
    if _judge_of(config) is None:
        return prompts.prompts, ()
    if evaluation.prompts:
        source = evolve(config.prompts, path=evaluation.prompts, limit=None)
        with said_of("evaluation.prompts"):
            return prompts.prompts, load_prompts(source, policy.tokenizer).prompts
    return split_held_out(prompts.prompts, evaluation.held_out, config.training.seed)


def _judge_of(config: Config) -> Judge | None:
    """Who evaluates; nobody where the judge is a person, who is asked only where the settings say so."""
    judge = config.evaluation.judge
    if judge is None and not getattr(config.judge, "interactive", False):
        judge = config.judge
    return judge


def _evaluator(config: Config, policy: Policy, held_out: Sequence[Prompt]) -> Evaluator | None:
    judge = _judge_of(config)
    if judge is None or not held_out:
        return None
    answer = config.evaluation.answer
    if answer:
        _check_answers(held_out, answer)
    sampling = sampling_of(config.sampler, config.evaluation.temperature)
    return Evaluator(policy, held_out, judge, sampling, answer, config.training.seed)


def _check_answers(held_out: Sequence[Prompt], column: str) -> None:
    for prompt in held_out:
        if prompt.fields.get(column) is None:
            known = ", ".join(sorted(prompt.fields)) or "none"
            raise UserError(
                f"evaluation.answer: {prompt.id} has nothing in a column '{column}'. "
                f"Its other columns: {known}."
            )
