"""`python -m prefloop`, and the script `prefloop`."""

import signal
import sys
from typing import Any


def run() -> None:
    """The command line, in which Ctrl-C shows no traceback while it is imported either."""
    raising = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from prefloop.cli import main

    sys.unraisablehook = _end_interrupted
    signal.signal(signal.SIGINT, raising)
    main(prog_name="prefloop")


def _end_interrupted(ignored: Any) -> None:
    """Python drops an exception that is raised in a destructor: a Ctrl-C is not lost in one."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    sys.__unraisablehook__(ignored)


if __name__ == "__main__":
    run()
