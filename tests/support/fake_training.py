"""A stand-in for the Python that runs `prefloop train`, so that a queue's runs take no time.

What it does for a run is in ``acts.json`` in the current folder, by the run's name, one act for each try:
``exit``, ``status`` of the run's folder (none is made without it), ``error`` and ``seconds``. Without an act
it finishes. Each try leaves a line in ``tries.txt``. SIGTERM and SIGINT stop it, as they stop a run.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import sys
import time
from pathlib import Path

SCRIPT = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r})
from support.fake_training import main
main(sys.argv[3:])
"""


def write_python(folder: Path) -> str:
    """The path of a stand-in that calls `main` with what comes after ``-m prefloop``."""
    file = folder / "python"
    file.write_text(SCRIPT)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def main(arguments: list[str]) -> None:
    """Do what the next act of the run says."""
    if arguments[:2] == ["runs", "compare"]:
        print("compared", arguments[2])
        return
    _, given, *more = arguments
    run = Path(more[0]) if given == "--resume" else Path(given).with_suffix("")
    with Path("tries.txt").open("a") as tries:
        tries.write(
            f"{run.name}{' resumed' * (given == '--resume')}{' accepted' * ('--accept-change' in more)}\n"
        )
    with Path("acts.done").open("a+") as counted:  # `tries.txt` is the tests' to remove
        counted.write(f"{run.name}\n")
        counted.seek(0)
        done = counted.read().split().count(run.name)
    acts = json.loads(Path("acts.json").read_text()).get(run.name, [])
    act = acts[done - 1] if done <= len(acts) else {"status": "finished"}
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(run))
    signal.signal(signal.SIGUSR1, lambda *_: print("here", flush=True))
    if "status" in act:
        run.mkdir(exist_ok=True)
        lock = (run / ".lock").open("wb", buffering=0)
        lock.write(b"%d\n" % os.getpid())
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write(run, "running")
    time.sleep(float(act.get("seconds", 0)))
    print("trained", run.name, flush=True)
    if "error" in act:
        print(act["error"], file=sys.stderr)
    _end(run, act)


def _stop(run: Path) -> None:
    """End, but not before a second signal, which a run would end at once for, can have come."""
    with Path("signals.txt").open("a") as signals:
        signals.write("told\n")
    time.sleep(0.3)
    _end(run, {"status": "stopped", "exit": 130})


def _end(run: Path, act: dict[str, object]) -> None:
    if "status" in act and run.exists():
        _write(run, str(act["status"]))
    code = int(str(act.get("exit", 0)))
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def _write(run: Path, status: str) -> None:
    (run / "run.json").write_text(json.dumps({"status": status, "summary": {}, "plan": {"steps": 3}}))
