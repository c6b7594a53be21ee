"""Environments with pinned versions, and processes in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from attrs import frozen

from prefloop import UserError
from prefloop.cpu import blas

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).parent / "requirements"
MODULES = {"prefloop": "prefloop_side", "mlx-lm-lora": "mlx_lm_lora_side", "trl": "trl_side"}


@frozen
class Workshop:
    """Where environments, models and runs are kept: a folder outside the repository."""

    folder: Path

    def python(self, tool: str) -> str:
        """The interpreter with `tool`; its environment is made where it is missing or has other pins."""
        if tool == "prefloop":
            return sys.executable
        pins = REQUIREMENTS / f"{tool}.txt"
        place = self.folder / "environments" / tool
        python, note = place / "bin" / "python", place / "installed.txt"
        if not note.exists() or note.read_text() != pins.read_text():
            print(f"Installing {tool} into {place}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(pins)], check=True)
            shutil.copy(pins, note)
        return str(python)

    def run(self, tool: str, given: Any, *, module: str = "") -> str:
        """Hand `given` to the side of `tool` and return what it prints. Raises `UserError` where it fails."""
        command = [self.python(tool), "-m", f"benchmarks.others.{module or MODULES[tool]}"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), input=json.dumps(given), capture_output=True, text=True
        )
        if done.returncode:
            said = "\n".join(done.stderr.strip().splitlines()[-15:])
            raise UserError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{said}")
        return done.stdout

    def start_model(self) -> Path:
        """The quick start's policy in float32: the same bytes for everybody, and fast on a CPU."""
        import mlx.core as mx

        from prefloop.embedded import local_path
        from prefloop.model.weight_sharing import arrays

        place, source = self.folder / "start", local_path("embedded:policy")
        if not (place / "model.safetensors").exists():
            shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
            weights = arrays(mx.load(str(source / "model.safetensors")))
            config = json.loads((place / "config.json").read_text())
            (place / "config.json").write_text(json.dumps(config | {"torch_dtype": "float32"}, indent=2))
            wide = {name: value.astype(mx.float32) for name, value in weights.items()}
            mx.save_safetensors(str(place / "model.safetensors"), wide, metadata={"format": "mlx"})
        return place


def environment() -> dict[str, str]:
    """Variables of a side's process: one BLAS for everybody who can use it, and no hub."""
    kept = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "PYTHONPATH")}
    kept |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if library := BLAS:
        kept |= {"LD_PRELOAD": library, "PREFLOOP_BLAS": "off"}
        if (folder := Path(library).parent).name.endswith(".libs"):
            kept["LD_LIBRARY_PATH"] = str(folder)
    return kept


BLAS = blas.use_fastest()
"""Loaded before anything imports mlx."""
