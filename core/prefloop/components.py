"""What each kind of component must have, and what it may have besides.

Of each kind there is a protocol with the one method that it needs (`Judge`), so that any plain object will
do, and a base class that spells out every optional ability with its default (`BaseJudge`). Core works with
base classes alone: `adapt` turns a plain object into one, and nothing else asks what a component has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

from attrs import frozen

from prefloop.errors import UserError
from prefloop.types import Evaluation, Need, Pair, Progress, Prompt, Sampling, Scores, Step, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    import mlx.core as mx

    from prefloop.model.policy import Policy
    from prefloop.runs.view import RunView


@runtime_checkable
class Sampler(Protocol):
    """Draws the two completions of each prompt. `BaseSampler` lists what it may do besides."""

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        """One pair per prompt, in the order of `prompts`."""


@runtime_checkable
class Judge(Protocol):
    """Says which completion of each pair is better. `BaseJudge` lists what it may do besides."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair, in the order of `pairs`."""


@runtime_checkable
class Loss(Protocol):
    """A preference loss. `BaseLoss` lists what it may say besides."""

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, shape ``[B]``, not reduced."""


@runtime_checkable
class Bonus(Protocol):
    """A term that is subtracted from the loss. `BaseBonus` lists what it may say besides."""

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        """The bonus of each pair, shape ``[B]``, not reduced."""


@runtime_checkable
class Algorithm(Protocol):
    """A named preset. Its fields are the preset's own options."""

    def settings(self) -> Mapping[str, Any]:
        """Values for ``sampler``, ``judge``, ``loss`` and ``bonuses``, as one writes them in YAML."""


@runtime_checkable
class Stateful(Protocol):
    """A component whose next step depends on more than its options and its arguments."""

    def state(self) -> Mapping[str, mx.array]:
        """What the next step depends on, by names of the component's own. Arrays are not changed after."""

    def restore(self, state: Mapping[str, mx.array]) -> None:
        """Go on from what `state` gave when the checkpoint was made."""


class Pending(Protocol):
    """Verdicts that are on their way, such as a `concurrent.futures.Future`."""

    def result(self) -> list[Verdict]:
        """Wait for them."""


@frozen
class PendingVerdicts:
    """The same, where a function waits for them."""

    result: Callable[[], list[Verdict]]


class PendingPairs(Protocol):
    """Pairs that are sampled elsewhere, such as a `concurrent.futures.Future`."""

    def done(self) -> bool:
        """Whether `result` need not wait."""

    def result(self) -> list[Pair]:
        """Wait for them."""


class Base:
    """The abilities that components of several kinds may have."""

    __slots__ = ()

    shorthand: ClassVar[str | None] = None
    """The option that a bare value sets, as in ``judge: PATH``. Honoured for the one bundled component of a
    kind that has it."""

    def prepare(self) -> None:
        """Load what is needed, or find out that it cannot work here.

        Called before the run directory is made, so that a `UserError` leaves nothing behind.
        """

    def close(self) -> None:
        """Give back what is held. Called when the run has ended."""

    def depends_on(self) -> Sequence[str]:
        """Files, folders and Hub ids of models, as its options name them, whose content decides what it does.

        A run does not go on unasked where one of them has changed.
        """
        return ()

    def state(self) -> Mapping[str, mx.array]:
        """What the next step depends on besides options, arguments, the step's number and its seed.

        It is part of every checkpoint, so that a resumed run goes on as if it had not been interrupted.
        Arrays are not changed after.
        """
        return {}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        """Go on from what `state` gave when the checkpoint was made. Not called where that was nothing."""


