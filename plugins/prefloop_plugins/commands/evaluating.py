"""Evaluates a run that is over, or a checkpoint of one: against its start or any other model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from prefloop.beginning import Beginning, beginning_of, begun
from prefloop.components import BaseJudge, Judge, adapt
from prefloop.config import Config, load_config
from prefloop.config.load import parse_override
from prefloop.config.yaml_nodes import Problem
from prefloop.embedded import local_path
from prefloop.errors import UserError, said_of
from prefloop.evaluation import Evaluator, Opponent, sampling_of
from prefloop.model.adapters import ADAPTERS, load_adapters
from prefloop.model.loading import load_model
from prefloop.model.policy import Policy
from prefloop.model.weight_sharing import view
from prefloop.registry import Origin
from prefloop.routing import RoutingJudge
from prefloop.runs.checkpoint import ranked
from prefloop.runs.dependencies import changed, content_digests, prompt_digests, recorded, settings_of_model
from prefloop.runs.judges import Evaluating, check_prompts, judges_of
from prefloop.runs.preparation import check_answers
from prefloop.runs.run import check_config
from prefloop.runs.sources import held_out_of, load_evaluation_prompts, load_training
from prefloop.runs.view import CONFIG, MANIFEST, RunView, open_run
from prefloop.sampling import Generator
from prefloop.types import Prompt

MATTERS = ("judge", "evaluation", "prompts", "sampler", "plugins")
"""The keys of a run's configuration that an evaluation depends on, besides what was trained."""


@frozen
class Snapshot:
    """What of a run is evaluated: the policy after `step` steps, whose trained tensors are in `folder`."""

    step: int
    folder: Path
    label: str


@frozen(eq=False)
class LoadedEvaluation:
    """An evaluation with everything loaded; nothing is sampled yet."""

    evaluator: Evaluator
    judges: Sequence[Evaluating]
    """Who is asked; the evaluator has the first of them alone until they are made its `panel`."""
    snapshot: Snapshot
    source: str
    """Where the prompts are from."""
    dropped: int
    """Prompts left out as the other model's tokenizer makes them too long."""
    began: Beginning
    """Where and when the run began."""


def load_evaluation(
    run: Path,
    *,
    against: str = "start",
    which: str | None = None,
    judge: tuple[Judge, Origin] | None = None,
    prompts: str | None = None,
    overrides: Sequence[str] = (),
) -> LoadedEvaluation:
    """Load what it takes to evaluate `run`.

    `against` is ``start``, ``base``, another run or a model; `which` is None for the final policy, the
    number of a checkpoint, or ``best``. Without `judge`, the judge of the run's own evaluations is asked, and
    without `prompts` about the prompts that the run held out. `overrides` change what of the run's
    configuration matters here. Raises `UserError` for what is the user's to mend.
    """
    config = run_settings(run, overrides)
    snapshot = snapshot_of(run, which)
    if prompts is not None:
        config = evolve(config, evaluation=evolve(config.evaluation, prompts=prompts))
    if judge is None:
        judges = _own_judges(run, config, overrides)
    else:
        asked, origin = judge
        config = evolve(config, origins={**config.origins, type(asked): origin})
        config = evolve(config, evaluation=evolve(config.evaluation, judge=asked))
        judges = judges_of(config)
    if prompts is not None and any(isinstance(one.judge, RoutingJudge) for one in judges):
        raise UserError(
            f"--prompts: they belong to none of the sources of '{run}', which have judges of their own: name "
            "one with --judge."
        )
    began = beginning_of(open_run(run).manifest)
    with begun(began):
        policy = Policy.load(config.model, config.adapter, config.reference, seed=config.training.seed)
        check_model(run, config)
    here = evolve(began, folder=Path.cwd())  # what was given now is meant from here
    with begun(here if prompts else began), said_of("--prompts") if prompts else nullcontext():
        held_out = _prompts(run, config, policy)
    if config.evaluation.answer_column:
        check_answers(held_out, config.evaluation.answer_column)
    load_snapshot(policy, snapshot.folder)
    shared, other = _opponent(against, config, policy, held_out)
    with said_of("judge"), begun(here if judge else began):
        for one in judges:
            adapt(one.judge, BaseJudge).prepare()
            check_prompts(one.judge, shared)
    evaluator = Evaluator(
        policy,
        shared,
        judges[0].judge,
        sampling_of(config.sampler, config.evaluation.temperature),
        config.evaluation.answer_column,
        config.training.seed,
        opponent=other,
        show_thoughts=config.judging.thought == "show",
    )
    source = config.evaluation.prompts or f"held out from {_named(config)}"
    return LoadedEvaluation(evaluator, judges, snapshot, source, len(held_out) - len(shared), began)


def check_model(run: Path, config: Config) -> None:
    """Raises `UserError` where what the run's adapters belong to is no longer what it was."""
    for change in changed(recorded(open_run(run)), content_digests(settings_of_model(config)), 0):
        raise UserError(
            f"{change.what} is no longer what '{run}' was trained with, so what it learnt does not belong to "
            "it. Put it back as it was."
        )


