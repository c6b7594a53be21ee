"""What ships inside the package, so that the quick start needs no network.

Anywhere a configuration takes a path, ``embedded:NAME`` stands for one of these.
"""

from __future__ import annotations

import os
from pathlib import Path

from prefloop.beginning import placed
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


def local_path(given: str) -> Path:
    """The path that a setting names, ``embedded:NAME`` and ``~`` resolved; nothing need be there.

    While a run goes on, a relative path is meant from where the run began, if something is there.

    Raises `UserError` where no file could have that path, or where it is in a closed folder.
    """
    try:
        path = placed(Path(resolve(given)).expanduser())
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return path
    except RuntimeError as error:  # the home of a user who is not there
        raise UserError(f"'{given}': {error}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"'{given}' is not a path that can be looked up: {reason}.") from error
    return path
