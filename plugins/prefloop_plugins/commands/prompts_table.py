"""What `prefloop prompts` prints: a table of the sets, their lengths, and what should not be missed."""

from __future__ import annotations

from collections.abc import Iterator

from prefloop.text import in_a_line
from prefloop_plugins.commands.prompting import Found, Leaks, Part, Some

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
    counts = (part.prompts, part.dropped, part.cut, size.least, size.p95, size.most)
    prompts, dropped, cut, least, p95, most = (f"{count:,}" for count in counts)
    return _name(part), prompts, dropped, cut, least, f"{size.median:,g}", p95, most


def _name(part: Part) -> str:
    """The name of a set; one that is only for evaluations says so."""
    return in_a_line(part.name) + (", evaluation" if "evaluation" in part.key else "")


def _histogram(part: Part) -> Iterator[str]:
    yield f"tokens of {_name(part)}, of {part.lengths.limit:,} at most"
    bars = part.lengths.histogram
    most = max(bar.count for bar in bars)
    spans = [f"{bar.least:,}-{bar.most:,}" if bar.least < bar.most else f"{bar.least:,}" for bar in bars]
    wide, widest = max(map(len, spans)), len(f"{most:,}")
    for span, bar in zip(spans, bars, strict=True):
        drawn = "#" * round(WIDTH * bar.count / most) or ("." if bar.count else "")
        yield f"  {span:>{wide}}  {bar.count:>{widest},}  {drawn}".rstrip()


def _copies(part: Part) -> Iterator[str]:
    if part.special.count:
        ids = ", ".join(map(in_a_line, part.special.ids))
        yield (
            f"{_name(part)}: {part.special.count:,} with a special token in the text itself, which the model "
            f"does not read as text: {ids}" + (", …" if part.special.count > len(part.special.ids) else "")
        )
    exact, near = part.copies, part.near_copies
    if not near.count and not exact.count:
        yield f"{_name(part)}: no prompt comes twice"
        return
    yield f"{_name(part)}: copies of an earlier prompt: {exact.count:,} of {part.prompts:,}{_ids(exact)}"
    if near.count > exact.count:
        yield f"{_name(part)}: the same but for capitals and white space: {near.count:,}{_ids(near)}"


def _ids(copies: Some) -> str:
    """The places of the prompt that comes most often."""
    shown = ", ".join(map(in_a_line, copies.ids[:SHOWN])) + (", …" if len(copies.ids) > SHOWN else "")
    return f"; one comes {len(copies.ids)} times: {shown}" if shown else ""


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
