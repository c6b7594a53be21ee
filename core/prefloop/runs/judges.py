"""Who evaluates a run: one judge or several, which are asked about the same pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from attrs import evolve, frozen

from prefloop.components import BaseJudge, Judge, adapt
from prefloop.config import Config
from prefloop.errors import UserError, said_of
from prefloop.evaluation import Evaluator
from prefloop.runs.records import JudgeIdentity
from prefloop.runs.run import identify
from prefloop.types import Prompt


@frozen(eq=False)
class Evaluating:
    """A judge of a run's evaluations, and who it is in a ledger."""

    judge: Judge
    identity: JudgeIdentity
    teaches: bool
    """Whether it is the judge of the run."""


def judges_of(config: Config) -> list[Evaluating]:
    """The judges of a run's evaluations, the first of which decides what is best; none where none evaluates.

    Unless it is asked for, the run's own judge does not evaluate where it is a person, or knows only the
    answers in a file. Raises `UserError` where it is asked for and cannot, and where a judge is there twice.
    """
    own, taught_by = adapt(config.judge, BaseJudge), identify(config.judge, config.origins)
    given = config.evaluation.judges
    if not given:
        evaluates = own.evaluates and not own.interactive
        return [Evaluating(config.judge, taught_by, True)] if evaluates else []
    found: dict[JudgeIdentity, str] = {}
    judges = []
    for key, named in given.items():
        if named == "training" and not own.evaluates:
            raise UserError(f"{key}: the judge of the run knows only the answers in a file; name another.")
        judge: Judge = config.judge if isinstance(named, str) else named
        identity = identify(judge, config.origins)
        if identity in found:
            raise UserError(f"{key}: it is the same judge as {found[identity]}, with the same options.")
        found[identity] = key
        judges.append(Evaluating(judge, identity, identity == taught_by))
    return judges


def check_prompts(judge: Judge, prompts: Sequence[Prompt], place: str = "") -> None:
    """Raises `UserError` where a judge, or one that it asks, cannot do with the prompts."""
    able = adapt(judge, BaseJudge)
    with said_of(place) if place else nullcontext():
        able.check_prompts(prompts)
        for i, member in enumerate(able.members):
            check_prompts(member, prompts, f"members.{i}")


Wrap = Callable[[Judge, JudgeIdentity], Judge]


def panel(evaluator: Evaluator, judges: Sequence[Evaluating], wrap: Wrap) -> Evaluator:
    """The evaluator that asks these judges, each as `wrap` makes it. One name never stands for two."""
    names = [one.identity.name for one in judges]
    before = [names[:i].count(name) for i, name in enumerate(names)]
    names = [f"{name} {count + 1}" if count else name for name, count in zip(names, before, strict=True)]
    first, *others = (wrap(one.judge, one.identity) for one in judges)
    teacher = next((name for name, one in zip(names, judges, strict=True) if one.teaches), "")
    return evolve(
        evaluator,
        judge=first,
        judge_name=names[0],
        others=dict(zip(names[1:], others, strict=True)),
        teacher=teacher,
    )
