"""The human judge, driven through a real pseudo-terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefloop import UserError, Verdict
from prefloop_plugins.judges.human import HumanJudge
from prefloop_plugins.judges.screen import share
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
system = ({"role": "system", "content": sys.argv[4]}, {"role": "user", "content": "?"}) if sys.argv[4] else ()
pairs = [
    Pair(Prompt((), p, system), Completion((), a), Completion((), b, stopped=False)) for p, a, b in texts
]
before, stopped = termios.tcgetattr(0), None
try:
    verdicts = HumanJudge(undo_seconds=float(sys.argv[3])).judge(pairs)
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

    def __init__(
        self, folder: Path, texts: list[tuple[str, str, str]], undo: float, system: str, **terminal: Any
    ) -> None:
        self.result = folder / "result.json"
        program = [sys.executable, "-c", PROGRAM, str(self.result), json.dumps(texts), str(undo), system]
        super().__init__(program, Path.cwd(), **terminal)

    def end(self) -> dict[str, Any]:
        assert self.wait() == 0, self.text
        ended: dict[str, Any] = json.loads(self.result.read_text())
        return ended


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    sessions: list[Session] = []

    def begin(*texts: tuple[str, str, str], undo: float = 0.0, system: str = "", **terminal: Any) -> Session:
        sessions.append(Session(tmp_path, list(texts), undo, system, **terminal))
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


def words(name: str, count: int) -> str:
    """A text of that many words, each of which can be told from all others."""
    return " ".join(f"{name}{i}" for i in range(count))


def shown(screen: str, text: str) -> bool:
    """Whether every word of a text is on the screen."""
    return set(text.split()) <= set(screen.split())


ASKED = ("What did they say?", words("one", 90), words("two", 90))  # 7 lines each at 80 columns
LONG = (words("asked", 60), words("first", 400), words("second", 300))


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 24), (100, 30)])
def test_a_pair_of_some_lines_is_on_the_screen_whole(
    start: Callable[..., Session], columns: int, rows: int
) -> None:
    session = start(ASKED, columns=columns, rows=rows)
    session.answer(1, "x")
    session.wait_for(KEYS_SHOWN)
    time.sleep(QUIET)
    session.press("t")
    session.end()
    assert all(shown(session.visible, text) for text in ASKED)
    assert "pair 1 of 1" in session.visible
    assert "Not an answer" in session.visible  # a hint does not scroll the question away
    assert "more lines" not in session.text


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 24), (60, 12)])
def test_what_is_longer_than_the_screen_is_turned_page_by_page(
    start: Callable[..., Session], columns: int, rows: int
) -> None:
    session = start(LONG, columns=columns, rows=rows)
    session.answer(1, " ")
    seen: set[str] = set()
    for key in [" ", b"\x1b[B", b"\x1b[6~", *[" "] * 80]:
        session.wait_for("more lines")
        session.wait_for(KEYS_SHOWN)
        screen = session.visible
        assert screen.startswith("── pair 1 of 1 ── prompt ")
        assert "── answer 1 ──" in screen
        assert "── answer 2 ──" in screen
        seen |= set(screen.split())
        if shown(screen, words("first", 1)):
            break  # after the last page comes the first
        session.press(key)
    assert all(set(text.split()) <= seen for text in LONG)
    session.press(b"\x1b[A")
    session.wait_for(KEYS_SHOWN)
    assert not shown(session.visible, words("first", 1))  # back from the first is the last
    session.press("1")
    assert session.end()["verdicts"] in ([FIRST], [SECOND])


def test_keys_that_turn_pages_answer_nothing_where_there_are_none(start: Callable[..., Session]) -> None:
    session = start(KEPT, rows=24)
    session.answer(1, "x")
    for key in (" ", b"\x1b[A", b"\x1b[B", b"\x1b[5~", "p"):
        session.hint(key)
    session.press("1")
    assert session.end()["verdicts"] == [FIRST]


def test_the_frame_follows_the_size_of_the_terminal(start: Callable[..., Session]) -> None:
    session = start(ASKED, columns=80, rows=40)
    session.wait_for(KEYS_SHOWN)
    session.resize(60, 14)
    session.wait_for("more lines")
    session.wait_for(KEYS_SHOWN)
    assert session.visible.startswith("── pair 1 of 1 ── prompt ")
    assert max(map(len, session.visible.splitlines())) <= 60
    session.press("t")
    assert session.end()["verdicts"] == [TIE]


@pytest.mark.parametrize("room", range(3, 40))
def test_lines_are_shared_so_that_nobody_starves(room: int) -> None:
    for needs in ([1, 7, 7], [9, 1, 30], [50, 50], [1, 1, 1], [2, 20, 3, 20]):
        shares = share(needs, room)
        assert all(1 <= part <= need for part, need in zip(shares, needs, strict=True))
        assert sum(shares) <= max(room, len(needs))
        assert sum(shares) == min(sum(needs), max(room, len(needs)))
        cut = [part for part, need in zip(shares, needs, strict=True) if part < need]
        assert not cut or max(shares) - min(cut) <= 1  # who is cut has as much as anybody, within a line


def test_the_last_answer_of_a_batch_can_be_undone(start: Callable[..., Session]) -> None:
    session = start(KEPT, KEPT, undo=20.0)
    session.answer(1, "1")
    session.answer(2, "1")
    session.wait_for("last of 2")
    session.wait_for("answer 1 is better; all are answered, and it goes on in 20 s")
    session.wait_for(KEYS_SHOWN)
    time.sleep(QUIET)
    session.press("u")
    session.answer(2, "u")
    session.answer(1, "t")
    session.answer(2, "2")
    session.wait_for("last of 2")
    session.wait_for(KEYS_SHOWN)
    time.sleep(QUIET)
    session.press(" ")
    assert session.end()["verdicts"] == [TIE, SECOND]


def test_who_reads_the_last_pair_again_can_still_undo(start: Callable[..., Session]) -> None:
    session = start(LONG, undo=20.0, columns=80, rows=24)
    session.answer(1, "1")
    session.wait_for("last of 1")
    session.wait_for(KEYS_SHOWN)
    time.sleep(QUIET)
    session.press(" ")
    session.wait_for("last of 1")
    session.wait_for(KEYS_SHOWN)
    session.press("u")
    session.answer(1, "t")
    session.wait_for("last of 1")
    session.wait_for(KEYS_SHOWN)
    time.sleep(QUIET)
    session.press("x")
    assert session.end()["verdicts"] == [TIE]


def test_without_a_second_thought_the_run_goes_on(start: Callable[..., Session]) -> None:
    session = start(KEPT, undo=0.5)
    session.answer(1, "1")
    session.wait_for("last of 1")
    assert session.end()["verdicts"] == [FIRST]


def test_quitting_after_the_last_answer_keeps_it(start: Callable[..., Session]) -> None:
    session = start(KEPT, undo=20.0)
    session.answer(1, "2")
    session.wait_for("last of 1")
    session.wait_for(KEYS_SHOWN)
    session.press("\x03")
    ended = session.end()
    assert (ended["verdicts"], ended["stopped"]) == ([SECOND], "the person judging stopped")


def test_nobody_is_asked_about_equal_answers(start: Callable[..., Session]) -> None:
    equal = ("p", "same", "same")
    session = start(equal, KEPT, equal, SWAPPED, equal)
    session.answer(1, "1")
    session.answer(2, "q")
    ended = session.end()
    assert ended["verdicts"] == [TIE, FIRST, TIE]  # the pairs up to the first without a verdict
    assert "pair 1 of 2" in session.text
    assert "3 pairs of equal answers are ties" in session.text
    assert "same" not in session.text.split()


def test_equal_answers_need_no_terminal_and_are_ties_with_a_reason() -> None:
    assert HumanJudge().judge([pair("p", "x", "x")]) == [Verdict.tie("both answers are the same")]


def test_the_system_prompt_is_shown_cut_and_by_a_key_whole(start: Callable[..., Session]) -> None:
    system = words("rule", 60)
    session = start(KEPT, system=system, columns=80, rows=24)
    session.wait_for("system prompt ── 2 of ")
    session.wait_for(KEYS_SHOWN)
    assert not shown(session.visible, system)
    time.sleep(QUIET)
    session.press("p")
    assert KEPT[0] in session.visible
    session.wait_for("system prompt ──")
    session.wait_for(KEYS_SHOWN)
    assert shown(session.visible, system)
    session.press("p")
    session.wait_for("system prompt ── 2 of ")
    session.press("1")
    assert session.end()["verdicts"] in ([FIRST], [SECOND])


def test_a_short_system_prompt_needs_no_key(start: Callable[..., Session]) -> None:
    session = start(KEPT, system="Be brief.")
    session.answer(1, "1")
    session.end()
    assert "Be brief." in session.text
    assert "[p]" not in session.text


def test_joined_characters_are_shown_joined(start: Callable[..., Session]) -> None:
    persian, family = (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    )
    session = start(("p", persian, family))
    session.answer(1, "t")
    session.end()
    assert persian in session.text
    assert family in session.text


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
