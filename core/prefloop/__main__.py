"""`python -m prefloop`, and the script `prefloop`."""

import sys


def run() -> None:
    """The command line, in which Ctrl-C shows no traceback while it is imported either."""
    try:
        from prefloop.cli import main
    except KeyboardInterrupt:
        sys.exit(130)
    main(prog_name="prefloop")


if __name__ == "__main__":
    run()
