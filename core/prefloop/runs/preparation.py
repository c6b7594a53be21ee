"""Everything that a run needs, loaded and checked before anything is written; and a dry run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
from attrs import evolve, frozen

from prefloop.components import Base, BaseJudge, BaseSampler, Judge, adapt, check_verdicts
from prefloop.config import Config, PromptsConfig
from prefloop.errors import StopRun, UserError, said_of
from prefloop.evaluation import Evaluator, sampling_of
from prefloop.loop import Loop
from prefloop.model.policy import Policy
from prefloop.model.weight_sharing import arrays
from prefloop.prompts.loading import PromptSet, load_prompts
from prefloop.prompts.order import split_held_out
from prefloop.runs.asking import asked
from prefloop.runs.plan import Division, Plan
from prefloop.runs.planning import make_plan
from prefloop.scoring.scorer import lay_out
from prefloop.types import Pair, PreferenceBatch, Prompt, Verdict


@frozen(eq=False)
class Prepared:
    """Everything loaded and checked; nothing is written yet."""

    config: Config
    prompts: PromptSet
    loop: Loop
    evaluator: Evaluator | None
    plan: Plan

    def with_components(self, division: Division | None = None, *, people: bool = True) -> Prepared:
        """The same with judges and sampler ready, what they hold in the plan, and the loop divided by it.

        A run that goes on gives the `division` it had. Without `people`, nobody is asked for a terminal.
        """
        before = mx.get_active_memory()
        for key, component in _components(self.config):
            if people or not (isinstance(component, BaseJudge) and component.interactive):
                with said_of(key):
                    component.prepare()
        held = max(0, mx.get_active_memory() - before)
        held_out = self.evaluator.prompts if self.evaluator else ()
        plan = make_plan(self.loop, self.prompts, held_out, judge=held, division=division)
        self.loop.micro_batch = plan.division.micro_batch
        self.loop.policy.limit_pools(plan.division.pool_bytes)
        return evolve(self, plan=plan)


def prepare(config: Config) -> Prepared:
    """Load the model, the prompts and what evaluates them. Raises `UserError` where that fails."""
    policy = Policy.load(config.model, config.adapter, config.reference, seed=config.training.seed)
    prompts = load_prompts(config.prompts, policy.tokenizer)
    training, held_out = held_out_of(config, policy, prompts)
    with said_of("sampler"):
        adapt(config.sampler, BaseSampler).check_prompts(training)
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
    plan = make_plan(loop, prompts, held_out)
    return Prepared(config, prompts, loop, evaluator, plan)


def close_components(config: Config) -> None:
    """Let judges and sampler give back what they hold."""
    for _, component in _components(config):
        component.close()


def _components(config: Config) -> list[tuple[str, Base]]:
    sampler, judge = adapt(config.sampler, BaseSampler), adapt(config.judge, BaseJudge)
    found: list[tuple[str, Base]] = [("sampler", sampler), ("judge", judge)]
    if config.evaluation.judge is not None:
        found.append(("evaluation.judge", adapt(config.evaluation.judge, BaseJudge)))
    return found


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
    if config.evaluation.judge is not None:
        return config.evaluation.judge
    own = adapt(config.judge, BaseJudge)
    return config.judge if own.evaluates and not own.interactive else None


def _evaluator(config: Config, policy: Policy, held_out: Sequence[Prompt]) -> Evaluator | None:
    """What evaluates the run, if anything does. Raises `UserError` where the run is to go by evaluations."""
    judge, training = judge_of(config), config.training
    if judge is None or not held_out:
        for key, wanted in (("early_stop", training.early_stop), ("load_best", training.load_best)):
            if wanted:
                missing = "evaluation.judge" if judge is None else "evaluation.prompts"
                raise UserError(f"training.{key}: nothing is evaluated that it could go by: set {missing}.")
        return None
    answer = config.evaluation.answer_column
    if answer:
        check_answers(held_out, answer)
    sampling = sampling_of(config.sampler, config.evaluation.temperature)
    return Evaluator(policy, held_out, judge, sampling, answer, training.seed)


def check_answers(held_out: Sequence[Prompt], column: str) -> None:
    """Raises `UserError` where a prompt has no text in the column that a right answer contains."""
    for prompt in held_out:
        if prompt.fields.get(column) is None:
            known = ", ".join(sorted(prompt.fields)) or "none"
            raise UserError(
                f"evaluation.answer_column: {prompt.id} has nothing in a column '{column}'. "
                f"Its other columns: {known}."
            )


# The dry run


def dry_run(config: Config, echo: Callable[[str], object]) -> None:
    """Print the plan, try the loop's pieces on one micro-batch, and throw the result away.

    Nothing is written. The pairs are sampled for real; their labels are made up, so that a person is not
    asked. Raises `UserError` where a trainable tensor gets no gradient, or the reference moves with the
    policy.
    """
    prepared = prepare(config).with_components(people=False)
    for title, text in prepared.plan.lines():
        echo(f"{title:<8} {text}")
    loop = prepared.loop
    pairs = _different_pairs(loop)
    completions = [c for p in pairs for c in (p.first, p.second)]
    echo(f"sampled  {len(completions)} completions, {sum(len(c.tokens) for c in completions)} tokens")
    if adapt(config.judge, BaseJudge).interactive:
        echo("judge    a person, who is not asked now")
    else:
        echo(f"judge    {', '.join(map(_verdict_words, _verdicts(config, pairs)))}")
    _prove_learning(loop, pairs, echo)
    echo("Nothing was written. Everything is ready to train.")


def _different_pairs(loop: Loop) -> list[Pair]:
    """One micro-batch of pairs; two equal completions teach nothing, so they are left out."""
    prompts = [loop.prompts[i] for i in loop.order.indices(0, loop.micro_batch)]
    for attempt in range(8):
        progress = evolve(loop.progress(1), seed=loop.progress(1).seed + 2 * attempt)
        pairs = loop.sampler.sample(loop.policy, prompts, progress)
        if different := [p for p in pairs if p.first.tokens != p.second.tokens]:
            return different
    raise UserError(
        "sampler: both completions of every prompt come out equal, so there is nothing to prefer. "
        "Raise sampler.temperature."
    )


def _prove_learning(loop: Loop, pairs: list[Pair], echo: Callable[[str], object]) -> None:
    """Two throw-away updates: an adapter starts with one factor at zero, which blocks the other once."""
    batch = PreferenceBatch.from_verdicts(pairs, [Verdict(0.9)] * len(pairs))
    before = _reference_logprobs(loop, batch)
    untouched = set(loop.policy.trainable())
    for step in (1, 2):
        gradient, _ = loop.gradient(batch, loop.progress(step), sum(batch.weight))
        untouched -= {name for name, g in arrays(gradient).items() if bool(mx.any(g != 0))}
        loop.optimizer.update(loop.policy.model, gradient)
        mx.eval(loop.policy.model.trainable_parameters())
    if untouched:
        raise UserError(
            f"{len(untouched)} trainable tensors get no gradient, '{min(untouched)}' for one. "
            "Check adapter.keys and adapter.layers."
        )
    if loop.needs and not mx.array_equal(before, _reference_logprobs(loop, batch)):
        raise UserError("the reference moved while the policy was trained; please report this as a bug.")
    echo(f"learning a gradient reaches each of {len(loop.policy.trainable())} tensors; the reference stays")


def _reference_logprobs(loop: Loop, batch: PreferenceBatch) -> mx.array:
    result = loop.policy.reference_scorer.logprobs(lay_out(batch.prompts, batch.chosen))
    mx.eval(result)
    return result


def _verdicts(config: Config, pairs: Sequence[Pair]) -> list[Verdict]:
    """The judge's verdicts. Raises `UserError` where it stops the run instead."""
    name = type(config.judge).__name__
    try:
        with asked(name, config.judging.timeout and config.judging.timeout * len(pairs)):
            verdicts = adapt(config.judge, BaseJudge).judge(pairs)
    except StopRun as stop:
        raise UserError(stop.reason) from stop
    check_verdicts(name, verdicts, len(pairs))
    return verdicts


def _verdict_words(verdict: Verdict) -> str:
    if verdict.status == "error":
        return f"error ({verdict.reason})"
    return verdict.status if verdict.status != "ok" else f"{verdict.probability:.2f}"