def run_settings(run: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a run. Raises `UserError` for overrides that would change what was trained."""
    began = beginning_of(open_run(run).manifest)
    check_config(run)
    parsed = [parse_override(text) for text in overrides]
    refused = [
        Problem(o.value.place, o.path, f"has no effect here: only {', '.join(MATTERS)} matter.")
        for o in parsed
        if o.path[0] not in MATTERS
    ]
    if refused:
        raise UserError(*map(str, refused))
    with begun(began):
        return load_config(run / CONFIG, overrides)


def snapshot_of(path: Path, which: str | None = None) -> Snapshot:
    """The policy at the end of a run, after a numbered step, or as it was best.

    Raises `UserError` where it was not saved.
    """
    run = open_run(path)
    present = run.checkpoints()
    there = f"It has checkpoints of {', '.join(map(str, present))}." if present else "It has no checkpoints."
    if which is None:
        if not (path / ADAPTERS).is_file():
            raise UserError(f"'{path}' has no {ADAPTERS}, as it has not ended: give --checkpoint. {there}")
        step = int(run.summary.get("adapters_step", run.summary.get("steps", 0)))
        return Snapshot(step, path, f"step {step} (final)")
    step = _best_step(run) if which == "best" else _number(which)
    if step not in present:
        raise UserError(f"'{path}' has no checkpoint {which}. {there}")
    return Snapshot(step, present[step], f"step {step}" + " (best)" * (which == "best"))


def _best_step(run: RunView) -> int:
    present = run.checkpoints()
    return next((e.step for e in ranked(run.evaluations()) if e.step in present), -1)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"--checkpoint: must be the number of a step, or best, not '{text}'.")
    return int(text)


def _own_judges(run: Path, config: Config, overrides: Sequence[str]) -> list[Evaluating]:
    judges = judges_of(config)
    has_no_part = judges and not any(one.teaches for one in judges)
    if has_no_part and any(t.startswith("judge.") for t in overrides):
        raise UserError(
            f"--set judge: has no effect here: '{run}' is evaluated by its evaluation.judge. Set that, or "
            "name a judge with --judge."
        )
    if not judges:
        raise UserError(
            f"'{run}': its judge is a person, or knows only the answers in a file; name one with --judge."
        )
    return judges


def _prompts(run: Path, config: Config, policy: Policy) -> Sequence[Prompt]:
    if config.evaluation.prompts:
        return load_evaluation_prompts(config, policy.tokenizer).prompts
    trained, held_out = held_out_of(config, policy.tokenizer, load_training(config, policy.tokenizer))
    if not held_out:
        raise UserError(f"'{run}' held no prompts out: give some with --prompts.")
    if changed(recorded(open_run(run)), prompt_digests(trained, held_out), 0):
        raise UserError(
            f"the prompts in '{_named(config)}' are not those that '{run}' was trained on, so which it "
            "held out cannot be told. Put the data back as they were, or give others with --prompts."
        )
    return held_out


def _named(config: Config) -> str:
    """The training prompts, as the configuration names them."""
    return ", ".join(source.path for source in config.prompt_sets)


def load_snapshot(policy: Policy, folder: Path) -> None:
    """Give `policy` the trained tensors in `folder`. Raises `UserError` where they do not fit."""
    try:
        load_adapters(policy.model, str(folder))
    except UserError as error:
        raise UserError(*(f"'{folder}': {p.partition(': ')[2]}" for p in error.problems)) from error


def _opponent(
    against: str, config: Config, policy: Policy, prompts: Sequence[Prompt]
) -> tuple[Sequence[Prompt], Opponent]:
    """Whom the policy is compared with, and the prompts that both can take."""
    if against == "start":
        return prompts, Opponent("start", Generator(policy.start, policy.tokenizer), prompts)
    if against == "base":
        base = view(policy.loaded.pristine.model)
        return prompts, Opponent("base", Generator(base, policy.tokenizer), prompts)
    with said_of("--against"):
        model, tokenizer = _other(against)
        return _in_tokens(config, prompts, against, Generator(model, tokenizer), policy.tokenizer)


def _other(against: str) -> tuple[Any, Any]:
    path = local_path(against)
    if not (path / MANIFEST).is_file():
        loaded = load_model(against)
        return loaded.model, loaded.tokenizer
    config = run_settings(path)
    with begun(beginning_of(open_run(path).manifest)):
        other = Policy.load(config.model, config.adapter, seed=config.training.seed)
    load_snapshot(other, snapshot_of(path).folder)
    return other.model, other.tokenizer


def _in_tokens(
    config: Config, prompts: Sequence[Prompt], label: str, generator: Generator, tokenizer: Any
) -> tuple[Sequence[Prompt], Opponent]:
    """The prompts as the other model's tokenizer encodes them, without those that become too long."""
    if _same(tokenizer, generator.tokenizer):
        return prompts, Opponent(label, generator, prompts)
    found = load_evaluation_prompts(config, generator.tokenizer).prompts
    if not config.evaluation.prompts:
        found = (*found, *load_training(config, generator.tokenizer).prompts)
    theirs = {p.id: p for p in found}
    shared = [p for p in prompts if p.id in theirs]
    if not shared:
        raise UserError(f"no prompt is short enough for the tokenizer of '{label}'.")
    return shared, Opponent(label, generator, [theirs[p.id] for p in shared])


def _same(one: Any, other: Any) -> bool:
    return bool(one.get_vocab() == other.get_vocab() and one.chat_template == other.chat_template)
