"""One pair on a terminal: the prompt and both answers, in a frame that is never higher than the terminal.

Where the texts are longer, each keeps a window of lines, and all windows turn their pages together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from prefloop.text import printable
from prefloop_plugins.questions import system_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.text import Text

    from prefloop import Completion, Prompt

SYSTEM_LINES = 2
"""Lines of a system prompt that are shown unasked: it is mostly the same for all pairs."""
TURN_KEYS = "[space or ↓ ↑] more lines"
SYSTEM_KEY = "[p] system prompt"
_BETWEEN = " │ "


@frozen
class Section:
    """A text under a title, with notes beside that."""

    title: str
    lines: Sequence[Text]
    notes: tuple[str, ...] = ()

    def window(self, height: int, page: int) -> Section:
        """The `height` lines of a page, which begins with the last line of the page before."""
        count = len(self.lines)
        if count <= height:
            return self
        start = min(page * max(1, height - 1), count - height)
        shown = f"lines {start + 1}-{start + height} of {count}"
        return Section(self.title, self.lines[start : start + height], (*self.notes, shown))

    def pages(self, height: int) -> int:
        """How many pages of `height` lines there are."""
        return 1 + max(0, -(-(len(self.lines) - height) // max(1, height - 1)))

    def box(self, width: int, height: int) -> list[Text]:
        """``1 + height`` lines: the title on a rule, and the text."""
        from rich.cells import set_cell_size
        from rich.text import Text

        rule = "── " + " ── ".join((self.title, *self.notes)) + " " + "─" * width
        lines = [Text(set_cell_size(rule, width), style="dim"), *self.lines]
        return lines + [Text()] * (1 + height - len(lines))


class PairScreen:
    """Draws one pair, with `keys` below it, and turns its pages.

    `answers` are in the order in which they are shown.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        prompt: Prompt,
        answers: tuple[Completion, Completion],
        *,
        keys: Sequence[str],
        side_by_side_width: int,
    ) -> None:
        self._console = console
        self._title = title
        self._prompt = prompt
        self._answers = answers
        self._keys = keys
        self._side_by_side_width = side_by_side_width
        self._size = console.size
        self._page, self._pages = 0, 1
        self._whole_system = False

    @property
    def is_stale(self) -> bool:
        """Whether the terminal has another size than when the pair was drawn."""
        return self._console.size != self._size

    def draw(self, said: str = "", style: str = "dim") -> None:
        """Print a frame that fills the terminal down to the cursor's line; `said` stands above the keys."""
        from rich.text import Text

        width, height = self._size = self._console.size
        rows = self._rows(width)
        heights, footer = self._fit(rows)
        sized = list(zip(rows, heights, strict=True))
        self._pages = max(section.pages(lines) for row, lines in sized for section in row)
        self._page %= self._pages
        body = [line for row, lines in sized for line in self._row(row, lines, width)]
        note = Text(said, style=style)
        note.truncate(width, overflow="ellipsis")
        blank = [Text()] * (height - 2 - len(body) - len(footer))
        for line in (*body, *blank, note, *(Text(keys, style="bold") for keys in footer)):
            self._console.print(line, no_wrap=True, overflow="crop")

    def turn(self, pages: int) -> bool:
        """Turn so many pages on, from the last to the first too. False where all is on one page."""
        self._page = (self._page + pages) % self._pages
        if self._pages > 1:
            self.draw()
        return self._pages > 1

    def toggle_system_prompt(self) -> bool:
        """Show all of the system prompt, or its first lines again. False where those are all."""
        if not self._long_system(self._size.width):
            return False
        self._whole_system, self._page = not self._whole_system, 0
        self.draw()
        return True

    def _rows(self, width: int) -> list[list[Section]]:
        """Sections from top to bottom, those that stand side by side together."""
        beside = width >= self._side_by_side_width
        columns = (width - len(_BETWEEN)) // 2 if beside else width
        answers = [self._answer(i, answer, columns) for i, answer in enumerate(self._answers, 1)]
        top = [*self._system(width), Section("prompt", self._wrapped(self._prompt.text, width))]
        top[0] = evolve(top[0], title=f"{self._title} ── {top[0].title}")
        return [*([section] for section in top), *([answers] if beside else ([answer] for answer in answers))]

    def _answer(self, number: int, answer: Completion, width: int) -> Section:
        notes = () if answer.stopped else ("cut at the length limit",)
        return Section(f"answer {number}", self._wrapped(answer.text, width), notes)

    def _system(self, width: int) -> list[Section]:
        """The system prompt, where there is one, cut to its first lines unless all is wanted."""
        text = system_prompt(self._prompt)
        if not text:
            return []
        lines = self._wrapped(text, width, style="dim")
        if self._whole_system or not self._long_system(width):
            return [Section("system prompt", lines)]
        return [Section("system prompt", lines[:SYSTEM_LINES], (f"{SYSTEM_LINES} of {len(lines)} lines",))]

    def _long_system(self, width: int) -> bool:
        return len(self._wrapped(system_prompt(self._prompt), width)) > SYSTEM_LINES

    def _fit(self, rows: Sequence[Sequence[Section]]) -> tuple[list[int], list[str]]:
        """Lines for the texts of each row, and the keys below, of which some turn pages if there are any."""
        width, height = self._size
        needs = [max(len(section.lines) for section in row) for row in rows]
        keys = [*([SYSTEM_KEY] if self._long_system(width) else []), *self._keys]
        footer = _flowed(keys, width)
        if sum(needs) > height - 2 - len(rows) - len(footer):
            footer = _flowed([TURN_KEYS, *keys], width)
        return share(needs, height - 2 - len(rows) - len(footer)), footer

    def _row(self, row: Sequence[Section], height: int, width: int) -> list[Text]:
        from rich.text import Text

        shown = [section.window(height, self._page) for section in row]
        if len(shown) == 1:
            return shown[0].box(width, height)
        columns = (width - len(_BETWEEN)) // 2
        left, right = (section.box(columns, height) for section in shown)
        for line in left:
            line.truncate(columns, pad=True)
        return [Text.assemble(a, (_BETWEEN, "dim"), b) for a, b in zip(left, right, strict=True)]

    def _wrapped(self, text: str, width: int, style: str = "") -> list[Text]:
        from rich.text import Text

        shown = Text(printable(text), style) if text.strip() else Text("(empty)", style="dim")
        return list(shown.wrap(self._console, width))


def share(needs: Sequence[int], room: int) -> list[int]:
    """`room` divided: who needs little gets it, the others equal parts of the rest, nobody less than one."""
    shares = [0] * len(needs)
    for count, i in enumerate(sorted(range(len(needs)), key=needs.__getitem__)):
        shares[i] = max(1, min(needs[i], room // (len(needs) - count)))
        room -= shares[i]
    return shares


def _flowed(words: Sequence[str], width: int) -> list[str]:
    """`words` in lines of at most `width`, none of them broken."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 2 + len(word) <= width:
            lines[-1] += f"  {word}"
        else:
            lines.append(word)
    return lines
