"""The `verifiers` judge: the rubric of a verifiers environment scores both answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, evolve, field
from attrs.validators import ge, gt, min_len, optional

from prefloop import BaseJudge, Pair, Prompt, UserError, Verdict
from prefloop.errors import StopRun, did_you_mean
from prefloop_judge_verifiers.environment import Loaded, load


@define
class VerifiersJudge(BaseJudge):
    """Scores both answers with an environment's own rubric; ``P(first) = sigmoid(difference / temperature)``.

    The two answers to a prompt are one group for the rubric. A reward function that fails makes an error
    verdict, which verifiers itself would count as zero; functions of weight zero are metrics and may fail.

    Raises `UserError` where the environment cannot be loaded, or is no single turn.
    """

    env: str = field(
        validator=min_len(1),
        metadata={
            "help": "The environment, as load_environment of verifiers takes it, or a module of yours."
        },
    )
    args: Mapping[str, Any] = field(
        factory=dict, converter=dict, metadata={"help": "Arguments of the environment's load_environment."}
    )
    temperature: float = field(
        default=1.0,
        validator=gt(0),
        metadata={"help": "P(first is better) = sigmoid(difference of the rewards / temperature)."},
    )
    batch_size: int | None = field(
        default=None,
        validator=optional(ge(1)),
        metadata={"identity": False, "help": "Pairs that are scored at once; null is all of a step."},
    )
    _loaded: Loaded | None = field(init=False, default=None, repr=False, eq=False)
    _runner: asyncio.Runner | None = field(init=False, default=None, repr=False, eq=False)

    @property
    def symmetric(self) -> bool:
        """Each answer is scored whatever its place."""
        return True

    @property
    def pairs_per_call(self) -> int | None:
        return self.batch_size

    def prepare(self) -> None:
        """Load the environment."""
        if self._loaded is None:
            self._loaded = load(self.env, self.args)

    def close(self) -> None:
        """Let the environment and its connections end."""
        if self._runner is not None and self._loaded is not None:
            self._runner.run(self._loaded.rubric.teardown())
            self._runner.close()
            self._runner = None

    def depends_on(self) -> list[str]:
        """The file of the environment."""
        return [self._loaded.file] if self._loaded and self._loaded.file else []

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raises `UserError` where no prompt has a column that the rubric reads."""
        columns = dict.fromkeys(name for prompt in prompts for name in prompt.fields)
        for name in self._ready().columns:
            if prompts and name not in columns:
                known = ", ".join(columns) or "none"
                raise UserError(
                    f"env: the rubric of '{self.env}' reads '{name}', and the prompts have no such column; "
                    f"their columns: {known}. Write the environment's own prompts to a file, as the README "
                    f"shows, or rename the column.{did_you_mean(name, columns) if columns else ''}"
                )

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair."""
        loaded = self._ready()
        if self._runner is None:
            self._runner = asyncio.Runner()  # one loop for all calls, as connections belong to theirs

        async def together() -> list[Verdict | BaseException]:
            # A task for each pair, so that each has a context of its own, in which failures are noted.
            return await asyncio.gather(
                *(self._verdict(loaded, pair) for pair in pairs), return_exceptions=True
            )

        return [self._given(one) for one in self._runner.run(together())]

    def _ready(self) -> Loaded:
        self.prepare()
        assert self._loaded is not None
        return self._loaded

    async def _verdict(self, loaded: Loaded, pair: Pair) -> Verdict:
        first, second = await loaded.score(pair)
        if problem := first.failed or second.failed:
            return Verdict.error(problem)
        verdict = Verdict.from_scores(first.reward, second.reward, temperature=self.temperature)
        said = (f"{name} {first.parts[name]:g} and {second.parts[name]:g}" for name in first.parts)
        return evolve(verdict, reason=verdict.reason or "; ".join(said) or None)

    def _given(self, result: Verdict | BaseException) -> Verdict:
        if isinstance(result, Verdict):
            return result
        if isinstance(result, StopRun | UserError) or not isinstance(result, Exception):
            raise result
        return Verdict.error(f"the rubric of '{self.env}' failed: {type(result).__name__}: {result}")
