"""The loop: sample, judge, pair, score, update.

Embedded in a program it is an iterator: ``for step in Loop(policy, prompts, judge=MyJudge()): …``
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import cached_property, partial
from itertools import groupby, islice
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from attrs import define, evolve, field
from mlx.utils import tree_map

from prefloop.components import (
    BaseBonus,
    BaseJudge,
    BaseLoss,
    BaseSampler,
    Bonus,
    Judge,
    Loss,
    Observer,
    PendingPairs,
    Sampler,
    adapt,
    check_pairs,
    check_verdicts,
)
from prefloop.cpu import lanes
from prefloop.errors import StopRun, UserError
from prefloop.metrics import Clock, batch_sums, number, step_metrics
from prefloop.model.mlx_lm_internals import checkpoint_layers, not_finite
from prefloop.model.policy import Policy
from prefloop.optim import build_optimizer
from prefloop.prompts.order import MixtureOrder, PromptOrder, order_of
from prefloop.ranks.group import ALONE, Ranks
from prefloop.ranks.judging import judge_together
from prefloop.ranks.sharing import gradient_together, sample_together
from prefloop.scoring.room import Room
from prefloop.scoring.scorer import lay_out_batch, reference_scores, score
from prefloop.settings import DEFAULT_ITERS, TrainingConfig
from prefloop.types import Pair, PreferenceBatch, Progress, Prompt, Step, Ties, Verdict

LOWER_RATE = (
    "Resuming would meet that again: start a new run with a lower training.learning_rate or "
    "training.max_grad_norm, from a checkpoint of this one (adapter.resume_from) or afresh."
)
TARGET_MICRO_BATCH_TOKENS = {"cpu": 512, "gpu": 8192}
"""In each lane; more only cost memory. The figure for a CPU is measured, that for a GPU a guess.

