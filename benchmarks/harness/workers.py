"""Fresh processes for what is measured, with the same environment variables for everybody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click
from benchmarks.harness.internals import blas
from benchmarks.harness.worker import Record

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "plugins")
"""The folders of a checkout that Python finds prefloop in."""
BLAS = blas.use_fastest() if blas.uses_linux_cpu_backend() else None
"""What all workers share; None where mlx has no use for it. Loaded before anything imports mlx."""


class BenchmarkError(click.ClickException):
    """What a user can mend. The command line prints it without a traceback."""

    exit_code = 2


def run_worker(
    module: str,
    job: Record,
    *,
    python: str = "",
    checkout: Path = ROOT,
    share_blas: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Record:
    """Do `job` in a process of its own and return its result.

    `python` is the interpreter of another environment. Without it, the worker uses this environment and the
    prefloop of `checkout`. `environment` has variables besides those of `variables`. Raises `BenchmarkError`
    where the process fails.
    """
    paths = () if python else [checkout / name for name in PACKAGES]
    with tempfile.TemporaryDirectory() as scratch:
        given, found = Path(scratch, "job.json"), Path(scratch, "result.json")
        given.write_text(json.dumps({**job, "scratch": scratch}), encoding="utf-8")
        done = subprocess.run(
            [python or sys.executable, "-m", module, str(given), str(found)],
            cwd=checkout,
            env=variables(paths, share_blas=share_blas) | dict(environment or {}),
            capture_output=True,
            text=True,
        )
        if done.returncode or not found.exists():
            last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
            raise BenchmarkError(f"{module} ended with exit code {done.returncode}:\n{last}")
        result: Record = json.loads(found.read_text(encoding="utf-8"))
    return result


def prefloop(
    arguments: Sequence[str],
    folder: Path,
    *,
    share_blas: bool = True,
    environment: Mapping[str, str] | None = None,
) -> str:
    """The standard output of a command of prefloop's, in `folder`. Raises `BenchmarkError` where it fails.

    `environment` has variables besides those of `variables`.
    """
    paths = [ROOT / name for name in PACKAGES]
    done = subprocess.run(
        [sys.executable, "-m", "prefloop", *arguments],
        cwd=folder,
        env=variables(paths, share_blas=share_blas) | dict(environment or {}),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BenchmarkError(f"prefloop {arguments[0]} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def variables(paths: Iterable[Path] = (), *, share_blas: bool = True) -> dict[str, str]:
    """Environment variables of a process: no Hub and, with `share_blas`, one BLAS for everybody."""
    kept = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "PREFLOOP_BLAS", "PYTHONPATH")}
    kept |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if search := os.pathsep.join(map(str, paths)):
        kept["PYTHONPATH"] = search
    if share_blas and BLAS:
        kept |= {"LD_PRELOAD": BLAS, "PREFLOOP_BLAS": BLAS}
    return kept


def check_out(version: str, folder: Path) -> Path:
    """The code of `version`, anything that git knows by a name, in `folder`.

    Raises `BenchmarkError` where git does not know it.
    """
    folder.mkdir(parents=True)
    command = ["git", "archive", "--format=tar", version, *PACKAGES, "benchmarks", "scripts"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True)
    if archive.returncode:
        raise BenchmarkError(f"--against-version {version}: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder
