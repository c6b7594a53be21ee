"""The tables of docs/migrating.md: what becomes of each key of another tool's configuration."""

from __future__ import annotations

from collections.abc import Iterator

from prefloop_plugins.converting.account import in_short
from prefloop_plugins.converting.convert import DIALECTS
from prefloop_plugins.converting.mlx_lm_lora import IGNORED_IN_A_FILE
from prefloop_plugins.converting.mlx_lm_lora import RULES as FLAT
from prefloop_plugins.converting.rules import UNSET, Rule
from prefloop_plugins.converting.studio import NAMES, OWN

WORDS = {
    "became": "",
    "not honoured": "not honoured",
    "ignored there": "ignored there too",
    "nothing to do": "nothing to do",
}


def dialect(name: str) -> str:
    """The table of a dialect; with ``ignored`` after its name, the keys that do nothing in a file."""
    if name.endswith(" ignored"):
        return "\n" + ", ".join(f"`{key}`" for key in sorted(IGNORED_IN_A_FILE)) + ".\n\n"
    rules = next(dialect.rules for dialect in DIALECTS if dialect.name == name)
    if name == "mlx-lora-studio":
        written = {inner: key for key, inner in NAMES.items()}
        rules = {
            written.get(key, key): rule for key, rule in (FLAT | OWN).items() if key in written or key in OWN
        }
    return "\n".join(["", "| there | here | |", "|---|---|---|", *_rows(rules), "", ""])


def _rows(rules: dict[str, Rule]) -> Iterator[str]:
    """A row for each thing that becomes of keys, with all the keys that share it."""
    rows: dict[tuple[str, str], list[str]] = {}
    for key, rule in rules.items():
        here = f"`{rule.to}`" if rule.to else WORDS[rule.fate]
        rows.setdefault((here, _said(rule)), []).append(f"`{key}`")
    for (here, said), keys in rows.items():
        yield f"| {', '.join(keys)} | {here} | {said} |".replace("  |", " |")


def _said(rule: Rule) -> str:
    """What is said of it, with what runs instead there, and the default that is written out."""
    parts = [rule.about, rule.note, rule.instead]
    if rule.ignored_in_a_file and rule.fate == "became":
        parts.append(f"Ignored in a file there, which runs with {in_short(rule.ran_with)}.")
    if rule.default is not UNSET:
        parts.append(f"Default there: {in_short(rule.default)}.")
    return " ".join(filter(None, parts)).replace("|", "\\|")
