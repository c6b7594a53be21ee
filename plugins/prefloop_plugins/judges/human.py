"""The `human` judge: a person at the terminal compares two answers, blind, with single keys."""

from __future__ import annotations

import hashlib
import json
from itertools import count, takewhile
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen
from attrs.validators import ge, instance_of

from prefloop import BaseJudge, Pair, Verdict
from prefloop.errors import StopRun
from prefloop_plugins.judges.screen import PairScreen
from prefloop_plugins.judges.terminal import Keys, check_terminal, keyboard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

KEYS = ("[1 or ←] first", "[2 or →] second", "[t] tie", "[s] skip", "[u] undo", "[q] save and quit")
LAST_KEYS = ("[u] undo", "[any other key] go on", "[q] save and quit")
CHOICES = {"1": "1", "left": "1", "2": "2", "right": "2", "t": "t", "s": "s"}
SAID = {"1": "answer 1 is better", "2": "answer 2 is better", "t": "a tie", "s": "skipped"}
TURNS = {" ": 1, "down": 1, "page down": 1, "up": -1, "page up": -1}
STOPS = ("q", "ctrl-c", "end")
SAME = "both answers are the same"
_GLANCE = 0.25
"""Seconds between looks at the size of the terminal."""


@frozen
class HumanJudge(BaseJudge):
    """Shows a pair's answers side by side, or stacked on a narrow terminal, and waits for a key.

    What is decided stays on the screen: where it is too long for that, keys turn its pages. The order of the
    answers is shuffled per pair and stays the same when a pair is shown again. Only the keys that `KEYS`
    lists answer; a key pressed before its pair was shown counts for nothing.

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
        metadata={
            "identity": False,
            "help": "Columns from which the answers stand side by side; stacked below.",
        },
    )
    undo_seconds: float = field(
        default=3.0,
        validator=ge(0),
        metadata={
            "identity": False,
            "help": "Seconds in which the last answer of a batch can be undone before the run goes on.",
        },
    )

    def prepare(self) -> None:
        """Raises `UserError` where there is no terminal."""
        check_terminal()

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair: a label, a tie, or an abstention where skipped."""
        verdicts = dict(self.answers(pairs))
        return [verdicts[place] for place in range(len(pairs))]

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """Each verdict with its place as soon as it is given; an undone one is taken back as an error.

        Pairs of equal answers are ties that nobody is asked about.
        """
        given = {i: Verdict.tie(SAME) for i, p in enumerate(pairs) if p.first.text == p.second.text}
        yield from given.items()
        places = [place for place in range(len(pairs)) if place not in given]
        if not places:
            return
        from rich.console import Console

        console = Console(highlight=False)
        asked = [pairs[place] for place in places]
        said, done = _of_equal(len(given)), 0
        with keyboard() as keys:
            while (answer := self._ask(console, keys, asked, done, said)) != "go on":
                if answer == "q":
                    raise StopRun("the person judging stopped", _first_of(given))
                if answer == "u":
                    done, said = done - 1, "undone"
                    del given[places[done]]
                    yield places[done], Verdict.error("taken back by the person judging")
                else:
                    given[places[done]] = self._verdict(asked[done], answer)
                    yield places[done], given[places[done]]
                    done, said = done + 1, SAID[answer]

    def _ask(self, console: Console, keys: Keys, pairs: Sequence[Pair], done: int, said: str) -> str:
        """What a person says of pair `done`, counted from 0: one of ``1 2 t s u q``.

        After the last one there is only a moment for second thoughts, and then it is ``go on``.
        """
        if done < len(pairs):
            screen = self._screen(console, f"pair {done + 1} of {len(pairs)}", pairs[done], KEYS)
            screen.draw(said)
            keys.wait_for_quiet()
            return _answer(screen, keys, may_undo=done > 0)
        if not self.undo_seconds:
            return "go on"
        screen = self._screen(console, f"last of {len(pairs)}", pairs[-1], LAST_KEYS)
        screen.draw(f"{said}; all are answered, and it goes on in {self.undo_seconds:g} s")
        keys.wait_for_quiet()
        while (key := keys.read(self.undo_seconds)) and _shows_more(screen, key):
            pass  # who reads on has second thoughts
        return "q" if key in STOPS else "u" if key == "u" else "go on"

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

    def _screen(self, console: Console, title: str, pair: Pair, keys: Sequence[str]) -> PairScreen:
        answers = (pair.second, pair.first) if self.swaps(pair) else (pair.first, pair.second)
        width = self.side_by_side_width
        return PairScreen(console, title, pair.prompt, answers, keys=keys, side_by_side_width=width)


def _answer(screen: PairScreen, keys: Keys, *, may_undo: bool) -> str:
    """Wait for a key that answers, undoes or quits; the others turn pages, or mean nothing."""
    while True:
        key = keys.read(_GLANCE)
        if key in STOPS:
            return "q"
        if key in CHOICES:
            return CHOICES[key]
        if key == "u" and may_undo:
            return key
        if key is None:
            if screen.is_stale:
                screen.draw()
        elif key == "u":
            screen.draw("There is nothing to undo in this batch.", "yellow")
        elif not _shows_more(screen, key):
            screen.draw("Not an answer. Press one of these keys:", "yellow")


def _shows_more(screen: PairScreen, key: str) -> bool:
    """Whether the key showed another part of the pair."""
    if key == "p":
        return screen.toggle_system_prompt()
    return key in TURNS and screen.turn(TURNS[key])


def _of_equal(pairs: int) -> str:
    """What is said of pairs that nobody is asked about."""
    if not pairs:
        return ""
    return "1 pair of equal answers is a tie" if pairs == 1 else f"{pairs} pairs of equal answers are ties"


def _first_of(given: Mapping[int, Verdict]) -> list[Verdict]:
    """The verdicts on the first pairs, up to the first that has none."""
    return [given[place] for place in takewhile(given.__contains__, count())]
