"""What ships inside the package, so that the quick start needs no network.

Anywhere a configuration takes a path, ``embedded:NAME`` stands for one of these.
"""

from __future__ import annotations

from pathlib import Path

from prefloop.errors import UserError, did_you_mean

PREFIX = "embedded:"
FILES = {
    "policy": "policy",
    "judge": "judge",
    "prompts": "prompts.jsonl",
    "held_out": "held_out.jsonl",
    "quickstart": "quickstart.yaml",
}


def resolve(path: str) -> str:
    """The absolute path that ``embedded:NAME`` stands for; any other path comes back unchanged.

    Raises `UserError` for a name that nothing is embedded under.
    """
    if not path.startswith(PREFIX):
        return path
    name = path.removeprefix(PREFIX)
    if name not in FILES:
        known = [PREFIX + n for n in FILES]
        raise UserError(f"nothing is embedded under the name '{path}'.{did_you_mean(path, known)}")
    return str(Path(__file__).resolve().parent / FILES[name])
