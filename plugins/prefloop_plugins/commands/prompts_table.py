"""What `prefloop prompts` prints: a table of the sets, their lengths, and what should not be missed."""

from __future__ import annotations

from collections.abc import Iterator

from prefloop.text import in_a_line
from prefloop_plugins.commands.prompting import Copies, Found, Leaks, Part

WIDTH = 40
"""Characters of the longest bar."""
LINES = 24
"""Lines that are shown of a prompt."""
SHOWN = 5
"""Ids that are shown of equal prompts."""


def lines(found: Found) -> Iterator[str]:
    """Everything, line by line."""
    yield f"{in_a_line(found.what)}, read by the tokenizer of {in_a_line(found.model)}"
    yield ""
    yield from _table(found)
    for part in found.parts:
        yield ""
        yield from _histogram(part)
    yield ""
    yield f"{found.training:,} to train on, {found.evaluating:,} to evaluate on"
    for part in found.parts:
        yield from _copies(part)
    if found.evaluating:
        yield _leaks(found)
    for shown in found.first:
        yield ""
        yield f"{in_a_line(shown.id)}, {shown.tokens:,} tokens, as the model reads it:"
        yield from _text(shown.text)


def _table(found: Found) -> Iterator[str]:
    head = ("", "prompts", "dropped", "cut", "tokens: least", "median", "95 %", "most")
    rows = [head, *map(_row, found.parts)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        name, *numbers = row
        cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
        yield "  ".join((name.ljust(widths[0]), *cells)).rstrip()


def _row(part: Part) -> tuple[str, ...]:
    size = part.lengths
    numbers = (part.prompts, part.dropped, part.cut, size.least, size.median, size.p95, size.most)
    return (
        _name(part),
        *(f"{number:,g}" if isinstance(number, float) else f"{number:,}" for number in numbers),
    )


def _name(part: Part) -> str:
    """The name of a set; one that is only for evaluations says so."""
    return in_a_line(part.name) + (", evaluation" if "evaluation" in part.key else "")


def _histogram(part: Part) -> Iterator[str]:
    yield f"tokens of {_name(part)}, of {part.lengths.limit:,} at most"
    most = max(count for *_, count in part.lengths.histogram)
    spans = [f"{low:,}-{high:,}" if low < high else f"{low:,}" for low, high, _ in part.lengths.histogram]
    for span, (*_, count) in zip(spans, part.lengths.histogram, strict=True):
        bar = "#" * round(WIDTH * count / most) or ("." if count else "")
        yield f"  {span:>{max(map(len, spans))}}  {count:>{len(f'{most:,}')},}  {bar}".rstrip()


def _copies(part: Part) -> Iterator[str]:
    exact, near = part.copies, part.near_copies
    if not near.count and not exact.count:
        yield f"{_name(part)}: no prompt comes twice"
        return
    share = exact.count / part.prompts
    yield f"{_name(part)}: {exact.count:,} prompts ({share:.1%}) are copies of an earlier one{_ids(exact)}"
    if near.count > exact.count:
        yield f"{_name(part)}: {near.count:,} are, but for capitals and white space{_ids(near)}"


def _ids(copies: Copies) -> str:
    """The places of the prompt that comes most often."""
    shown = ", ".join(map(in_a_line, copies.ids[:SHOWN])) + (", …" if len(copies.ids) > SHOWN else "")
    return f"; {len(copies.ids)} times: {shown}" if shown else ""


def _leaks(found: Found) -> str:
    exact, near = found.leaks, found.near_leaks
    if not near.count and not exact.count:
        return "no prompt to evaluate on is trained on"
    return (
        f"leakage: {exact.count:,} of {found.evaluating:,} prompts to evaluate on are trained on, "
        f"{near.count:,} but for capitals and white space: {_pairs(near if near.count else exact)}"
    )


def _pairs(leaks: Leaks) -> str:
    pairs = (f"{in_a_line(held)} is {in_a_line(trained)}" for held, trained in leaks.examples)
    return "; ".join(pairs) + ("; …" if leaks.count > len(leaks.examples) else "")


def _text(text: str) -> Iterator[str]:
    """A text with its control characters as escapes; of many lines, the first and the last."""
    every = text.split("\n")
    half = LINES // 2
    left_out = len(every) - LINES
    shown = every if left_out <= 0 else [*every[:half], f"[… {left_out:,} more lines …]", *every[-half:]]
    for line in shown:
        yield f"  | {in_a_line(line)}".rstrip()
