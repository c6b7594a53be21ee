"""The run directory: everything that is known of a run, as files.

    runs/<name>/
      config.yaml            resolved, with qualified names
      run.json               versions, seed, git commit, status, summary
      metrics.jsonl          one line for each step and each evaluation
      judgements.jsonl       the ledger: one line for each judged pair
      checkpoints/<step>/    adapters as of that step
      adapters.safetensors, adapter_config.json    as mlx_lm generate --adapter-path wants them
      model/                 full fine-tuning only: the whole model, as --model wants it

Whatever shows a run reads only these files.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import asdict

from prefloop.config import Config, dump_config
from prefloop.errors import UserError
from prefloop.types import Completion, Evaluation, Observer, Pair, Progress, Step, Verdict

if TYPE_CHECKING:
    from prefloop.plan import Plan
    from prefloop.policy import Policy

MANIFEST = "run.json"


class Run:
    """A run directory, open for writing, with the configuration and the plan it was made from."""

    def __init__(self, path: Path, config: Config, plan: Plan, manifest: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.plan = plan
        self.manifest = manifest

    @classmethod
    def create(cls, path: Path, config: Config, plan: Plan) -> Run:
        """Make the directory. Raises `UserError` where it holds a run already or cannot be made."""
        refuse_taken(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        except OSError as error:
            raise UserError(f"output.path: cannot write to '{path}': {error.strerror}.") from error
        about = {**_provenance(config.training.seed), "plan": asdict(plan)}
        run = cls(path, config, plan, {**about, "status": "running", "summary": {}})
        run.save_manifest()
        return run

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``stopped`` (by a person or a signal) or ``failed``."""
        return str(self.manifest["status"])

    @property
    def summary(self) -> dict[str, Any]:
        """What the run came to; ``win_rate`` holds ``before`` and ``after``."""
        found: dict[str, Any] = self.manifest["summary"]
        return found

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Write down how the run ended."""
        self.manifest |= {"status": status, "summary": dict(summary), "ended": _now()}
        self.save_manifest()

    def save_manifest(self) -> None:
        """Write ``run.json`` in one piece."""
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False) + "\n"
        beside = self.path / f".{MANIFEST}.tmp"
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.path / MANIFEST)

    def append(self, file: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Append JSON lines in one write."""
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        with (self.path / file).open("a", encoding="utf-8") as stream:
            stream.write(lines)

    def save_policy(self, policy: Policy) -> None:
        """Write the trained tensors and, for full fine-tuning, the whole model."""
        with _in_one_piece(self.path / "final") as folder:
            policy.save(folder)
        for file in sorted((self.path / "final").iterdir()):
            file.replace(self.path / file.name)
        (self.path / "final").rmdir()
        if policy.adapter.type == "full":
            with _in_one_piece(self.path / "model") as folder:
                policy.save_model(folder)

    def save_checkpoint(self, policy: Policy, step: int) -> Path:
        """Write the trained tensors as of `step`; the folder appears complete or not at all."""
        folder = self.path / "checkpoints" / f"{step:07d}"
        with _in_one_piece(folder) as beside:
            policy.save(beside)
        return folder


class Recorder(Observer):
    """Writes what happens into the run directory."""

    def __init__(self, run: Run, judge: str) -> None:
        self.run = run
        self.judge = judge

    def pairs_judged(self, progress: Progress, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        about = {"step": progress.step, "judge": self.judge}
        judged = zip(pairs, verdicts, strict=True)
        self.run.append("judgements.jsonl", [about | judgement(*row) for row in judged])

    def step_finished(self, step: Step) -> None:
        self.run.append("metrics.jsonl", [{"step": step.progress.step, **step.metrics}])

    def evaluated(self, evaluation: Evaluation) -> None:
        rates = {"win_rate": asdict(evaluation.win_rate), **evaluation.metrics}
        self.run.append("metrics.jsonl", [{"step": evaluation.step, "evaluation": rates}])


def judgement(pair: Pair, verdict: Verdict) -> dict[str, Any]:
    """One pair and its verdict, as the ledger keeps them."""
    return {
        "prompt_id": pair.prompt.id,
        "prompt": list(pair.prompt.messages) or pair.prompt.text,
        "first": _completion(pair.first),
        "second": _completion(pair.second),
        "probability": verdict.probability,
        "status": verdict.outcome,
        "orders": verdict.orders,
        "reason": verdict.reason,
    }


def choose_path(config: Config) -> Path:
    """Where the run goes: ``output.path``, or the first free ``runs/<algorithm>-<model>-<number>``."""
    if config.output.path:
        return Path(config.output.path).expanduser()
    algorithm = (config.registry.name_of(config.algorithm) or type(config.algorithm).__name__).split(":")[-1]
    model = re.split(r"[/:\\]", config.model.path.rstrip("/\\"))[-1]
    stem = re.sub(r"[^\w.-]+", "-", f"{algorithm}-{model}")
    numbers = (n for n in range(1, 1_000_000) if not (Path("runs") / f"{stem}-{n}").exists())
    return Path("runs") / f"{stem}-{next(numbers)}"


def refuse_taken(path: Path) -> None:
    """Raises `UserError` where `path` cannot become a new run directory."""
    if path.is_file():
        raise UserError(f"output.path: '{path}' is a file; give a folder.")
    if (path / MANIFEST).exists():
        raise UserError(f"output.path: '{path}' holds a run already; give another folder.")


class _in_one_piece:  # noqa: N801 - reads as a verb in a with statement
    """A folder written beside its place and renamed into it once its files are on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.beside = folder.with_name(f".{folder.name}.tmp")

    def __enter__(self) -> Path:
        shutil.rmtree(self.beside, ignore_errors=True)
        self.beside.mkdir(parents=True)
        return self.beside

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self.beside, ignore_errors=True)
            return
        for file in _files(self.beside):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.beside.replace(self.folder)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _completion(completion: Completion) -> dict[str, Any]:
    return {
        "text": completion.text,
        "tokens": list(completion.tokens),
        "stopped": completion.stopped,
        "source": completion.source,
    }


def _provenance(seed: int) -> dict[str, Any]:
    names = ("prefloop", "mlx", "mlx-lm", "datasets")
    return {
        "versions": {name: importlib.metadata.version(name) for name in names},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": _git(),
        "seed": seed,
        "started": _now(),
    }


def _git() -> dict[str, Any] | None:
    """Commit of the folder one stands in, where it is a git checkout."""

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return commit and {"commit": commit, "dirty": bool(ask("status", "--porcelain"))}  # type: ignore[return-value]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
