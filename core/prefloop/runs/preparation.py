"""Everything that a run needs, loaded and checked before anything is written; and a dry run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import mlx.core as mx
import mlx.optimizers as optim
from attrs import evolve, frozen

from prefloop.components import Base, BaseJudge, BaseSampler, Observer, adapt, check_verdicts
from prefloop.config import Config
from prefloop.errors import StopRun, UserError, said_of
from prefloop.evaluation import Evaluator, sampling_of
from prefloop.loop import Loop
from prefloop.metrics import Clock
from prefloop.model.mlx_lm_internals import not_finite
from prefloop.model.policy import Policy
from prefloop.model.weight_sharing import arrays
from prefloop.prompts.loading import PromptSet
from prefloop.ranks.group import ALONE, Ranks
from prefloop.ranks.judging import sits_on_first
from prefloop.runs.asking import asked
from prefloop.runs.dependencies import dependencies
from prefloop.runs.guards import kind_of
from prefloop.runs.judges import check_prompts, judge_of, judges_of, panel
from prefloop.runs.plan import Division, Plan, size_words
from prefloop.runs.planning import check_memory, make_plan
from prefloop.runs.sources import held_out_of, load_training, weights_of
from prefloop.scoring.scorer import first_counted, lay_out
from prefloop.text import duration, one_line
from prefloop.types import Completion, Pair, PreferenceBatch, Prompt, Verdict


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
        components = _components(self.config, self.loop.ranks)
        for key, component in components:
            with said_of(key):
                _make_ready(component, people)
        for place, observer in enumerate(self.config.observers if self.loop.ranks.first else ()):
            with said_of(f"observers.{place}"):
                adapt(observer, Observer).prepare()
        held = max(0, mx.get_active_memory() - before)
        held_out = self.evaluator.prompts if self.evaluator else ()
        judges = [component for _, component in components if isinstance(component, BaseJudge)]
        plan = make_plan(self.loop, self.prompts, held_out, judge=held, judges=judges, division=division)
        self.loop.micro_batch = plan.division.micro_batch
        self.loop.policy.limit_pools(plan.division.pool_bytes)
        first = (self.loop.prompts[i] for i in self.loop.order.indices(0, self.loop.batch_size))
        self.loop.policy.check_sampling(max(first, key=lambda prompt: len(prompt.tokens)))
        return evolve(self, plan=plan)

    def dependencies(self) -> dict[str, str]:
        """The digests of what the run depends on."""
        held_out = self.evaluator.prompts if self.evaluator else ()
        return dependencies(self.config, self.loop.prompts, held_out)


def _make_ready(component: Base, people: bool) -> None:
    """Prepare a component or, without `people`, whatever it asks besides them."""
    if people or not (isinstance(component, BaseJudge) and component.interactive):
        component.prepare()
        return
    for i, member in enumerate(component.members):
        with said_of(f"members.{i}"):
            _make_ready(adapt(member, BaseJudge), people)


def prepare(config: Config, ranks: Ranks = ALONE) -> Prepared:
    """Load the model, the prompts and what evaluates them. Raises `UserError` where that fails."""
    policy = Policy.load(config.model, config.adapter, config.reference, seed=config.training.seed)
    prompts = load_training(config, policy.tokenizer)
    training, held_out = held_out_of(config, policy.tokenizer, prompts)
    with said_of("sampler"):
        adapt(config.sampler, BaseSampler).check_prompts(training)
    check_prompts(judge_of(config), training, "judge")
    for one in judges_of(config) if held_out else ():
        check_prompts(one.judge, held_out, "judge" if one.teaches else "evaluation.judge")
    loop = Loop(
        policy,
        training,
        judge=judge_of(config),
        sampler=config.sampler,
        loss=config.loss,
        bonuses=config.bonuses,
        training=config.training,
        ties=config.judging.ties,
        show_thoughts=config.judging.thought == "show",
        weights=weights_of(config),
        ranks=ranks,
    )
    loop.sampler.check_policy(policy, training)
    evaluator = _evaluator(config, policy, held_out, ranks)
    plan = make_plan(loop, prompts, held_out)
    return Prepared(config, prompts, loop, evaluator, plan)


def close_components(config: Config, ranks: Ranks = ALONE) -> None:
    """Let judges and sampler give back what they hold."""
    for _, component in _components(config, ranks):
        component.close()


def _components(config: Config, ranks: Ranks) -> list[tuple[str, Base]]:
    """The sampler, and the judges that this rank asks."""
    judges, on = config.judges | config.evaluation.named_judges, config.judging.ranks
    own = {key: judge for key, judge in judges.items() if ranks.first or not sits_on_first(judge, on)}
    asked = ((key, adapt(judge, BaseJudge)) for key, judge in own.items())
    return [("sampler", adapt(config.sampler, BaseSampler)), *asked]


def _evaluator(config: Config, policy: Policy, held_out: Sequence[Prompt], ranks: Ranks) -> Evaluator | None:
    """What evaluates the run, if anything does. Raises `UserError` where the run is to go by evaluations."""
    judges, training = judges_of(config), config.training
    if not judges or not held_out:
        for key, wanted in (("early_stop", training.early_stop), ("load_best", training.load_best)):
            if wanted:
                missing = "evaluation.judge" if not judges else "evaluation.prompts"
                raise UserError(f"training.{key}: nothing is evaluated that it could go by: set {missing}.")
        return None
    answer = config.evaluation.answer_column
    if answer:
        check_answers(held_out, answer)
    sampling = sampling_of(config.sampler, config.evaluation.temperature)
    evaluator = Evaluator(
        policy,
        held_out,
        judges[0].judge,
        sampling,
        answer,
        training.seed,
        show_thoughts=config.judging.thought == "show",
        ranks=ranks,
    )
    return panel(evaluator, judges, lambda judge, _: judge)


def check_answers(held_out: Sequence[Prompt], column: str) -> None:
    """Raises `UserError` where a prompt has no text in the column that a right answer contains.

    A source of a mixture may be without the column, but not all of them.
    """
    having = {prompt.source for prompt in held_out if prompt.fields.get(column) is not None}
    for prompt in held_out:
        if prompt.fields.get(column) is None and (not having or prompt.source in having):
            known = ", ".join(sorted(prompt.fields)) or "none"
            raise UserError(
                f"evaluation.answer_column: {prompt.id} has nothing in a column '{column}'. "
                f"Its other columns: {known}."
            )


# The dry run


def dry_run(config: Config, echo: Callable[[str], object]) -> Plan:
    """Print the plan, try the loop's pieces on one micro-batch, and throw the result away. Returns the plan.

    Nothing is written. The pairs are sampled for real; their labels are made up, so that a person is not
    asked. Raises `UserError` where a trainable tensor gets no gradient or one that is not finite, where the
    reference moves with the policy, or where the judge answers nothing.
    """
    try:
        return _try(config, echo)
    except StopRun as stop:
        raise UserError(stop.reason) from stop


def _try(config: Config, echo: Callable[[str], object]) -> Plan:
    prepared = prepare(config)
    check_memory(prepared.plan, config.training.memory_limit_gb)
    prepared = prepared.with_components(people=False)
    check_memory(prepared.plan, config.training.memory_limit_gb)
    for title, text in prepared.plan.lines():
        echo(f"{title:<8} {text}")
    loop = prepared.loop
    clock = Clock()
    with clock("sampling"):
        pairs = _different_pairs(loop)
    completions = [c for p in pairs for c in (p.first, p.second)]
    echo(f"sampled  {len(completions)} completions, {sum(len(c.tokens) for c in completions)} tokens")
    for title, text in _thought_lines(config, completions):
        echo(f"{title:<8} {text}")
    for key, judge, own in _asked_by_key(config, pairs):
        if judge.interactive:
            echo(f"{key:<8} a person, who is not asked now")
            continue
        with clock("judging"):
            verdicts = _verdicts(config, judge, own)
        _try_judge(key, own, verdicts, echo)
    _prove_learning(loop, pairs, echo, clock)
    echo(f"time     {_time_words(prepared, len(pairs), clock.seconds)}")
    echo("Nothing was written. Everything is ready to train.")
    return prepared.plan


def _thought_lines(config: Config, completions: Sequence[Completion]) -> Iterator[tuple[str, str]]:
    """An example of a completion with a thought: which of its tokens count, and what the judge reads."""
    thought = [c for c in completions if c.thought_tokens]
    if not thought:
        if any(source.thinking for source in config.prompt_sets):
            yield "thought", "none of these completions has one"
        return
    example = min(thought, key=lambda c: c.thought_tokens == len(c.tokens))  # one with an answer, if any
    counted, own = first_counted(example), example.thought_tokens
    masked = config.training.thought == "mask" and counted == own
    loss = "the loss leaves them out" if masked else "the loss counts them"
    judge = "the judge reads it" if config.judging.thought == "show" else "the judge does not read it"
    yield "thought", f"{own} tokens, {loss}, {judge}: {one_line(example.thought, 100)}"
    if own < len(example.tokens):
        left = len(example.tokens) - own
        yield (
            "answer",
            f"{left} tokens, the loss counts them, the judge reads it: {one_line(example.text, 100)}",
        )
    else:
        yield "answer", "none, as the thought was cut: the judge reads an empty one (max_completion_length)"


def _asked_by_key(config: Config, pairs: Sequence[Pair]) -> list[tuple[str, BaseJudge, list[Pair]]]:
    """Each judge by its key, with those of the pairs that it would be asked about."""
    keys = config.judge_keys
    parts = {key: [p for p in pairs if keys[p.prompt.source] == key] for key in config.judges}
    return [(key, adapt(config.judges[key], BaseJudge), own) for key, own in parts.items() if own]


def _try_judge(
    key: str, pairs: Sequence[Pair], verdicts: Sequence[Verdict], echo: Callable[[str], object]
) -> None:
    """Show the verdicts. Raises `UserError` where all are errors."""
    errors = [v for v in verdicts if v.status == "error"]
    if len(errors) == len(verdicts):
        raise UserError(
            f"{key}: all of its {len(errors)} verdicts are errors. The last one: {errors[-1].reason}"
        )
    echo(f"{key:<8} {', '.join(_verdict_words(v) for v in verdicts)}")
    kinds = [kind_of(*row) for row in zip(pairs, verdicts, strict=True)]
    if count := kinds.count("contradiction"):
        echo(
            f"warning  asked about {len(pairs)} pairs in both orders, it contradicts itself on {count}."
            " Try it on pairs whose answer you know (prefloop judge)."
        )


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


def _time_words(prepared: Prepared, pairs: int, seconds: Mapping[str, float]) -> str:
    """How long the run will take, from what so many of its pairs took.

    A step repeats that for its prompts. So does an evaluation, which has two answers for a prompt as well,
    but it scores without a gradient: a third of the work. Other judges are taken to be as fast as the run's.
    """
    loop, evaluator = prepared.loop, prepared.evaluator
    sampling, judging, scoring = (seconds.get(n, 0.0) / pairs for n in ("sampling", "judging", "scoring"))
    step = loop.batch_size * (sampling + judging + scoring)
    steps = f"{loop.steps:,} steps of {duration(step)}"
    a_person = ", without the time of the person who judges" if prepared.loop.judge.interactive else ""
    if evaluator is None:
        return f"about {duration(loop.steps * step)} on this machine: {steps}{a_person}"
    every = prepared.config.training.evaluate_every
    evaluations = 1 + len({*(range(every, loop.steps, every) if every else ()), loop.steps})
    judged = (1 + len(evaluator.others)) * judging
    evaluation = len(evaluator.prompts) * (sampling + judged + scoring / 3)
    total = duration(loop.steps * step + evaluations * evaluation)
    evaluated = f"{evaluations} evaluations of {duration(evaluation)}"
    return f"about {total} on this machine: {steps}, {evaluated}{a_person}"


def _prove_learning(loop: Loop, pairs: list[Pair], echo: Callable[[str], object], clock: Clock) -> None:
    """Two throw-away updates: an adapter starts with one factor at zero, which blocks the other once.

    They are plain ones, as the run's own may begin at a learning rate of zero.
    """
    batch = PreferenceBatch.from_verdicts(pairs, [Verdict(0.9)] * len(pairs))
    before = _reference_logprobs(loop, batch)
    untouched, plain = set(loop.policy.trainable()), optim.SGD(1e-2)
    for step in (1, 2):
        clock.seconds["scoring"] = 0.0  # the second time, nothing has to be made ready any more
        with clock("scoring"):
            gradient, _ = loop.total_gradient(batch, loop.progress(step))
        if wrong := not_finite(arrays(gradient)):
            raise UserError(
                f"the gradient of {len(wrong)} trainable tensors is NaN or infinite, of '{wrong[0]}' for one."
                " Try model.dtype: float32, or another model."
            )
        untouched -= {name for name, g in arrays(gradient).items() if bool(mx.any(g != 0))}
        plain.update(loop.policy.model, optim.clip_grad_norm(gradient, 1.0)[0])
        mx.eval(loop.policy.model.trainable_parameters())
    if untouched:
        raise UserError(
            f"{len(untouched)} trainable tensors get no gradient, '{min(untouched)}' for one. "
            "Check adapter.keys and adapter.layers."
        )
    if loop.needs and not mx.array_equal(before, _reference_logprobs(loop, batch)):
        raise UserError("the reference moved while the policy was trained; please report this as a bug.")
    room = loop.room
    if room.pairs:
        sizes = [size_words(int(count)) for count in (room.taken, room.peak, room.limit)]
        words = "1 pair" if room.pairs == 1 else f"{room.pairs} pairs"
        echo(
            f"scoring  {words} at a time took {sizes[0]}, and the peak is {sizes[1]} of "
            f"training.memory_limit_gb's {sizes[2]}"
        )
    echo(f"learning a gradient reaches each of {len(loop.policy.trainable())} tensors; the reference stays")


def _reference_logprobs(loop: Loop, batch: PreferenceBatch) -> mx.array:
    result = loop.policy.reference_scorer.logprobs(lay_out(batch.prompts, batch.chosen))
    mx.eval(result)
    return result


def _verdicts(config: Config, judge: BaseJudge, pairs: Sequence[Pair]) -> list[Verdict]:
    """The judge's verdicts. Raises `StopRun` where it stops the run instead."""
    name = type(judge).__name__
    if config.judging.thought == "show":
        pairs = [pair.with_thoughts() for pair in pairs]
    with asked(name, config.judging.timeout and config.judging.timeout * len(pairs)):
        verdicts = judge.judge(pairs)
    check_verdicts(name, verdicts, len(pairs))
    return verdicts


def _verdict_words(verdict: Verdict) -> str:
    if verdict.status == "error":
        return f"error ({verdict.reason})"
    return verdict.status if verdict.status != "ok" else f"{verdict.probability:.2f}"
