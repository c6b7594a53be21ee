"""Fresh processes for everything that is measured, and the environments they run in."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen
from benchmarks.speed.measuring import Result
from benchmarks.speed.rows import Row, Size

from prefloop import UserError
from prefloop.cpu import blas

ROOT = Path(__file__).resolve().parent.parent.parent
THEIRS = "mlx-lm-lora==5.10.2"
_SAME = ("mlx", "transformers", "tokenizers", "numpy")
"""Beginnings of the distributions that have the same version on both sides."""


@frozen
class Workshop:
    """Where models and environments are kept, and how processes are started."""

    folder: Path
    wrap: str = ""
    """A command that every process is run under."""
    library: str | None = field(init=False)
    """The BLAS that both sides get; None where mlx has no use for one."""

    @library.default
    def _library(self) -> str | None:
        return blas.use_fastest()

    def run(
        self,
        module: str,
        job: dict[str, Any],
        *,
        python: str = sys.executable,
        preload: bool = True,
        paths: tuple[Path, ...] = (),
    ) -> Result:
        """Do `job` in a process of its own. Raises `UserError` where that fails."""
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            given, found = scratch / "job.json", scratch / "result.json"
            given.write_text(json.dumps({**job, "scratch": name}))
            command = [
                *shlex.split(self.wrap),
                *(python, "-m", f"benchmarks.speed.{module}", str(given), str(found)),
            ]
            done = subprocess.run(
                command, cwd=ROOT, env=self.environment(preload, paths), capture_output=True, text=True
            )
            if done.returncode or not found.exists():
                raise UserError(
                    f"{module} ended with exit code {done.returncode}: {_end(done.stderr or done.stdout)}"
                )
            result: Result = json.loads(found.read_text())
        return result

    def environment(self, preload: bool, paths: tuple[Path, ...] = ()) -> dict[str, str]:
        """Variables of a process; with `preload`, the shared BLAS and no search for another."""
        kept = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "PREFLOOP_BLAS", "PYTHONPATH")}
        kept |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if paths:
            kept["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        if preload and self.library:
            kept |= {"LD_PRELOAD": self.library, "PREFLOOP_BLAS": "off", "OMP_WAIT_POLICY": "passive"}
            if (folder := Path(self.library).parent).name.endswith(".libs"):
                kept["LD_LIBRARY_PATH"] = str(folder)
        return kept

    def models(self, row: Row) -> dict[str, str]:
        """The folders of a row's policy and judge, made where they are missing."""
        policy = self._wanted(row.size, bits=row.bits)
        judge = policy if row.kind == "memory" else self._wanted(row.size, judge=True)
        lines = "\n".join(json.dumps(wanted) for wanted in (policy, judge))
        command = [sys.executable, "-m", "benchmarks.speed.models"]
        environment = self.environment(preload=True)
        done = subprocess.run(
            command, cwd=ROOT, env=environment, input=lines, text=True, capture_output=True, check=False
        )
        if done.returncode:
            raise UserError(f"the models cannot be made: {_end(done.stderr)}")
        return {"policy": policy["folder"], "judge": judge["folder"]}

    def _wanted(self, size: Size, *, judge: bool = False, bits: int | None = None) -> dict[str, Any]:
        name = f"{size.name}{'-judge' if judge else ''}{f'-{bits}bit' if bits else ''}"
        return {
            "folder": str(self.folder / "models" / name),
            "size": asdict(size),
            "judge": judge,
            "bits": bits,
        }

    def their_python(self) -> str:
        """The interpreter of mlx-lm-lora's environment, which is made and filled where it is missing."""
        place = self.folder / "mlx-lm-lora"
        python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        wanted = [THEIRS, *versions()]
        note = place / "installed.json"
        if not note.exists() or json.loads(note.read_text()) != wanted:
            print(f"Installing {THEIRS} into {place}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
            note.write_text(json.dumps(wanted))
        return str(python)


def versions() -> list[str]:
    """What both sides have in common, pinned to what is installed here."""
    found = {(d.name, d.version) for d in importlib.metadata.distributions() if d.name}
    return sorted(f"{name}=={version}" for name, version in found if name.lower().startswith(_SAME))


def _end(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-15:])
