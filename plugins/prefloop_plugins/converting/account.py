"""The account of a conversion: what became of every key, for the terminal and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from attrs import Factory, asdict, frozen

from prefloop.text import in_a_line
from prefloop_plugins.converting.rules import Fate

HEADINGS: Mapping[Fate | Literal["added"], str] = {
    "became": "Became",
    "not honoured": "Not honoured",
    "ignored there": "Ignored by {tool} too",
    "added": "Added, as {tool} does so and prefloop does not",
    "nothing to do": "Nothing to do",
}


@frozen
class Entry:
    """What became of one key. `line` is where it stands; that of what was added is None.

    `ran_with` says that the tool ignores the key, and what it takes instead; it is empty where it does not.
    """

    key: str
    value: Any
    line: int | None
    fate: Fate | Literal["added"]
    settings: Mapping[str, Any] = Factory(dict)
    note: str = ""
    ran_with: str = ""

    @property
    def said(self) -> str:
        """What a person has to know, in one piece."""
        return " ".join(filter(None, (self.note, self.ran_with)))


def in_short(value: Any, most: int = 60) -> str:
    """A value on one line, as YAML has it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return in_a_line(text, most)


def lines_of(entries: Sequence[Entry], tool: str) -> Iterator[str]:
    """The account as lines of text: each kind of fate under its heading."""
    for fate, heading in HEADINGS.items():
        found = [entry for entry in entries if entry.fate == fate]
        if not found:
            continue
        yield f"{heading.format(tool=tool)}:"
        if fate == "nothing to do":
            yield f"  {', '.join(entry.key for entry in found)}"
        else:
            yield from (f"  {_words(entry)}" for entry in found)


def _words(entry: Entry) -> str:
    before = entry.key if entry.line is None else f"{entry.key}: {in_short(entry.value)}"
    after = ", ".join(f"{path}: {in_short(value)}" for path, value in entry.settings.items())
    if after:
        return f"{before} -> {after}. {entry.said}" if entry.said else f"{before} -> {after}"
    return f"{before}: {entry.said}" if entry.said else before


def as_json(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The account for programs: an object for each key."""
    return [{**asdict(entry), "settings": dict(entry.settings)} for entry in entries]
