"""The plan of a configuration on several machines: what `prefloop plan` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from prefloop.components import BaseJudge, adapt
from prefloop.config import Config
from prefloop.errors import UserError
from prefloop.ranks.judging import sits_on_first
from prefloop.runs.plan import Memory, Plan
from prefloop.runs.planning import make_plan
from prefloop.runs.preparation import Prepared, close_components, prepare
from prefloop_plugins.scaling.machines import Machines
from prefloop_plugins.scaling.measuring import measure, with_share
from prefloop_plugins.scaling.phases import Phases, phases_of_runs
from prefloop_plugins.scaling.simulation import simulated
from prefloop_plugins.scaling.ways import Advice, Way, advise, ways
from prefloop_plugins.scaling.wire import Work, json_bytes, largest_share


@frozen
class Needs:
    """Bytes of memory at the peak."""

    first: int
    """Of the first machine."""
    others: int
    """Of each of the others; 0 where there is none."""


@frozen
class ScalingPlan:
    """What machines bring a run, each way and number of them."""

    machines: Machines
    work: Work
    phases: tuple[Phases, ...] | None
    ways: tuple[Way, ...]
    needs: tuple[Needs, ...]
    """Of each way."""
    fits: tuple[bool, ...]
    advice: Advice | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        link = self.machines.link
        rows = zip(self.ways, self.needs, self.fits, strict=True)
        return {
            "link": {"bytes_per_second": link.rate, "latency_seconds": link.latency_ms / 1e3},
            "machines": [asdict(one) for one in self.machines.each],
            "work": {**asdict(self.work), "gradient_bytes": self.work.gradient_bytes},
            "phases": [asdict(one) for one in self.phases] if self.phases else None,
            "ways": [{**asdict(way), "memory": asdict(needs), "fits": fits} for way, needs, fits in rows],
            "advice": asdict(self.advice) if self.advice else None,
            "notes": list(self.notes),
        }


def plan_machines(
    config: Config, machines: Machines, runs: Sequence[Path] = (), steps: int | None = None
) -> ScalingPlan:
    """Plan `config` on `machines`; phases come from `runs`, or from `steps` steps that are taken here.

    Nothing is written. Raises `UserError`.
    """
    try:
        prepared = prepare(config).with_components(people=False)
        return _planned(prepared, machines, runs, steps)
    finally:
        close_components(config)


def _planned(prepared: Prepared, machines: Machines, runs: Sequence[Path], steps: int | None) -> ScalingPlan:
    plan, loop = prepared.plan, prepared.loop
    token_bytes, prompt_bytes = json_bytes(loop.prompts)
    work = Work(
        parameters=plan.trained_parameters,
        adapter_bytes=plan.memory.trained,
        pairs=plan.prompts_per_step,
        tokens=loop.sampler.sampling.max_tokens,
        token_bytes=token_bytes,
        prompt_bytes=prompt_bytes,
        one_judge=sits_on_first(loop.judge, prepared.config.judging.ranks),
        adapters=loop.policy.adapter.type != "full",
    )
    found = ways(work, None, len(machines.each), machines.link)
    needs = [_needs(prepared, work, way) for way in found]  # before steps are taken
    phases = _phases(prepared, machines, runs, steps)
    if phases:
        work = evolve(work, tokens=phases[0].tokens)
        found = ways(work, phases, len(machines.each), machines.link)
        found = [simulated(way, work, phases, machines.link) for way in found]
    fits = [_fits(machines, way, own) for way, own in zip(found, needs, strict=True)]
    advice = advise(found, fits)
    notes = tuple(_notes(work, loop.judge, phases, steps is not None and loop.judge.interactive))
    return ScalingPlan(machines, work, phases, tuple(found), tuple(needs), tuple(fits), advice, notes)


def _phases(
    prepared: Prepared, machines: Machines, runs: Sequence[Path], steps: int | None
) -> tuple[Phases, ...] | None:
    """The phases of each machine, the first one first; None where nothing was measured."""
    trained, each = prepared.plan.trained_parameters, machines.each
    if not runs and not steps and not any(one.measured for one in each):
        return None
    missing = [place for place, one in enumerate(each) if not one.measured]
    here: Phases | None = None
    if runs:
        here = phases_of_runs(runs, trained)
    elif steps and missing:
        pairs = prepared.loop.batch_size
        sizes = dict.fromkeys((pairs, largest_share(pairs, len(each))))
        here = measure(prepared.loop, list(sizes), steps)
    if missing and here is None:
        raise UserError(
            f"--machines: machine number {missing[0] + 1} has no 'measured', and others have: give each its "
            "run, or --measured RUN for those without."
        )
    own = {one.measured: phases_of_runs([Path(one.measured)], trained) for one in each if one.measured}
    return tuple(own[one.measured] if one.measured else here.faster(one.speed) for one in each)  # type: ignore[union-attr]


def _needs(prepared: Prepared, work: Work, way: Way) -> Needs:
    """What the machines of a way have to hold."""
    whole = prepared.plan.memory
    if way.name == "one":
        return Needs(whole.total, 0)
    if way.name == "workers":
        portion = _memory(prepared, largest_share(work.pairs, way.machines - 1))
        return Needs(whole.total, portion.weights + portion.trained + portion.caches)
    share = _memory(prepared, largest_share(work.pairs, way.machines)).total
    buffers = 2 * work.gradient_bytes  # what is sent, and the sum
    return Needs(share + buffers, share + buffers)


def _memory(prepared: Prepared, pairs: int) -> Memory:
    """The plan of a run with so many pairs a step."""
    judges = [adapt(judge, BaseJudge) for judge in prepared.config.judges.values()]
    held_out = prepared.evaluator.prompts if prepared.evaluator else ()
    plan: Plan = make_plan(
        with_share(prepared.loop, pairs),
        prepared.prompts,
        held_out,
        judge=prepared.plan.memory.judge,
        judges=judges,
    )
    return plan.memory


def _fits(machines: Machines, way: Way, needs: Needs) -> bool:
    each = machines.each[: way.machines]
    wanted = [needs.first, *[needs.others] * (way.machines - 1)]
    return all(
        one.memory_gb is None or count <= one.memory_gb * 1e9 for one, count in zip(each, wanted, strict=True)
    )


def _notes(work: Work, judge: BaseJudge, phases: Sequence[Phases] | None, no_person: bool) -> list[str]:
    """What the numbers leave out or take for granted."""
    notes = []
    if phases is None:
        notes.append(
            "nothing was measured, so no seconds: --measure 5 takes steps on this machine, --measured RUN "
            "takes those of a run"
        )
    elif len(phases[0].sizes) == 1:
        notes.append(
            f"measured with {phases[0].sizes[0]} pairs alone: a share is taken to need its share of the time,"
            " and needs more, as large pools are faster; --measured a run with another batch_size as well"
        )
    if not work.adapters:
        notes.append("all weights are trained (adapter.type: full): workers take adapters only")
    if judge.interactive:
        notes.append("a person judges: the first machine asks, and the others wait")
    elif work.one_judge:
        notes.append("the judge answers elsewhere, or remembers something: the first machine asks for all")
    if no_person:
        notes.append("seconds are without the time of the person who judges")
    return notes