Twice as many where all weights are trained: their gradients are added up for every micro-batch.
"""


@define
class Rollout:
    """The pairs of one step, and how they are judged."""

    pairs: list[Pair] = field(factory=list)
    drawing: tuple[int, PendingPairs] | None = None
    """How many pairs a sampler that draws elsewhere was asked for, and what gives them; None once they are
    there."""
    verdicts: list[Verdict] | None = None
    """What the judge said, once it is known."""
    pending: list[tuple[int, Callable[[], list[Verdict]]]] = field(factory=list)
    """What a judge that answers elsewhere was asked, part by part: of how many pairs, and the answers."""
    seconds: Mapping[str, float] = field(factory=dict)
    """What sampling and judging it took, as a share of the pool that it was part of."""


class Loop:
    """Online preference optimisation of `policy` on `prompts`.

    Iterating takes the steps that are left; `step` takes one. `sampler` and `loss` default to the bundled
    ``policy`` and ``sigmoid``. One step trains on ``batch_size * gradient_accumulation`` prompts and makes
    one optimizer update from those that got a label. The prompts of ``training.rollout`` steps are sampled
    and judged together, from the policy as it is before the first of these steps. A sampler that draws
    elsewhere is asked as many steps ahead as its `max_staleness` says.

    A sequence of prompts is drawn in a seeded order, epoch after epoch. An iterator is read as it comes, only
    as far as the next step needs; ``training.iters`` says how long it is read, or its own end, and the whole
    run counts as one epoch. Of a mixture, `weights` says how often prompts of each `Prompt.source` are drawn.

    Of what a thinking model writes the judge reads the answer; with `show_thoughts` the thought as well.

    Several processes take the steps together where each has the same loop and its `ranks`: `joined` gives
    them.

    Raises `UserError` where a batch is larger than the set of prompts, and for an iterator where
    ``training.epochs`` asks for passes over it.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Prompt] | Iterator[Prompt],
        *,
        judge: Judge,
        sampler: Sampler | None = None,
        loss: Loss | None = None,
        bonuses: Sequence[Bonus] = (),
        training: TrainingConfig | None = None,
        ties: Ties = "drop",
        show_thoughts: bool = False,
        observers: Sequence[Any] = (),
        weights: Mapping[str, float] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.policy = policy
        self.stream = prompts if isinstance(prompts, Iterator) else None
        self.prompts: Sequence[Prompt] = () if isinstance(prompts, Iterator) else prompts
        self.judge = judge_together(ranks, adapt(judge, BaseJudge))
        self.sampler = adapt(sampler or _default("sampler"), BaseSampler)
        self.loss = adapt(loss or _default("loss"), BaseLoss)
        self.bonuses = tuple(adapt(bonus, BaseBonus) for bonus in bonuses)
        if not isinstance(training, TrainingConfig | None):
            raise UserError(f"training: {training!r} is no TrainingConfig, such as TrainingConfig(iters=9).")
        self.training = training or TrainingConfig()
        self.ties: Ties = ties
        self.show_thoughts = show_thoughts
        self.weights = dict(weights or {})
        self.sources = tuple(name for name in self.weights if name in {p.source for p in self.prompts})
        self.observers = tuple(adapt(observer, Observer) for observer in observers)
        self.needs: Set[str] = frozenset(self.loss.needs).union(*(bonus.needs for bonus in self.bonuses))
        self.batch_size = self.training.batch_size * self.training.gradient_accumulation
        self.micro_batch = self.training.micro_batch_size or self.training.batch_size  # a plan may lower it
        self.room = Room(1e9 * self.training.memory_limit_gb if self.training.memory_limit_gb else math.inf)
        self._check_prompts()
        self._check_staleness()
        self.policy.check_reading(self.prompts, self.sampler.sampling)
        self.total = self._total_prompts()
        self.steps = -(-self.total // self.batch_size)
        self.optimizer: optim.Optimizer = build_optimizer(self.training, self.steps)
        self.optimizer.init(policy.model.trainable_parameters())
        self.steps_taken = 0
        self.skipped = 0
        self.rollouts: deque[Rollout] = deque()
        """What was sampled for the next steps."""
        if self.training.gradient_checkpointing:
            checkpoint_layers(policy.model)
        for idle in self.idle_schedules() if self.stream is not None else ():  # a run's plan says so itself
            warnings.warn(idle, stacklevel=2)

    def __iter__(self) -> Iterator[Step]:
        while rollout := self._next_rollout():
            yield self._step(rollout)

    def step(self) -> Step:
        """Sample, judge, and update once. Observers are told. Raises `UserError` where no prompt is left."""
        rollout = self._next_rollout()
        if not rollout:
            raise UserError(
                f"there is no step left after {self.steps_taken}: the prompts have come to an end."
            )
        return self._step(rollout)

    @cached_property
    def order(self) -> PromptOrder | MixtureOrder:
        """In which order a sequence of prompts is drawn."""
        return order_of(self.prompts, self.weights, self.training.seed)

    def _step(self, rollout: Rollout) -> Step:
        clock = Clock()
        progress = self.progress(self.steps_taken + 1)
        verdicts, pairs = self._judged(rollout, clock), rollout.pairs
        ages = self._ages(pairs)
        self.notify("pairs_judged", progress, pairs, verdicts)
        self.judge.learn(pairs, verdicts)
        self.sampler.learn(pairs, verdicts)
        for bonus in self.bonuses:
            bonus.learn(pairs, verdicts)
        batch = PreferenceBatch.from_verdicts(pairs, verdicts, self.ties)
        sums, gradient_norm = self._update(batch, progress, clock)
        self.rollouts.popleft()
        self.steps_taken += 1
        self.skipped = 0 if math.isfinite(gradient_norm) else self.skipped + 1
        metrics = step_metrics(
            progress,
            pairs,
            verdicts,
            sums,
            clock.seconds,
            gradient_norm=gradient_norm,
            learning_rate=number(self.optimizer.learning_rate),
            reward_scale=self.loss.reward_scale,
            with_bonus=bool(self.bonuses),
            ages=ages if self.training.rollout > 1 or self.sampler.submit else (),
            of_sampler=self.sampler.measures(),
            peak_memory=self.room.peak,
        )
        step = Step(progress, metrics, pairs, verdicts)
        mx.clear_cache()  # steps differ in shape, so buffers of this one seldom fit the next
        self.notify("step_finished", step)
        self._guard()
        return step

    def _guard(self) -> None:
        """Raises `StopRun` where going on makes no sense."""
        if wrong := not_finite(self.policy.trainable()):
            raise StopRun(
                f"the update of step {self.steps_taken} made trained weights NaN or infinite, '{wrong[0]}' "
                f"for one. {LOWER_RATE}",
                failed=True,
                resumable=False,
            )
        if self.skipped >= self.training.max_skipped:
            raise StopRun(
                f"the loss or its gradient was infinite or undefined for {self.skipped} steps in a row; they "
                f"were left out. {LOWER_RATE}",
                failed=True,
                resumable=False,
            )
        self.room.check()

    def progress(self, step: int) -> Progress:
        """Where step number `step` (from 1) starts in the run."""
        drawn = (step - 1) * self.batch_size
        size = len(self.prompts) or self.total  # a stream is one epoch
        # Two consecutive seeds belong to one step: a sampler may draw from policy and reference.
        seed = (self.training.seed * 1_000_003 + 2 * step) % 2**63
        return Progress(step, self.steps, drawn / size, self.total / size, seed)

    def idle_schedules(self) -> list[str]:
        """A sentence about each bonus with a schedule over epochs of which this run sees only the first."""
        if self.progress(self.steps).epoch >= 1:
            return []
        why = "this run ends in the first" if self.stream is None else "an iterator of prompts is one epoch"
        return [
            f"bonuses.{place}: its schedule has {bonus.schedule_length} values, one for each epoch, but "
            f"{why}: it never leaves its first value."
            for place, bonus in enumerate(self.bonuses)
            if bonus.schedule_length > 1
        ]

    def notify(self, event: str, *arguments: Any) -> None:
        """Call the method `event` of every observer. A `StopRun` is raised once all have heard of it."""
        stops: list[StopRun] = []
        for observer in self.observers:
            try:
                getattr(observer, event)(*arguments)
            except StopRun as stop:
                stops.append(stop)
        if stops:
            raise stops[0]

    def _check_prompts(self) -> None:
        unknown = {prompt.source for prompt in self.prompts} - self.weights.keys()
        if self.weights and unknown:
            raise UserError(f"weights: there is none for the source '{min(unknown)}' of some prompts.")
        if self.stream is None and self.batch_size > len(self.prompts):
            raise UserError(
                f"training.batch_size: a step takes {self.batch_size} prompts (batch_size x "
                f"gradient_accumulation), but there are only {len(self.prompts)} to train on. "
                "Lower it or add prompts."
            )
        if self.stream is not None and self.training.epochs is not None:
            raise UserError(
                "training.epochs: an iterator of prompts can be read only once, and nobody knows its length. "
                "Say training.iters instead, or pass a list."
            )

    def _check_staleness(self) -> None:
        oldest, allowed = self.training.rollout - 1, self.sampler.max_staleness
        if self.sampler.submit and self.ranks.size > 1:
            raise UserError(
                "sampler: one that draws elsewhere is asked by one process: leave out the ranks, or sample "
                "with another."
            )
        if self.sampler.submit and oldest > allowed:
            raise UserError(
                f"training.rollout: of {oldest + 1} steps that are sampled together the last is {oldest} "
                f"updates old, and sampler.max_staleness allows {allowed}. Lower the one or raise the other."
            )

    def _total_prompts(self) -> int:
        if self.training.epochs is not None:
            total = round(self.training.epochs * len(self.prompts))
            if not total:
                raise UserError(
                    f"training.epochs: {self.training.epochs:g} of a pass over the prompts is none."
                )
            return total
        return (self.training.iters or DEFAULT_ITERS) * self.batch_size

    def prompts_of(self, step: int) -> list[Prompt]:
        """The prompts of step number `step` (from 1), of a sequence of prompts."""
        start = (step - 1) * self.batch_size
        return [self.prompts[i] for i in self.order.indices(start, min(self.batch_size, self.total - start))]

    def _next_prompts(self) -> list[list[Prompt]]:
        """The prompts of the next steps that are sampled together, each with at least one."""
        known = self.steps_taken + len(self.rollouts)
        steps = range(known + 1, min(self.steps, known + self.training.rollout) + 1)
        if self.stream is None:
            return [self.prompts_of(step) for step in steps]
        left = (min(self.batch_size, self.total - (step - 1) * self.batch_size) for step in steps)
        return list(filter(None, (list(islice(self.stream, count)) for count in left)))

    def _next_rollout(self) -> Rollout | None:
        """What the next step trains on; None where no prompt is left."""
        if self.sampler.submit:
            self.sampler.follow(self.policy, self.steps_taken)
        while len(self.rollouts) + self.training.rollout <= self._steps_ahead:
            if not (steps := self._next_prompts()):
                break
            self.rollouts.extend(self._submit(steps) if self.sampler.submit else self._sample(steps))
        return self.rollouts[0] if self.rollouts else None

    @property
    def _steps_ahead(self) -> int:
        """Of how many steps the pairs may be there or on their way: the last become so old, less one."""
        return self.sampler.max_staleness + 1 if self.sampler.submit else self.training.rollout

    def _submit(self, steps: Sequence[Sequence[Prompt]]) -> list[Rollout]:
        """Have the next steps' prompts sampled elsewhere, each step's by themselves."""
        submit, first = self.sampler.submit, self.steps_taken + len(self.rollouts) + 1
        assert submit
        asked = ((len(own), submit(own, self.progress(step))) for step, own in enumerate(steps, first))
        return [Rollout(drawing=drawing) for drawing in asked]

    def _receive(self, rollout: Rollout, drawing: tuple[int, PendingPairs]) -> None:
        """Take the pairs that were sampled elsewhere, which are waited for."""
        count, pending = drawing
        drawn = pending.result()
        check_pairs(type(self.sampler).__name__, drawn, count)
        rollout.pairs, rollout.drawing = self._as_judged(drawn), None

    def _as_judged(self, drawn: Sequence[Pair]) -> list[Pair]:
        """The pairs with what the judge is to read as their text."""
        return [pair.with_thoughts() for pair in drawn] if self.show_thoughts else list(drawn)

    def _ages(self, pairs: Sequence[Pair]) -> list[int]:
        """How many steps ago each completion of the policy was sampled.

        Raises `UserError` where a sampler that draws elsewhere does not say, or where that is too long ago.
        """
        drawn = [c.version for p in pairs for c in (p.first, p.second) if c.source == "policy"]
        ages = [self.steps_taken - version for version in drawn if version is not None]
        known = len(ages) == len(drawn) and all(0 <= age <= self.sampler.max_staleness for age in ages)
        if self.sampler.submit and not known:
            wrong = next(v for v in drawn if v is None or not 0 <= self.steps_taken - v < self._steps_ahead)
            raise UserError(
                f"sampler '{type(self.sampler).__name__}' gave a completion of version {wrong} for step "
                f"{self.steps_taken + 1}, and at most {self.sampler.max_staleness} steps may lie between."
            )
        return ages

    def _sample(self, steps: Sequence[Sequence[Prompt]]) -> list[Rollout]:
        """Sample the next steps' prompts as one pool. A judge that answers elsewhere is asked meanwhile.

        It is at work on the first half while the second is sampled: half of the steps, or of a single one.
        A person is asked about whole steps, and who stops at one is not asked about another.
        """
        clock = Clock()
        self.policy.limit_pools(self.room.pool_bytes(self.policy.pool_bytes))
        prompts = [(step, prompt) for step, own in enumerate(steps) for prompt in own]
        meanwhile = self.judge.submit is not None and not self.judge.interactive
        half = _half(steps) if meanwhile else len(prompts)
        rollouts = [Rollout() for _ in steps]
        progress = self.progress(self.steps_taken + 1)
        for place, part in enumerate(filter(None, (prompts[:half], prompts[half:]))):
            with clock("sampling"):
                # The step's seeds are small numbers: high bits tell its parts apart.
                seeded = evolve(progress, seed=progress.seed + (place << 48))
                asked = [prompt for _, prompt in part]
                drawn = sample_together(self.ranks, self.sampler, self.policy, asked, seeded)
            check_pairs(type(self.sampler).__name__, drawn, len(part))
            drawn = [pair.of_version(self.steps_taken) for pair in self._as_judged(drawn)]
            for step, rows in groupby(zip(part, drawn, strict=True), lambda row: row[0][0]):
                own = [pair for _, pair in rows]
                rollouts[step].pairs += own
                if self.judge.submit:
                    rollouts[step].pending.append(self._ask(own))
        if rollouts and self.judge.submit is None:
            self._judge_together(rollouts, clock)
        for rollout in rollouts:
            rollout.seconds = {phase: value / len(rollouts) for phase, value in clock.seconds.items()}
        return rollouts

    def _judge_together(self, rollouts: Sequence[Rollout], clock: Clock) -> None:
        """All at once; a person is asked step by step."""
        if self.judge.interactive and len(rollouts) > 1:
            for rollout in rollouts:
                self._judge_together([rollout], clock)
            return
        pairs = [pair for rollout in rollouts for pair in rollout.pairs]
        with clock("judging"):
            given = iter(_collect(type(self.judge).__name__, [self._ask(pairs)]))
        for rollout in rollouts:
            rollout.verdicts = list(islice(given, len(rollout.pairs)))

    def _ask(self, pairs: Sequence[Pair]) -> tuple[int, Callable[[], list[Verdict]]]:
        """How many `pairs` there are, and what gives their verdicts; a judge elsewhere begins at once."""
        submit = self.judge.submit
        return len(pairs), submit(pairs).result if submit else partial(self.judge.judge, pairs)

    def _judged(self, rollout: Rollout, clock: Clock) -> list[Verdict]:
        """The verdicts on a rollout, which are waited for where they are not there yet."""
        clock.seconds.update(rollout.seconds)
        for waiting in self.rollouts:
            if waiting.drawing and (waiting is rollout or waiting.drawing[1].done()):
                with clock("sampling"):
                    self._receive(waiting, waiting.drawing)
            # Those of a checkpoint have not been asked about in this process.
            if waiting.pairs and waiting.verdicts is None and not waiting.pending:
                waiting.pending.append(self._ask(waiting.pairs))
        if rollout.verdicts is None:
            with clock("judging"):
                rollout.verdicts = _collect(type(self.judge).__name__, rollout.pending)
        return rollout.verdicts

    def _update(
        self, batch: PreferenceBatch, progress: Progress, clock: Clock
    ) -> tuple[Mapping[str, float], float]:
        """One optimizer step on the labelled pairs, and its gradient's norm; without any, nothing moves.

        A loss that is not finite moves nothing either, whatever its gradient, and its norm is NaN.
        """
        with clock("scoring"):
            gradient, sums = gradient_together(
                self.ranks, batch, lambda part, weight: self.total_gradient(part, progress, weight)
            )
        if gradient is None:
            return {}, 0.0
        found = {name: number(value) for name, value in sums.items()}
        if not math.isfinite(found["loss"]):
            return found, math.nan
        limit = self.training.max_grad_norm
        with clock("update"):
            clipped, length = optim.clip_grad_norm(gradient, limit if limit is not None else math.inf)
            if limit is not None:
                gradient = clipped  # mlx multiplies by 1 where nothing is clipped, which makes a copy
            del clipped
            norm = number(length)
            if math.isfinite(norm):
                self.optimizer.update(self.policy.model, gradient)
                del gradient  # or all of it would be held until the last of it is applied
                mx.eval(self.policy.model.trainable_parameters(), self.optimizer.state)
        return found, norm

    def total_gradient(
        self, batch: PreferenceBatch, progress: Progress, weight: float | None = None
    ) -> tuple[Any, dict[str, mx.array]]:
        """`gradient` of a whole step's batch, in parts that fit the memory; None for an empty one.

        Where the batch is a share of the step, `weight` is that of the whole.
        """
        weight = sum(batch.weight) if weight is None else weight
        gradient: Any = None
        sums: dict[str, mx.array] = {}
        for part in self._micro_batches(batch):
            with lanes.divided(self.policy.scorer.has_lanes):
                part_gradient, part_sums = self.gradient(part, progress, weight)
                gradient = _added(gradient, part_gradient)
                sums = _added(sums, part_sums)
                mx.eval(gradient, sums)
            del part_gradient  # or it would be held while the next one is made, and during the update
        return gradient, sums

    def _micro_batches(self, batch: PreferenceBatch) -> Iterator[PreferenceBatch]:
        """What is scored at once. Where a batch is divided, pairs of similar length stay together."""
        size = min(self.micro_batch, self.training.batch_size)
        if self.training.micro_batch_size is None and len(batch):
            size = min(size, self.pairs_at_once(len(batch), batch.tokens))
            if self.training.memory_limit_gb:
                return self.room.micro_batches(batch, size)
        return batch.split(size) if size >= len(batch) else batch.by_length().split(size)

    @property
    def lanes(self) -> int:
        """Halves of a batch that are scored side by side."""
        return lanes.most() if self.policy.scorer.has_lanes else 1

    def pairs_at_once(self, pairs: int, tokens: int) -> int:
        """Of so many `pairs` with so many `tokens` in all, how many are scored at once: parts of one size."""
        factor = 2 if self.policy.adapter.type == "full" else self.lanes
        parts = -(-tokens // (factor * TARGET_MICRO_BATCH_TOKENS[mx.default_device().type.name]))
        return -(-pairs // max(1, parts))

    def gradient(
        self, batch: PreferenceBatch, progress: Progress, weight: float
    ) -> tuple[Any, dict[str, mx.array]]:
        """Gradient of the weighted ``sum(loss - bonuses) / weight`` in what is trained, and sums to report.

        `weight` is that of the whole step, of which `batch` is a part.
        """
        model = self.policy.model
        model.train()
        mx.random.seed(progress.seed)  # for dropout
        rows = lay_out_batch(batch, mask_thoughts=self.training.thought == "mask")
        common = self.policy.common_layers
        with common.recorded():
            reference = reference_scores(self.policy.reference_scorer, rows, self.needs)
        weights = mx.array(batch.weight)
        masks = {name: mx.array([float(p.source == name) for p in batch.prompts]) for name in self.sources}

        def objective() -> tuple[mx.array, dict[str, mx.array]]:
            with common.given():
                scores = score(self.policy.scorer, rows, batch, reference, self.needs)
            losses = _per_pair(self.loss, self.loss(scores), batch)
            bonuses = (_per_pair(b, b(scores, progress), batch) for b in self.bonuses)
            bonus = sum(bonuses, start=mx.zeros_like(losses))
            total = (weights * (losses - bonus)).sum() / weight
            return total, batch_sums(scores, losses, bonus, weights, masks)

        (_, sums), gradient = nn.value_and_grad(model, objective)()
        return gradient, sums


def _default(kind: str) -> Any:
    """The component of a kind that is used where none is given."""
    from prefloop.registry import DEFAULTS, component

    return component(kind, DEFAULTS[kind])()


def _half(steps: Sequence[Sequence[Prompt]]) -> int:
    """How many prompts the first half of these steps has, or of the only one."""
    if len(steps) == 1:
        return -(-len(steps[0]) // 2)
    return sum(map(len, steps[: -(-len(steps) // 2)]))


def _collect(judge: str, pending: Sequence[tuple[int, Callable[[], list[Verdict]]]]) -> list[Verdict]:
    """All verdicts, of as many pairs as each part says.

    Where one part stops the run, the others, which may cost money, are still waited for.
    """
    verdicts: list[Verdict] = []
    stopped: StopRun | None = None
    for pairs, result in pending:
        try:
            given = result()
        except StopRun as stop:
            stopped = stopped or stop
        else:
            check_verdicts(judge, given, pairs)
            verdicts += given
    if stopped:
        raise stopped
    return verdicts


def _per_pair(component: object, values: mx.array, batch: PreferenceBatch) -> mx.array:
    """`values`, where there is one for each pair: a mean would be broadcast and silently weigh wrong."""
    if values.shape != (len(batch),):
        raise UserError(
            f"{type(component).__name__} gave values of shape {tuple(values.shape)} for {len(batch)} pairs; "
            "a loss or bonus gives one for each pair and reduces nothing."
        )
    return values


def _added(total: Any, part: Any) -> Any:
    return tree_map(lambda a, b: a + b, total, part) if total else part
