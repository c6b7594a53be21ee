"""Everything that a run needs, loaded and checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from attrs import evolve, frozen

from prefloop.components import Judge
from prefloop.config import Config, PromptsConfig
from prefloop.errors import UserError, said_of
from prefloop.evaluation import Evaluator, sampling_of
from prefloop.loop import Loop
from prefloop.model.policy import Policy
from prefloop.prompts.loading import PromptSet, load_prompts
from prefloop.prompts.order import split_held_out
from prefloop.runs.plan import Division, Plan, make_plan
from prefloop.types import Prompt


@frozen(eq=False)
class Prepared:
    """Everything loaded and checked; nothing is written yet."""

    config: Config
    policy: Policy
    prompts: PromptSet
    loop: Loop
    held_out: Sequence[Prompt]
    evaluator: Evaluator | None
    plan: Plan

    def with_components(self, division: Division | None = None, *, people: bool = True) -> Prepared:
        """The same with judges and sampler ready, what they hold in the plan, and the loop divided by it.

        A run that goes on gives the `division` it had. Without `people`, nobody is asked for a terminal.
        """
        before = mx.get_active_memory()
        prepare_components(self.config, people=people)
        held = max(0, mx.get_active_memory() - before)
        plan = make_plan(self.config, self.loop, self.prompts, self.held_out, judge=held, division=division)
        plan.division.apply(self.loop)
        return evolve(self, plan=plan)


def prepare(config: Config) -> Prepared:
    """Load the model, the prompts and what evaluates them. Raises `UserError` where that fails."""
    policy = Policy.load(config.model, config.adapter, config.reference, seed=config.training.seed)
    prompts = load_prompts(config.prompts, policy.tokenizer)
    training, held_out = held_out_of(config, policy, prompts)
    if (check := getattr(config.sampler, "check_prompts", None)) is not None:
        with said_of("sampler"):
            check(training)
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
    if evaluator is None:
        _check_nothing_waits(config)
    plan = make_plan(config, loop, prompts, held_out)
    return Prepared(config, policy, prompts, loop, held_out, evaluator, plan)


def prepare_components(config: Config, *, people: bool = True) -> None:
    """Let judges and sampler load what they need while nothing is written yet."""
    for key, component in _components(config):
        if getattr(component, "interactive", False) and not people:
            continue
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


def held_out_of(
    config: Config, policy: Policy, prompts: PromptSet
) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Training prompts and held-out ones; none are held out where nothing would evaluate them."""
    evaluation = config.evaluation
    if judge_of(config) is None:
        return prompts.prompts, ()
    if evaluation.prompts:
        with said_of("evaluation.prompts"):
            return prompts.prompts, load_prompts(evaluation_source(config), policy.tokenizer).prompts
    return split_held_out(prompts.prompts, evaluation.held_out, config.training.seed)


def evaluation_source(config: Config) -> PromptsConfig:
    """Where the prompts of evaluations come from, be it the training prompts of which some are held out."""
    if config.evaluation.prompts is None:
        return config.prompts
    return evolve(config.prompts, path=config.evaluation.prompts, limit=None)


def judge_of(config: Config) -> Judge | None:
    """Who evaluates: the run's judge, but for a person or one who knows only the answers in a file."""
    own = config.judge
    if config.evaluation.judge is not None:
        return config.evaluation.judge
    return None if getattr(own, "interactive", False) or not getattr(own, "evaluates", True) else own


def _evaluator(config: Config, policy: Policy, held_out: Sequence[Prompt]) -> Evaluator | None:
    judge = judge_of(config)
    if judge is None or not held_out:
        return None
    answer = config.evaluation.answer_column
    if answer:
        check_answers(held_out, answer)
    sampling = sampling_of(config.sampler, config.evaluation.temperature)
    return Evaluator(policy, held_out, judge, sampling, answer, config.training.seed)


def _check_nothing_waits(config: Config) -> None:
    """Raises `UserError` where the run is to go by evaluations, and there are none."""
    for key, wanted in (("early_stop", config.training.early_stop), ("load_best", config.training.load_best)):
        if wanted:
            missing = "evaluation.judge" if judge_of(config) is None else "evaluation.prompts"
            raise UserError(f"training.{key}: nothing is evaluated that it could go by: set {missing}.")


def check_answers(held_out: Sequence[Prompt], column: str) -> None:
    for prompt in held_out:
        if prompt.fields.get(column) is None:
            known = ", ".join(sorted(prompt.fields)) or "none"
            raise UserError(
                f"evaluation.answer_column: {prompt.id} has nothing in a column '{column}'. "
                f"Its other columns: {known}."
            )
