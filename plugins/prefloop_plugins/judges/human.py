"""The `human` judge: a person at the terminal compares two answers, blind, with single keys."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen
from attrs.validators import ge, instance_of

from prefloop import BaseJudge, Completion, Pair, Verdict
from prefloop.errors import StopRun
from prefloop.text import printable
from prefloop_plugins.judges.terminal import Keys, check_terminal, keyboard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.panel import Panel

KEYS = "[1 or ←] first  [2 or →] second  [t] tie  [s] skip  [u] undo  [q] save and quit"
CHOICES = {"1": "1", "left": "1", "2": "2", "right": "2", "t": "t", "s": "s"}
SAID = {"1": "answer 1 is better", "2": "answer 2 is better", "t": "a tie", "s": "skipped"}


@frozen
class HumanJudge(BaseJudge):
    """Shows a pair's answers side by side, or stacked on a narrow terminal, and waits for a key.

    The order of the answers is shuffled per pair and stays the same when a pair is shown again. Only
    the keys that `KEYS` lists answer; a key pressed before its pair was shown counts for nothing.

    Raises `StopRun` with the verdicts given so far on quitting, Ctrl-C and the end of input, and
    `UserError` where there is no terminal.
    """

    interactive: ClassVar[bool] = True

    seed: int = field(
        default=0, validator=instance_of(int), metadata={"help": "Shuffles which answer is shown first."}
    )
    side_by_side_width: int = field(
        default=100,
        validator=ge(0),
        metadata={"help": "Columns from which the answers stand side by side; stacked below."},
    )

    def prepare(self) -> None:
        """Raises `UserError` where there is no terminal."""
        check_terminal()

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair: a label, a tie, or an abstention where skipped."""
        verdicts = dict(self.answers(pairs))
        return [verdicts[place] for place in range(len(pairs))]

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """Each verdict with its place as soon as it is given; an undone one is taken back as an error."""
        if not pairs:
            return
        from rich.console import Console

        console = Console(highlight=False)
        verdicts: list[Verdict] = []
        with keyboard() as keys:
            while len(verdicts) < len(pairs):
                self._show(console, pairs[len(verdicts)], f"pair {len(verdicts) + 1} of {len(pairs)}")
                keys.wait_for_quiet()
                answer = _ask(console, keys, verdicts)
                if answer == "u":
                    verdicts.pop()
                    yield len(verdicts), Verdict.error("taken back by the person judging")
                else:
                    verdicts.append(self._verdict(pairs[len(verdicts)], answer))
                    yield len(verdicts) - 1, verdicts[-1]

    def _verdict(self, pair: Pair, answer: str) -> Verdict:
        if answer == "t":
            return Verdict.tie()
        if answer == "s":
            return Verdict.abstain("skipped")
        return Verdict(1.0 if (answer == "1") != self.swaps(pair) else 0.0)

    def swaps(self, pair: Pair) -> bool:
        """Whether the pair's second answer is shown first: a coin that depends on seed and texts."""
        texts = [self.seed, pair.prompt.text, pair.first.text, pair.second.text]
        return bool(hashlib.sha256(json.dumps(texts).encode()).digest()[0] & 1)

    def _show(self, console: Console, pair: Pair, title: str) -> None:
        from rich.table import Table

        answers = (pair.second, pair.first) if self.swaps(pair) else (pair.first, pair.second)
        first, second = (_panel(f"answer {i}", answer) for i, answer in enumerate(answers, 1))
        console.rule(title)
        console.print(_panel("prompt", pair.prompt.text))
        if console.width >= self.side_by_side_width:
            grid = Table.grid(expand=True)
            grid.add_column(ratio=1)
            grid.add_column(ratio=1)
            grid.add_row(first, second)
            console.print(grid)
        else:
            console.print(first, second)
        console.print(KEYS, style="bold", markup=False)


def _ask(console: Console, keys: Keys, verdicts: Sequence[Verdict]) -> str:
    """Wait for one of the keys ``1 2 t s u``. Raises `StopRun` on the others that mean something."""
    while True:
        key = keys.read().lower()
        if key in ("q", "ctrl-c", "end"):
            raise StopRun("the person judging stopped", verdicts)
        if key == "u" and verdicts:
            console.print("undone: back to the previous pair", style="dim")
            return key
        if key in CHOICES:
            console.print(SAID[CHOICES[key]], style="dim")
            return CHOICES[key]
        if key == "u":
            hint = "There is nothing to undo in this batch."
        else:
            hint = "Not an answer. Press one key:"
        console.print(f"{hint} {KEYS}", style="yellow", markup=False)


def _panel(title: str, content: Completion | str) -> Panel:
    from rich.panel import Panel
    from rich.text import Text

    cut = isinstance(content, Completion) and not content.stopped
    text = content if isinstance(content, str) else content.text
    shown = Text(printable(text)) if text.strip() else Text("(empty)", style="dim")
    return Panel(shown, title=title, subtitle="cut at the length limit" if cut else None)
