"""A whole run from a configuration: load, evaluate, loop, evaluate, save."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from attrs import asdict, evolve, frozen

from prefloop.config import Config
from prefloop.errors import StopRun, UserError
from prefloop.evaluation import Evaluator, sampling_of
from prefloop.loop import Loop
from prefloop.plan import Plan, make_plan
from prefloop.policy import Policy
from prefloop.prompts import PromptSet, load_prompts, split_held_out
from prefloop.run import Recorder, Run, choose_path, refuse_taken
from prefloop.types import Evaluation, Judge, Prompt

EXAMPLES = 3


@frozen(eq=False)
class Prepared:
    """Everything loaded and checked; nothing is written yet."""

    config: Config
    policy: Policy
    prompts: PromptSet
    loop: Loop
    evaluator: Evaluator | None
    plan: Plan


def train(config: Config, *, observers: Sequence[Any] = ()) -> Run:
    """Run `config` to its end and return the finished run. Nothing is printed; give an observer for that.

    The run directory is made once everything is loaded. Raises `UserError` for what is the user's to
    mend. A judge that stops the run, or an interrupt from the keyboard, ends it cleanly as ``stopped``.
    """
    path = choose_path(config)
    refuse_taken(path)
    prepared = prepare(config)
    run = Run.create(path, config, prepared.plan)
    judge = config.registry.name_of(config.judge) or type(config.judge).__name__
    prepared.loop.observers = (Recorder(run, judge), *config.observers, *observers)
    try:
        return _train(prepared, run)
    except BaseException as error:
        run.finish("failed", {**run.summary, "reason": str(error) or type(error).__name__})
        raise


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
    )
    evaluator = _evaluator(config, policy, held_out)
    return Prepared(config, policy, prompts, loop, evaluator, make_plan(config, loop, prompts, held_out))


def _train(prepared: Prepared, run: Run) -> Run:
    loop, training = prepared.loop, prepared.config.training
    started = time.perf_counter()
    evaluations: list[Evaluation] = []
    loop.notify("run_started", run)
    status = "finished"
    try:
        _evaluate(prepared, evaluations)
        for step in loop:
            number, last = step.progress.step, step.progress.step == loop.steps
            if not last and _due(number, training.evaluate_every):
                _evaluate(prepared, evaluations)
            if not last and _due(number, training.save_every):
                folder = run.save_checkpoint(prepared.policy, number)
                loop.notify("checkpoint_saved", number, str(folder))
        _evaluate(prepared, evaluations)
    except (StopRun, KeyboardInterrupt) as stop:
        status = "stopped"
        run.manifest["reason"] = str(stop) or "interrupted from the keyboard"
    run.save_policy(prepared.policy)
    run.finish(status, _summary(loop, evaluations, time.perf_counter() - started))
    loop.notify("run_finished", run)
    return run


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _evaluate(prepared: Prepared, evaluations: list[Evaluation]) -> None:
    if prepared.evaluator:
        evaluations.append(prepared.evaluator(prepared.loop.steps_taken))
        prepared.loop.notify("evaluated", evaluations[-1])


def _held_out(
    config: Config, policy: Policy, prompts: PromptSet
) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Training prompts and held-out ones; none are held out where nothing would evaluate them."""
    evaluation = config.evaluation
    if _judge_of(config) is None:
        return prompts.prompts, ()
    if evaluation.prompts:
        source = evolve(config.prompts, path=evaluation.prompts, limit=None)
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


def _summary(loop: Loop, evaluations: Sequence[Evaluation], seconds: float) -> dict[str, Any]:
    """What the run came to, for ``run.json``."""
    summary: dict[str, Any] = {"steps": loop.steps_taken, "seconds": round(seconds, 1)}
    if not evaluations:
        return summary
    sides = {"before": evaluations[0], "after": evaluations[-1]}
    summary["win_rate"] = {side: asdict(e.win_rate) for side, e in sides.items()}
    for name in evaluations[0].metrics:
        summary[name] = {side: e.metrics[name] for side, e in sides.items()}
    summary["examples"] = [
        {"prompt": p.prompt.text, "before": p.second.text, "after": p.first.text}
        for p in evaluations[-1].pairs[:EXAMPLES]
    ]
    return summary