class BaseSampler(Base):
    """A sampler with every ability at its default."""

    __slots__ = ()

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        """One pair per prompt, in the order of `prompts`."""
        raise NotImplementedError

    submit: Callable[[Sequence[Prompt], Progress], PendingPairs] | None = None
    """``submit(prompts, progress)`` returns at once something whose ``result()`` waits for the pairs.

    For a sampler that draws elsewhere, on another machine, while the loop trains. It is asked for one step's
    pairs after the other's, `max_staleness` steps before theirs at most; `progress` is that of the step that
    they are for. Each completion of the policy says its version: what `follow` was told then, or later.
    """

    def follow(self, policy: Policy, version: int) -> None:
        """Draw from `policy` as it is now, after `version` steps. Called before every step, and before
        `submit`, of a sampler that has that."""

    @property
    def max_staleness(self) -> int:
        """Most steps that the policy may have taken since a completion was sampled from it, of a sampler
        with `submit`. Any other is asked when the step comes, or its `training.rollout`."""
        return 0

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Take in what was judged of a step, before its update.

        The loop calls it once for each step that it takes, as it calls `BaseJudge.learn`, on every rank with
        the pairs of all. What `state` gives may depend on it, and then on no other call.
        """

    def measures(self) -> Mapping[str, float]:
        """Numbers of its own for the metrics of the step that has just been taken, by their names."""
        return {}

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise `UserError` where the prompts of the run will not do.

        Called before anything is written. For a sampler that needs more of a prompt than its text.
        """

    def check_policy(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        """Raise `UserError` where this policy cannot learn from what is drawn for the prompts of the run.

        Called before anything is written. For a sampler whose completions the policy has not written.
        """

    @property
    def sampling(self) -> Sampling:
        """How it draws: what evaluations and the memory plan go by."""
        return Sampling()

    @property
    def reference_samples(self) -> bool:
        """Whether it draws completions from the reference, as a bonus may need."""
        return False


class BaseJudge(Base):
    """A judge with every ability at its default."""

    __slots__ = ()

    answers: Callable[[Sequence[Pair]], Iterator[tuple[int, Verdict]]] | None = None
    """``answers(pairs)`` yields each verdict with the place of its pair as soon as it is given.

    For a judge that comes to its verdicts one by one, as a person does: each is written down at once, so
    that none is lost however the run ends. Where a place comes twice, the last verdict counts.
    """
    submit: Callable[[Sequence[Pair]], Pending] | None = None
    """``submit(pairs)`` returns at once something whose ``result()`` waits for the verdicts.

    For a judge that answers elsewhere, such as on a server. It gets each half of what is sampled together as
    soon as that is there, so that it works while the other half is sampled; of several steps, each step's
    pairs by themselves. Of one that has `answers` too, a run calls that instead, in a thread of its own.
    Where the judge is `interactive`, it gets whole steps, to be shown to people, and they are waited for in
    `answers`.
    """

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise `UserError` where the prompts of the run, or of its evaluations, will not do.

        Called before anything is written. For a judge that needs more of a prompt than its text. Those of its
        `members` are called as well.
        """

    def attach(self, folder: Path) -> None:
        """Keep in `folder`, the run's, what has to outlive the process. Called before the first pair."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair, in the order of `pairs`."""
        raise NotImplementedError

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Take in what was judged of a step, before its update.

        The loop calls it once for each step that it takes, in their order, with the same pairs and verdicts
        in a run that was interrupted: what `state` gives may depend on it, and on no other call. Nothing of
        an evaluation is among them.
        """

    def recall(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Hear what is known already of the pairs that are to be judged next.

        A run tells it what its ledger has, nothing for one, before each time that it judges pairs. A judge
        that spreads something over the pairs of a step, such as a budget, then decides as if it had not
        been interrupted. Nothing of an evaluation is told.
        """

    @property
    def members(self) -> tuple[Judge, ...]:
        """The judges that it asks, of one that is made of others. A dry run prepares all but the people."""
        return ()

    @property
    def pairs_per_call(self) -> int | None:
        """How many pairs at most a run shows it in one call of `judge`; None is all that there are.

        The verdicts of a call are written down before the next: a run that is killed loses one call's.
        """
        return None

    def pass_bytes(self, pairs: int, shortest: int, longest: int, completion: int) -> int:
        """Most bytes that judging so many pairs takes for a while, besides what `prepare` has loaded.

        The prompts have from `shortest` to `longest` tokens of the policy, each completion `completion` at
        most. Asked once it is prepared, for the memory plan of a run.
        """
        return 0

    @property
    def symmetric(self) -> bool:
        """Whether the order of the two completions cannot matter. If not, evaluations ask in both orders."""
        return False

    @property
    def interactive(self) -> bool:
        """Whether a person answers: one who is not asked twice, nor during a dry run."""
        return False

    @property
    def spread(self) -> bool:
        """Whether it judges only where all ranks of a run ask it the same, as of a model that lies on all."""
        return False

    @property
    def evaluates(self) -> bool:
        """Whether it can judge completions that it has never seen, as evaluations need."""
        return True


class BaseLoss(Base):
    """A loss with every ability at its default."""

    __slots__ = ()

    def __call__(self, scores: Scores) -> mx.array:
        """The loss of each pair, shape ``[B]``, not reduced."""
        raise NotImplementedError

    @property
    def needs(self) -> Set[Need]:
        """What scoring has to provide."""
        return frozenset({"reference"})

    @property
    def reward_scale(self) -> float:
        """Reported rewards are this times the log-ratio of policy to reference: DPO's beta."""
        return 1.0

    @property
    def soft_labels(self) -> bool:
        """Whether it reads `Scores.probability`, so that a tie can be kept as a probability of one half."""
        return False


class BaseBonus(Base):
    """A bonus with every ability at its default."""

    __slots__ = ()

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        """The bonus of each pair, shape ``[B]``, not reduced."""
        raise NotImplementedError

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Take in what was judged of a step, before its update.

        The loop calls it as it calls `BaseSampler.learn`. What `state` gives may depend on it, and on no
        other call: a bonus is computed in parts, in as many as the memory asks for.
        """

    @property
    def needs(self) -> Set[Need]:
        """What scoring has to provide."""
        return frozenset({"reference"})

    @property
    def schedule_length(self) -> int:
        """How many epochs its schedule tells apart: the plan says so where a run ends before the second."""
        return 1

    @property
    def sign(self) -> int | None:
        """1 where it is never negative, -1 where it is never positive; only the conformance kit reads it."""
        return None

    @property
    def zero_at_reference(self) -> bool:
        """Whether it is zero where policy equals reference; only the conformance kit reads it."""
        return False


class Observer:
    """Sees a run and changes nothing. Override what is of interest; any plain object will do too."""

    def run_started(self, run: RunView) -> None:
        """Everything is loaded; the first step comes next."""

    def pairs_judged(self, progress: Progress, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Verdicts have come in; nothing is learnt from them yet."""

    def step_finished(self, step: Step) -> None:
        """A step was taken."""

    def evaluating(self, phase: str, done: int, total: int) -> None:
        """Part of an evaluation is done: so many of its answers are ``sampled``, of its pairs ``judged`` or
        of its answers ``measured``, as `phase` says.

        It comes often, once for each token that is sampled. Where `StopRun` is raised the evaluation is given
        up and is made again by a resumed run, which asks for no verdict twice.
        """

    def evaluated(self, evaluation: Evaluation) -> None:
        """The policy was compared with the start of the run."""

    def checkpoint_saved(self, step: int, path: str) -> None:
        """A checkpoint is complete on disk."""

    def run_finished(self, run: RunView) -> None:
        """No further step comes; the final adapters are on disk."""

    def prepare(self) -> None:
        """Find out that it cannot work here.

        Called before the run directory is made, so that a `UserError` leaves nothing behind.
        """


B = TypeVar("B", BaseSampler, BaseJudge, BaseLoss, BaseBonus, Observer)

_FORMERLY = {"reward_scale": "beta"}
"""Abilities under the names by which components of the first version have them."""


def adapt(component: object, base: type[B]) -> B:
    """`component` as a `base`, which it may be already.

    A plain object gets the defaults of whatever abilities it lacks. Those that it has are read once, here.
    Raises `UserError` for what cannot be one, as it lacks the method that its kind must have.
    """
    if problem := unfit(component, base):
        raise UserError(f"{problem}.")
    if isinstance(component, base):
        return component
    found: dict[str, Any] = {"adapted": component}
    for name in required_and_abilities(base):
        for spelling in (name, _FORMERLY.get(name, name)):
            if hasattr(component, spelling):
                value = getattr(component, spelling)
                found[name] = staticmethod(value) if callable(value) else value
                break
    made: B = type(type(component).__name__, (base,), found)()
    return made


def unfit(component: object, base: type) -> str:
    """Why `component` cannot be a `base`, without a full stop; empty where it can."""
    kind = base.__name__.removeprefix("Base").lower()
    if isinstance(component, type):
        return f"{component.__name__} is a class, not a {kind}: pass an instance of it"
    if base is Observer:
        events = [name for name in vars(Observer) if not name.startswith("_") and name != "prepare"]
        could_be = not callable(component) and not isinstance(component, _PLAIN_VALUES)
        fits = could_be or any(hasattr(component, event) for event in events)
        needed = f"none of the methods {', '.join(events)}"
    else:
        method = _REQUIRED[base]
        fits = getattr(type(component), method, None) is not getattr(base, method)
        fits = fits and callable(getattr(component, method, None))
        needed = "nothing to be called" if method == "__call__" else f"no method {method}()"
    return "" if fits else f"{_shown(component)} is no {kind}: it has {needed}"


_PLAIN_VALUES = (str, int, float, dict, list)
_REQUIRED: dict[type, str] = {
    BaseSampler: "sample",
    BaseJudge: "judge",
    BaseLoss: "__call__",
    BaseBonus: "__call__",
}


def _shown(component: object) -> str:
    """A component in words: what was given where that is short, else its class."""
    short = isinstance(component, (*_PLAIN_VALUES, type(None))) and len(repr(component)) <= 60
    return repr(component) if short else getattr(component, "__qualname__", type(component).__name__)


def check_verdicts(judge: str, verdicts: Any, pairs: int) -> None:
    """Raises `UserError` where what `judge`, a name, gave is not one `Verdict` for each pair it was shown."""
    _check_given(f"judge '{judge}'", verdicts, Verdict, pairs, "pairs")


def check_pairs(sampler: str, pairs: Any, prompts: int) -> None:
    """Raises `UserError` where what `sampler`, a name, gave is not one `Pair` for each prompt."""
    _check_given(f"sampler '{sampler}'", pairs, Pair, prompts, "prompts")


def _check_given(who: str, given: Any, kind: type, wanted: int, of: str) -> None:
    name = kind.__name__
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise UserError(f"{who} gave {_shown(given)}, not a list with a {name} for each of {wanted} {of}.")
    for one in given:
        if not isinstance(one, kind):
            raise UserError(f"{who} gave {_shown(one)} where a {name} belongs.")
    if len(given) != wanted:
        raise UserError(
            f"{who} gave {len(given)} {name.lower()}s for {wanted} {of}; "
            "it must give one for each, in their order."
        )


def shorthand_of(cls: Any) -> str | None:
    """The option that a bare value sets, as the class of a component or of a section says, or None."""
    return vars(cls).get("shorthand") if isinstance(cls, type) else None


def required_and_abilities(base: type) -> list[str]:
    """The names of a base class: the method that it needs, and every ability."""
    names = [name for cls in base.__mro__[:-1] for name in vars(cls)]
    return [name for name in dict.fromkeys(names) if name == "__call__" or not name.startswith("_")]
