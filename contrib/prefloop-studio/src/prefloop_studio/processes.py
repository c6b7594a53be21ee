"""Commands that the pages wait for."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from prefloop import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_command(
    arguments: Sequence[str], seconds: float, what: str, module: str = "prefloop"
) -> subprocess.CompletedProcess[str]:
    """Run `prefloop` with these arguments. Raises `UserError` where `what`, in words, takes too long."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{what} was given up after {seconds:g} seconds.") from error
