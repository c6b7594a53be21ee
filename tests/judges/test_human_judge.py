"""The human judge, driven through a real pseudo-terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefloop import UserError
from prefloop_plugins.judges.human import HumanJudge
from support.judge_models import pair
from support.terminals import KEYS_SHOWN, QUIET, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = """
import json, pathlib, sys, termios
from prefloop import Completion, Pair, Prompt
from prefloop.errors import StopRun
from prefloop_plugins.judges.human import HumanJudge

result, texts = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
pairs = [Pair(Prompt((), p), Completion((), a), Completion((), b, stopped=False)) for p, a, b in texts]
before, stopped = termios.tcgetattr(0), None
try:
    verdicts = HumanJudge().judge(pairs)
except StopRun as stop:
    verdicts, stopped = stop.verdicts, stop.reason
try:
    restored = termios.tcgetattr(0) == before
except termios.error:
    restored = None
said = [[v.status, v.probability] for v in verdicts]
result.write_text(json.dumps({"verdicts": said, "stopped": stopped, "restored": restored}))
"""
FIRST, SECOND, TIE, SKIP = ["ok", 1.0], ["ok", 0.0], ["tie", 0.5], ["abstained", 0.5]


class Session(Terminal):
    """A person who judges `texts` (prompt, first, second)."""

    def __init__(self, folder: Path, texts: list[tuple[str, str, str]], columns: int) -> None:
        self.result = folder / "result.json"
        program = [sys.executable, "-c", PROGRAM, str(self.result), json.dumps(texts)]
        super().__init__(program, Path.cwd(), columns)

    def end(self) -> dict[str, Any]:
        assert self.wait() == 0, self.text
        ended: dict[str, Any] = json.loads(self.result.read_text())
        return ended


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    sessions: list[Session] = []

    def begin(*texts: tuple[str, str, str], columns: int = 120) -> Session:
        sessions.append(Session(tmp_path, list(texts), columns))
        return sessions[-1]

    yield begin
    for session in sessions:
        session.close()


def texts_in_order(swapped: bool, number: int = 0) -> tuple[str, str, str]:
    """A pair that the judge shows in its own order, or the other way round."""
    candidates = ((f"prompt {n}", f"first {n}", f"second {n}") for n in range(number * 100, 10_000))
    return next(texts for texts in candidates if HumanJudge().swaps(pair(*texts)) == swapped)


KEPT, SWAPPED = texts_in_order(False), texts_in_order(True)


def test_labels_go_to_the_right_completion(start: Callable[..., Session]) -> None:
    keys: list[str | bytes] = ["1", "2", "1", "2", b"\x1b[D", b"\x1bOC", "t", "S"]
    session = start(KEPT, KEPT, SWAPPED, SWAPPED, KEPT, SWAPPED, KEPT, KEPT)
    for number, key in enumerate(keys, 1):
        session.answer(number, key)
    ended = session.end()
    assert ended["verdicts"] == [FIRST, SECOND, SECOND, FIRST, FIRST, FIRST, TIE, SKIP]
    assert ended["stopped"] is None
    assert ended["restored"] is True
    assert session.text.index(SWAPPED[2]) < session.text.index(SWAPPED[1])
    assert session.text.index(KEPT[1]) < session.text.index(KEPT[2])


def test_only_the_listed_keys_answer(start: Callable[..., Session]) -> None:
    session = start(KEPT, KEPT)
    session.answer(1, "x")
    session.wait_for(KEYS_SHOWN)
    garbage: list[str | bytes] = [
        "\r",
        "\n",
        " ",
        "3",
        "0",
        "\x1b",
        b"\x1b[A",
        b"\xff",
        "é",
        "11",
        "1\r",
        "1 is better",
        "\x1a",
    ]
    for keys in garbage:
        session.hint(keys)
    session.hint("\x1b[200~1\x1b[201~")
    session.hint("12" * 3000)
    session.press("2")
    session.answer(2, "t")
    assert session.end()["verdicts"] == [SECOND, TIE]


def test_undo_goes_back_a_pair(start: Callable[..., Session]) -> None:
    session = start(KEPT, KEPT, KEPT)
    session.answer(1, "u")
    session.wait_for("There is nothing to undo")
    session.wait_for(KEYS_SHOWN)
    session.press("1")
    session.answer(2, "t")
    session.answer(3, "u")
    session.answer(2, "u")
    session.answer(1, "2")
    session.answer(2, "s")
    session.answer(3, "1")
    assert session.end()["verdicts"] == [SECOND, SKIP, FIRST]


@pytest.mark.parametrize("key", ["q", "Q", "\x03", "\x04"], ids=["q", "Q", "Ctrl-C", "Ctrl-D"])
def test_quitting_keeps_what_was_answered(start: Callable[..., Session], key: str) -> None:
    session = start(KEPT, SWAPPED, KEPT)
    session.answer(1, "1")
    session.answer(2, "t")
    session.answer(3, key)
    ended = session.end()
    assert ended["verdicts"] == [FIRST, TIE]
    assert ended["stopped"] == "the person judging stopped"
    assert ended["restored"] is True


def test_a_closed_terminal_keeps_what_was_answered(start: Callable[..., Session]) -> None:
    session = start(KEPT, KEPT)
    session.answer(1, "2")
    session.wait_for("pair 2 of")
    session.wait_for(KEYS_SHOWN)
    session.hang_up()
    ended = session.end()
    assert ended["verdicts"] == [SECOND]
    assert ended["stopped"] is not None


def test_a_key_pressed_before_its_pair_was_shown_counts_for_nothing(start: Callable[..., Session]) -> None:
    session = start(KEPT, KEPT)
    session.answer(1, "1")
    for _ in range(10):  # a key held down
        time.sleep(0.05)
        session.press("1")
    session.wait_for("pair 2 of")
    session.wait_for(KEYS_SHOWN)
    time.sleep(QUIET)
    session.press("t")
    assert session.end()["verdicts"] == [FIRST, TIE]


def test_ctrl_c_counts_at_once(start: Callable[..., Session]) -> None:
    session = start(KEPT, KEPT)
    session.answer(1, "1")
    session.wait_for(KEYS_SHOWN)
    session.press("\x03")
    assert session.end()["verdicts"] == [FIRST]


@pytest.mark.parametrize("columns", [120, 60])
def test_answers_are_shown_side_by_side_or_stacked(start: Callable[..., Session], columns: int) -> None:
    session = start(KEPT, columns=columns)
    session.answer(1, "1")
    session.end()
    lines = session.text.splitlines()
    both = [line for line in lines if "answer 1 ─" in line and "answer 2 ─" in line]
    assert len(both) == (columns == 120)
    assert any(KEPT[1] in line for line in lines)
    assert any("cut at the length limit" in line for line in lines)
    assert max(map(len, lines)) <= columns


def test_answers_cannot_steer_the_terminal(start: Callable[..., Session]) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\x1b[1A[bold red]markup[/] \r\n\x08\x08 \u202e reversed \ud800"
    session = start((evil, evil + "one", evil + "two"), columns=140)
    session.answer(1, "1")
    session.end()
    screen = session.screen
    for sequence in [b"\x1b]", b"\x1b[2J", b"\x1b[1A", b"\x07", b"\x08", "\x9b".encode(), "\u202e".encode()]:
        assert sequence not in screen
    assert "[bold red]markup[/]" in session.text


def test_empty_answers_show_as_such(start: Callable[..., Session]) -> None:
    session = start(("p", "", " \n"))
    session.answer(1, "t")
    assert session.end()["verdicts"] == [TIE]
    assert session.text.count("(empty)") == 2


def test_no_pairs_need_no_terminal() -> None:
    assert HumanJudge().judge([]) == []


def test_without_a_terminal_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing, pytest.raises(UserError, match="the human judge needs a terminal"):  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", nothing)
        HumanJudge().judge([pair("p", "x", "y")])


def test_the_order_is_shuffled_and_stable() -> None:
    pairs = [pair(f"p{n}", "x", "y") for n in range(200)]
    shown = [HumanJudge().swaps(one) for one in pairs]
    assert shown == [HumanJudge().swaps(one) for one in pairs]
    assert shown != [HumanJudge(seed=1).swaps(one) for one in pairs]
    assert 60 < sum(shown) < 140


def test_the_human_judge_is_interactive() -> None:
    assert HumanJudge.interactive is True
