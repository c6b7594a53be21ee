"""The secret that a learner and its workers share."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from prefloop import UserError


def read_token(file: Path) -> str:
    """The token in `file`. Raises `UserError` where there is none."""
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not plain text"
        raise UserError(
            f"'{file}': the token cannot be read: {reason}. Copy the file that 'prefloop worker "
            "--token-file' has written on the worker's machine."
        ) from error
    if not re.fullmatch(r"[!-~]{16,}", token):
        raise UserError(f"'{file}': a token has at least 16 letters and digits, without spaces.")
    return token


def token_in(file: Path) -> str:
    """The token in `file`, which is made, readable by its owner only, where it is not there yet."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_token(file)
    except OSError as error:
        raise UserError(f"'{file}': cannot be written: {error.strerror}.") from error
    with os.fdopen(descriptor, "w") as opened:
        opened.write(f"{made_token()}\n")
    return read_token(file)


def made_token() -> str:
    return secrets.token_urlsafe(24)
