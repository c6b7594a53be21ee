"""Who judges a run and who evaluates it: one judge, one for each source of prompts, or several at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from attrs import evolve, frozen

from prefloop.components import BaseJudge, Judge, adapt
from prefloop.config import Config
from prefloop.errors import UserError, said_of
from prefloop.evaluation import Evaluator
from prefloop.routing import RoutingJudge
from prefloop.runs.records import JudgeIdentity
from prefloop.runs.run import identify
from prefloop.types import Prompt

Wrap = Callable[[Judge, JudgeIdentity], Judge]


@frozen(eq=False)
class Evaluating:
    """A judge of a run's evaluations, and who it is in a ledger."""

    judge: Judge
    identity: JudgeIdentity
    teaches: bool
    """Whether it is the judge of the run."""
    config: Config

    def wrapped(self, wrap: Wrap) -> Judge:
        """The judge as `wrap` makes it, or each of those that it asks for its sources."""
        return each_identified(self.judge, self.config, wrap)


def judge_of(config: Config) -> Judge:
    """The judge that teaches: that of the run, or one that asks the judge of each prompt's source."""
    if set(config.judge_keys.values()) == {"judge"}:
        return config.judge
    return RoutingJudge(config.judges, config.judge_keys)


def each_identified(judge: Judge, config: Config, wrap: Wrap) -> Judge:
    """A judge as `wrap` makes it; of one that asks others for their sources, each of these.

    So a ledger always names who judged.
    """
    if isinstance(judge, RoutingJudge):
        return judge.through(lambda own: wrap(own, identify(own, config.origins)))
    return wrap(judge, identify(judge, config.origins))


def judges_of(config: Config) -> list[Evaluating]:
    """The judges of a run's evaluations, the first of which decides what is best; none where none evaluates.

    Unless it is asked for, the run's own judge does not evaluate where it is a person, or knows only the
    answers in a file. Raises `UserError` where it is asked for and cannot, and where a judge is there twice.
    """
    teacher = judge_of(config)
    own, taught_by = adapt(teacher, BaseJudge), _identity(teacher, config)
    given = config.evaluation.judges
    if not given:
        evaluates = own.evaluates and not own.interactive
        return [Evaluating(teacher, taught_by, True, config)] if evaluates else []
    found: dict[JudgeIdentity, str] = {}
    judges = []
    for key, named in given.items():
        if named == "training" and not own.evaluates:
            raise UserError(f"{key}: the judge of the run knows only the answers in a file; name another.")
        judge: Judge = teacher if isinstance(named, str) else named
        identity = _identity(judge, config)
        if identity in found:
            raise UserError(f"{key}: it is the same judge as {found[identity]}, with the same options.")
        found[identity] = key
        judges.append(Evaluating(judge, identity, identity == taught_by, config))
    return judges


def check_prompts(judge: Judge, prompts: Sequence[Prompt], place: str = "") -> None:
    """Raises `UserError` where a judge, or one that it asks, cannot do with the prompts that it would get."""
    if isinstance(judge, RoutingJudge):
        for key, own in judge.judges.items():
            check_prompts(own, [p for p in prompts if judge.keys[p.source] == key], key)
        return
    able = adapt(judge, BaseJudge)
    with said_of(place) if place else nullcontext():
        able.check_prompts(prompts)
        for i, member in enumerate(able.members):
            check_prompts(member, prompts, f"members.{i}")


def _identity(judge: Judge, config: Config) -> JudgeIdentity:
    """Who a judge is; of one that asks others, all of them."""
    if not isinstance(judge, RoutingJudge):
        return identify(judge, config.origins)
    every = [identify(member, config.origins) for member in judge.members]
    columns = zip(*((one.name, one.version, one.options) for one in every), strict=True)
    return JudgeIdentity(*(" + ".join(dict.fromkeys(column)) for column in columns))


def panel(evaluator: Evaluator, judges: Sequence[Evaluating], wrap: Wrap) -> Evaluator:
    """The evaluator that asks these judges, each as `wrap` makes it. One name never stands for two."""
    names = [one.identity.name for one in judges]
    before = [names[:i].count(name) for i, name in enumerate(names)]
    names = [f"{name} {count + 1}" if count else name for name, count in zip(names, before, strict=True)]
    first, *others = (one.wrapped(wrap) for one in judges)
    teacher = next((name for name, one in zip(names, judges, strict=True) if one.teaches), "")
    return evolve(
        evaluator,
        judge=first,
        judge_name=names[0],
        others=dict(zip(names[1:], others, strict=True)),
        teacher=teacher,
    )
