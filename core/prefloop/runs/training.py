"""A whole run: load, evaluate, loop, evaluate, save; or go on with one that was interrupted."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
from attrs import asdict, define, evolve, field

from prefloop.beginning import beginning, beginning_of, begun
from prefloop.components import BaseJudge, Judge, Observer, adapt
from prefloop.config import Config, load_config
from prefloop.config.dump import to_plain
from prefloop.errors import StopRun, UserError
from prefloop.evaluation import Evaluator
from prefloop.loop import LOWER_RATE, Loop
from prefloop.metrics import number
from prefloop.model.adapters import load_adapters
from prefloop.ranks.following import FollowedRun
from prefloop.ranks.group import joined
from prefloop.ranks.judging import judge_together
from prefloop.ranks.parent import tell
from prefloop.ranks.sharing import check_equal
from prefloop.registry import BUNDLED, DEFAULTS, Registry
from prefloop.runs.asking import asked
from prefloop.runs.checkpoint import load_checkpoint, not_sound, prune, ranked, read_state, save_checkpoint
from prefloop.runs.dependencies import Change, changed, machine, recorded
from prefloop.runs.files import disk_errors_as_user_errors
from prefloop.runs.guards import Guard
from prefloop.runs.judges import each_identified, judge_of, judges_of, panel
from prefloop.runs.ledger import CachedJudge
from prefloop.runs.plan import Division
from prefloop.runs.planning import check_memory
from prefloop.runs.preparation import Prepared, close_components, prepare
from prefloop.runs.records import EXAMPLES, JudgeIdentity, finite
from prefloop.runs.run import Recorder, Run, check_config, choose_path, refuse_taken
from prefloop.runs.view import CONFIG, RunView, flat, open_run
from prefloop.sampling.generator import POOL_BYTES
from prefloop.types import Evaluation

_MAY_CHANGE = (
    "iters epochs report_every evaluate_every save_every keep_last keep_best keep_spread early_stop "
    "min_delta load_best max_kl max_skipped memory_limit_gb"
)
MAY_CHANGE = frozenset(f"training.{name}" for name in _MAY_CHANGE.split()) | {
    "judging.timeout",
    "output.report",
}
LENGTH_KEYS = {"training.iters", "training.epochs"}


def train(config: Config, *, observers: Sequence[Any] = ()) -> Run:
    """Run `config` to its end and return the finished run. Nothing is printed; give an observer for that.

    The run directory is made once everything is loaded. An observer or judge that raises `StopRun` ends the
    run cleanly: it is saved, its status is ``stopped`` (``failed`` where the stop says so), and `resume`
    goes on with it, as it does after anything else that broke the run. Raises `UserError` for what is the
    user's to mend.
    """
    ranks = joined()
    with begun(beginning()), ranks.ending_together():
        path = choose_path(config)
        if ranks.first:
            refuse_taken(path)
            tell(run=str(path.absolute()))
        prepared = prepare(config, ranks)
        check_memory(prepared.plan, config.training.memory_limit_gb)
        prepared = prepared.with_components()
        check_memory(prepared.plan, config.training.memory_limit_gb)
        depends_on = prepared.dependencies()
        _check_ranks(prepared, depends_on)
        with (
            Run.create(path, config, prepared.plan, depends_on) if ranks.first else FollowedRun(path, config)
        ) as run:
            return _Session(config, prepared.loop, prepared.evaluator, run).drive(observers)


def resume(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    config: Config | None = None,
    observers: Sequence[Any] = (),
    accept_change: bool = False,
) -> Run:
    """Go on with an interrupted run from its last checkpoint, to the same end as without interruption.

    A run that is finished, with nothing changed, is returned as it is.

    `overrides` may change how long the run is and how it is reported and saved, nothing that would make it
    another run. A program that passed components of its own to `train` gives the same `config` again, since
    the saved one cannot name them. With `accept_change`, the run goes on although something that it depends
    on, such as its prompts, is no longer what it was, and ``run.json`` says so. Raises `UserError` where
    `path` holds no run, where another process holds it, where `overrides` change more than that, and where
    its checkpoints are gone.
    """
    view, ranks = open_run(path), joined()
    tell(run=str(view.path.absolute()))
    with begun(beginning_of(view.manifest)), ranks.ending_together():
        config = config or saved_config(view.path, overrides)
        if is_complete(view, config):
            return Run(view.path, config, view.manifest)
        last = _last_checkpoint(view, config.training.save_every)
        for damage in view.check():
            logging.getLogger("prefloop").warning(damage.text)
        written = view.manifest.get("plan", {}).get("division")
        prepared = prepare(config, ranks)
        depends_on = prepared.dependencies()
        changes = _changes(view, depends_on, accept_change)
        # A run from before that was written down divided no step.
        division = Division(**written) if written else Division(prepared.loop.micro_batch, POOL_BYTES)
        prepared = prepared.with_components(division)
        _check_ranks(prepared, depends_on, last)
        with (
            Run.open(view.path, config, prepared.plan, depends_on, changes)
            if ranks.first
            else FollowedRun(view.path, config)
        ) as run:
            return _Session(config, prepared.loop, prepared.evaluator, run).drive(observers, last)


def _check_ranks(prepared: Prepared, depends_on: Mapping[str, str], last: Path | None = None) -> None:
    """Raises `UserError` where the ranks that are to share the run are not about to do the same."""
    ranks, config = prepared.loop.ranks, prepared.config
    if ranks.size == 1:
        return
    settings = flat(to_plain(config, config.origins))
    trained = prepared.loop.policy.trainable().values()
    size = sum(number(mx.abs(value).sum().astype(mx.float32)) for value in trained)
    own = {key: repr(value) for key, value in settings.items() if not key.startswith("output.")}
    last_step = {"the last checkpoint": last.name if last else "none"}
    check_equal(ranks, {**own, **depends_on, **last_step, "the size of what is trained": size})


def is_complete(run: RunView, config: Config) -> bool:
    """Whether nothing is left to do of a run, as it is finished and `config` is what it ran with."""
    return run.status == "finished" and flat(to_plain(config, config.origins)) == flat(run.settings)


def _last_checkpoint(run: RunView, save_every: int) -> Path | None:
    """Raises `UserError` where the run has saved some that are gone: it would begin anew, over its files."""
    saved = run.checkpoints()
    if saved:
        return saved[max(saved)]
    taken = max((m.step for m in run.metrics().records), default=0)
    if taken and (run.status in ("finished", "stopped") or 0 < save_every < taken):
        raise UserError(
            f"'{run.path}' has taken {taken} steps, and its checkpoints are gone: put them back, or start a "
            "new run."
        )
    return None


def _changes(run: RunView, depends_on: Mapping[str, str], accepted: bool) -> list[Change]:
    """What the run depends on and is no longer what it was.

    Raises `UserError` for any of that which was not accepted; that the machine is another is only said.
    """
    step = max(run.checkpoints(), default=0)
    found = changed(recorded(run), depends_on, step)
    if found and not accepted:
        names = ", ".join(change.what for change in found)
        raise UserError(
            f"'{run.path}' cannot go on as it began: since its first {step} steps what it depends on has "
            f"changed: {names}. Put it back as it was, or go on with the change, which the run's record will "
            f"tell: prefloop train --resume {shlex.quote(str(run.path))} --accept-change"
        )
    others = changed(run.manifest.get("machine", {}), machine(), step)
    if others:
        told = ", ".join(f"{change.what} from {change.before} to {change.after}" for change in others)
        logging.getLogger("prefloop").warning(
            f"The last bits may differ from here on, as the machine has changed: {told}."
        )
    return [*found, *others]


@define(eq=False)
class _Session:
    """One stretch of a run, from its start or a checkpoint to its end or the next interruption."""

    config: Config
    loop: Loop
    evaluator: Evaluator | None
    run: Run
    guard: Guard = field(init=False)
    evaluations: list[Evaluation] = field(factory=list, init=False)
    adapters_step: int | None = field(default=None, init=False)
    """The step of the adapters that were put back at the end, where some were."""
    stop: StopRun | None = field(default=None, init=False)
    """What ends the run before its last step, if something does."""
    started: float = field(factory=time.perf_counter, init=False)

    def __attrs_post_init__(self) -> None:
        self.guard = Guard(self.config)

    def drive(self, observers: Sequence[Any], last: Path | None = None) -> Run:
        """Take the steps that are left, and leave the run as files whatever happens."""
        config, loop, run = self.config, self.loop, self.run
        try:
            with disk_errors_as_user_errors(run.path):
                if last:
                    self.evaluations = load_checkpoint(last, loop)
                    self.guard.restore(read_state(last).get("guard", {}))
                run.begin(loop.steps_taken, {e.step for e in self.evaluations})
                run.ledger.share(loop.ranks)
                self._cache_judgements()
                writers = (Recorder(run), *_report(config), *config.observers) if loop.ranks.first else ()
                everyone = (*writers, *observers, self.guard)
                loop.observers = tuple(adapt(observer, Observer) for observer in everyone)
                status = self._steps()
                final = self._choose(status)
                if not not_sound(loop):
                    run.save_policy(loop.policy)
                run.finish(status, self._summary(final))
        except BaseException as error:
            run.fail(error)
            raise
        finally:
            close_components(config, loop.ranks)
        with suppress(StopRun):  # it has ended
            loop.notify("run_finished", run)
        return run

    def _cache_judgements(self) -> None:
        """Put the ledger in front of the judges."""
        loop = self.loop
        if loop.ranks.first:
            loop.judge.attach(self.run.path)
        teaching = partial(self._kept, step=lambda: loop.steps_taken + 1)
        loop.judge = adapt(each_identified(judge_of(self.config), self.config, teaching), BaseJudge)
        if self.evaluator:
            evaluator = evolve(self.evaluator, tell=partial(loop.notify, "evaluating"))
            evaluating = partial(self._kept, step=lambda: loop.steps_taken, evaluation=True)
            self.evaluator = panel(evaluator, judges_of(self.config), evaluating)

    def _kept(self, judge: Judge, identity: JudgeIdentity, **options: Any) -> BaseJudge:
        """A judge with the ledger in front of it, as the ranks ask it together."""
        judging, name = self.config.judging, identity.name

        def kept(judge: BaseJudge, hurried: bool) -> BaseJudge:
            timeout = judging.timeout if hurried else None
            return CachedJudge(judge, identity, self.run.ledger, timeout=timeout, **options)

        def hurry(pairs: int) -> AbstractContextManager[None]:
            return asked(name, judging.timeout and judging.timeout * pairs)

        return judge_together(self.loop.ranks, judge, judging.on, kept=kept, hurry=hurry)

    def _steps(self) -> str:
        """Take the steps that are left; returns the status that the run ends with."""
        try:
            with self.loop.ranks.ending_together():
                self.loop.notify("run_started", self.run)
                self._between_steps()
                steps = iter(self.loop)
                while not self.stop and not self._out_of_patience() and next(steps, None):
                    self._between_steps()
                if self.stop:
                    self.loop.ranks.tell(self.stop)
                else:
                    self.guard.check_end()
                    self._check_learnt()
        except StopRun as stop:
            self.stop = stop
            if not not_sound(self.loop):
                self._save()
        if self.stop:
            self.run.manifest |= {"reason": self.stop.reason, "resumable": self.stop.resumable}
            return "failed" if self.stop.failed else "stopped"
        if self.loop.steps_taken < self.loop.steps:
            self.run.manifest["reason"] = (
                f"ended early after step {self.loop.steps_taken}: the win rate has not improved in "
                f"{self.config.training.early_stop} evaluations (training.early_stop)"
            )
        return "finished"

    def _check_learnt(self) -> None:
        """Raises `StopRun` where no step of a run has taught anything: it has not ended well."""
        if self.loop.steps_taken and not number(self.loop.optimizer.step):
            raise StopRun(
                f"in {self.loop.steps_taken} steps nothing was learnt: no pair had a label, or every gradient"
                " was left out. Look at judgements.jsonl and metrics.jsonl.",
                failed=True,
                resumable=False,
            )

    def _between_steps(self) -> None:
        """Evaluate and save where that is due, and was not done before an interruption."""
        training, number, end = self.config.training, self.loop.steps_taken, self.loop.steps
        evaluated = bool(self.evaluations) and self.evaluations[-1].step == number
        due = number in (0, end) or _is_multiple(number, training.evaluate_every)
        if self.evaluator and due and not evaluated:
            self.evaluations.append(self.evaluator(number))
            self.loop.notify("evaluated", self.evaluations[-1])
        among_the_best = number in [e.step for e in ranked(self.evaluations)[: training.keep_best]]
        last = number == end or self._out_of_patience()
        if number and (last or among_the_best or _is_multiple(number, training.save_every)):
            self._save()

    def _out_of_patience(self) -> bool:
        """Whether the last ``training.early_stop`` evaluations have brought nothing better."""
        training, rates = self.config.training, [e.win_rate.rate for e in self.evaluations]
        patience = training.early_stop
        return patience is not None and evaluations_since_best(rates, training.min_delta) >= patience

    def _save(self) -> None:
        if wrong := not_sound(self.loop):
            raise StopRun(
                f"trained weights or the optimizer's state became NaN or infinite, '{wrong}' for one. "
                f"{LOWER_RATE}",
                failed=True,
                resumable=False,
            )
        if not self.loop.ranks.first:
            return
        folder = save_checkpoint(self.run.path, self.loop, self.evaluations, self.guard.state())
        self.run.count_lines()
        prune(self.run.path, self.config.training, self.loop.steps, self.evaluations)
        try:
            self.loop.notify("checkpoint_saved", self.loop.steps_taken, str(folder))
        except StopRun as stop:  # once more would save the same
            self.stop = self.stop or stop

    def _choose(self, status: str) -> Evaluation | None:
        """The evaluation of what is saved: the policy as it is, or as it was at its best, put back.

        Weights that are not finite are not saved: where there is a checkpoint, the last one is put back.
        """
        saved = self.run.checkpoints()
        if not_sound(self.loop) and saved:
            self.adapters_step = max(saved)
            load_adapters(self.loop.policy.model, str(saved[self.adapters_step]))
            return next((e for e in self.evaluations if e.step == self.adapters_step and e.step), None)
        found = self._best()
        if found is None or status != "finished" or not self.config.training.load_best:
            return self.evaluations[-1] if len(self.evaluations) > 1 else None
        chosen, folder = found
        load_adapters(self.loop.policy.model, str(folder))
        self.adapters_step = chosen.step
        return chosen

    def _best(self) -> tuple[Evaluation, Path] | None:
        """The best evaluation of which there is a checkpoint."""
        saved = self.run.checkpoints()
        return next(((e, saved[e.step]) for e in ranked(self.evaluations) if e.step in saved), None)

    def _summary(self, final: Evaluation | None) -> dict[str, Any]:
        """What the run came to, for ``run.json``."""
        seconds = self.run.summary.get("seconds", 0.0) + time.perf_counter() - self.started
        summary: dict[str, Any] = {"steps": self.loop.steps_taken, "seconds": round(seconds, 1)}
        if self.adapters_step is not None:
            summary["adapters_step"] = self.adapters_step
        if not self.evaluations:
            return summary
        sides = {"before": self.evaluations[0]} | ({"after": final} if final else {})
        summary["win_rate"] = {side: asdict(e.win_rate) for side, e in sides.items()}
        metrics = {side: finite(e.metrics) for side, e in sides.items()}
        for place, other in enumerate(self.evaluations[0].others):
            rates = {side: asdict(e.others[place].win_rate) for side, e in sides.items()}
            summary.setdefault("other_judges", {})[other.judge] = rates
        for name in self.evaluations[0].metrics:
            summary[name] = {side: values.get(name) for side, values in metrics.items()}
        if found := self._best():
            best, folder = found
            where = str(folder.relative_to(self.run.path))
            summary["best"] = {"step": best.step, "checkpoint": where, "win_rate": asdict(best.win_rate)}
        summary["examples"] = [
            {"prompt": p.prompt.text, "before": p.second.text, "after": p.first.text}
            for p in (final or self.evaluations[0]).pairs[:EXAMPLES]
        ]
        return summary


def _report(config: Config) -> list[object]:
    """What writes the report at the end, unless it is not wanted or not there."""
    registry = Registry(config.plugins.disable)
    if not config.output.report or BUNDLED in registry.disabled:
        return []
    reporter = registry.component("observer", DEFAULTS["report"])
    return [] if any(isinstance(observer, reporter) for observer in config.observers) else [reporter()]


def _is_multiple(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def evaluations_since_best(rates: Sequence[float], min_delta: float) -> int:
    """How many of the last rates are not more than `min_delta` above the best before them.

    Small gains add up: what is compared with is the last rate that was better, not the last rate.
    """
    best, count = -1.0, 0
    for rate in rates:
        better = best < 0 or rate > best + min_delta
        best, count = (rate, 0) if better else (best, count + 1)
    return count


# What may change when a run is taken up again


def saved_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of the run in `path`, with what `overrides` may change.

    Raises `UserError` where `path` holds no run or a changed configuration, and where `overrides` would
    make it another run: its steps so far were taken with the settings that it has.
    """
    run = open_run(path)
    check_config(path)
    with begun(beginning_of(run.manifest)):
        before = load_config(path / CONFIG)
        after = load_config(path / CONFIG, overrides) if overrides else before
    old, new = (flat(to_plain(config, config.origins)) for config in (before, after))
    changed = {key for key in old | new if old.get(key) != new.get(key)}
    if refused := sorted(changed - MAY_CHANGE):
        differences = "; ".join(f"{key} from {old.get(key)!r} to {new.get(key)!r}" for key in refused)
        raise UserError(
            f"'{path}' cannot go on with other settings: {differences}. Its steps so far were taken as it "
            f"was; start a new run, or change only {', '.join(sorted(MAY_CHANGE))}."
        )
    taken = max(run.checkpoints(), default=0)
    if after.training.iters is not None and after.training.iters < taken:
        raise UserError(
            f"'{path}' has taken {taken} steps already: training.iters: {after.training.iters} would end "
            "before."
        )
    schedule = after.training.schedule
    if schedule and changed & LENGTH_KEYS and not schedule.options.keys() & {"decay_steps", "steps"}:
        raise UserError(
            f"'{path}' cannot change its length: its learning-rate schedule '{schedule.use}' was laid out "
            "over it."
        )
    return after
