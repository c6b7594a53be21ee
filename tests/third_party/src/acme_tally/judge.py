"""A judge with every ability that a judge may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import mlx.core as mx
from attrs import define, field
from attrs.validators import gt

from prefloop import BaseJudge, Judge, Pair, Prompt, UserError, Verdict


@define
class Tally(BaseJudge):
    """Prefers the answer with more of one letter, and counts how many pairs it has judged."""

    shorthand: ClassVar[str] = "letter"
    symmetric = True
    interactive = False
    evaluates = True
    spread = False

    letter: str = field(default="e", metadata={"help": "The letter that is counted."})
    temperature: float = field(
        default=1.0, validator=gt(0), metadata={"help": "How many letters make a clear win."}
    )
    patience: float = field(
        default=1.0, metadata={"help": "Seconds to wait; it changes no verdict.", "identity": False}
    )
    _judged: int = field(default=0, init=False, eq=False)
    _labels: int = field(default=0, init=False, eq=False)
    _known: int = field(default=0, init=False, eq=False)
    _folder: Path | None = field(default=None, init=False, eq=False, repr=False)
    _pool: ThreadPoolExecutor | None = field(default=None, init=False, eq=False, repr=False)

    def prepare(self) -> None:
        if len(self.letter) != 1:
            raise UserError(f"letter: '{self.letter}' is not one letter.")
        self._pool = ThreadPoolExecutor(1)

    def attach(self, folder: Path) -> None:
        self._folder = folder

    @property
    def pairs_per_call(self) -> int | None:
        return 4

    def pass_bytes(self, pairs: int, shortest: int, longest: int, completion: int) -> int:
        return 100 * pairs

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        if not all(prompt.text for prompt in prompts):
            raise UserError("the tally judge needs prompts with a text.")

    @property
    def members(self) -> tuple[Judge, ...]:
        return ()

    def depends_on(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self._verdict(pair) for pair in pairs]

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        for place, pair in enumerate(pairs):
            yield place, self._verdict(pair)

    def submit(self, pairs: Sequence[Pair]) -> Future[list[Verdict]]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1)
        return self._pool.submit(self.judge, pairs)

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self._labels += sum(verdict.status == "ok" for verdict in verdicts)

    def recall(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self._known = len(pairs)

    def state(self) -> Mapping[str, mx.array]:
        return {"judged": mx.array(self._judged), "labels": mx.array(self._labels)}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        self._judged, self._labels = int(state["judged"]), int(state["labels"])

    def _verdict(self, pair: Pair) -> Verdict:
        self._judged += 1
        first, second = (completion.text.count(self.letter) for completion in (pair.first, pair.second))
        return Verdict.from_scores(first, second, temperature=self.temperature)
