"""The run directory: everything that is known of a run, as files.

    runs/<name>/
      config.yaml            resolved, with qualified names
      run.json               versions, seed, git commit, status, summary
      metrics.jsonl          one line for each step and each evaluation
      judgements.jsonl       the ledger: one line for each judged pair
      evaluations/           each evaluation whole, with its pairs: <step>.json
      checkpoints/<step>/    everything that the next step depends on
      adapters.safetensors, adapter_config.json    as mlx_lm generate --adapter-path wants them
      model/                 full fine-tuning only: the whole model, as --model wants it
      report.html            made from the files above
      log.txt                what a run in the background prints

`view` reads it; whatever shows a run goes through that.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import attrs
from attrs import asdict

from prefloop.beginning import beginning
from prefloop.components import BaseJudge, Judge, Observer, adapt
from prefloop.config import Config, dump_config
from prefloop.config.dump import to_plain
from prefloop.embedded import local_path
from prefloop.errors import UserError, said_of
from prefloop.model.adapters import ADAPTER_CONFIG, ADAPTERS
from prefloop.registry import Origin, origin_of
from prefloop.runs.dependencies import Change, content_digest, machine
from prefloop.runs.files import (
    append_lines,
    discard,
    disk_errors_as_user_errors,
    is_as_written,
    new_folder,
    read_lines,
    rewrite,
    rewrite_json,
    sealed_lines,
    signed,
    sweep,
)
from prefloop.runs.holding import take
from prefloop.runs.ledger import Ledger
from prefloop.runs.plan import Plan
from prefloop.runs.records import JudgeIdentity, StepMetrics, evaluation_to_json, metrics_to_json
from prefloop.runs.view import (
    CHECKPOINTS,
    CONFIG,
    EVALUATIONS,
    LEDGER,
    LOCK,
    LOG,
    MANIFEST,
    METRICS,
    RunView,
    read_manifest,
)
from prefloop.types import Evaluation, Step

if TYPE_CHECKING:
    from prefloop.model.policy import Policy

FINAL = ".final"
"""Where the final files are written before they are moved into place."""
MODEL = "model"
_FINAL = (ADAPTERS, ADAPTER_CONFIG, MODEL)
_VERSIONS = ("prefloop", "mlx", "mlx-lm", "datasets")
_OWN = re.compile(
    "|".join(map(re.escape, (CONFIG, MANIFEST, METRICS, LEDGER, FINAL, *_FINAL, "report.html")))
)
_NUMBERED = re.compile(r"\d{7,}(\.json)?")
"""The names of what is numbered by a step: checkpoints and evaluations."""


class Run(RunView):
    """A run directory, held by this process while it is in a ``with`` statement."""

    def __init__(self, path: Path, config: Config, manifest: dict[str, Any]) -> None:
        super().__init__(path, manifest)
        self.config = config
        self._lock: IO[bytes] | None = None

    @classmethod
    def create(cls, path: Path, config: Config, plan: Plan, depends_on: Mapping[str, str]) -> Run:
        """Make the directory. Raises `UserError` where it holds anything already or cannot be made.

        `depends_on` are the digests of what the run depends on.
        """
        refuse_taken(path)
        manifest: dict[str, Any] = {
            "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
            "python": platform.python_version(),
            "platform": platform.platform(),
            "machine": machine(),
            "git": _git(),
            "seed": config.training.seed,
            "started": _now(),
            "began": beginning().to_json(),
            "depends_on": dict(depends_on),
            "plan": asdict(plan),
            "asks_a_person": any(adapt(judge, BaseJudge).interactive for judge in config.judges.values()),
            "status": "running",
            "summary": {},
            "lines": {},
            "wrote": [],
        }
        run = cls(path, config, manifest)
        try:
            path.mkdir(parents=True, exist_ok=True)
            run._take()
            run._save_config()
            run.save_manifest()
        except OSError as error:
            raise UserError(f"output.path: cannot write to '{path}': {error.strerror}.") from error
        return run

    @classmethod
    def open(
        cls, path: Path, config: Config, plan: Plan, depends_on: Mapping[str, str], changes: Sequence[Change]
    ) -> Run:
        """Take up a run that was interrupted, with what has changed since in what it depends on.

        Raises `UserError` where another process holds it, it cannot be written to, or somebody's files are
        where its own will be.
        """
        manifest = read_manifest(path) | {"plan": asdict(plan), "machine": machine()}
        manifest["depends_on"] = dict(depends_on)
        if changes:
            manifest["changes"] = [
                *manifest.get("changes", ()),
                *({**asdict(c), "at": _now()} for c in changes),
            ]
        run = cls(path, config, manifest)
        with disk_errors_as_user_errors(path):
            run._take()
            run._refuse_foreign(_FINAL)
            run._save_config()
            sweep(path, _OWN)
            for folder in (path / CHECKPOINTS, path / EVALUATIONS):
                sweep(folder, _NUMBERED)
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._lock:
            self._lock.close()

    @property
    def status(self) -> str:
        """As `RunView.status`; this process need not ask for the lock."""
        return str(self.manifest["status"])

    def begin(self, step: int, evaluated: Collection[int] = ()) -> None:
        """Start writing after `step` and the evaluations in `evaluated`; what comes again is cut off."""
        self.ledger = Ledger(self.path / LEDGER)
        (self.path / LEDGER).touch()  # a run that ends before the first verdict lacks no file
        metrics = read_lines(self.path / METRICS, _with_step)
        rewrite(self.path / METRICS, sealed_lines([m for m in metrics if _is_past(m, step, evaluated)]))
        for file in (self.path / EVALUATIONS).glob("*.json"):
            if _NUMBERED.fullmatch(file.name) and int(file.stem) not in evaluated:
                file.unlink()
        self.manifest |= {"status": "running"}
        for about_the_end in ("reason", "resumable"):
            self.manifest.pop(about_the_end, None)
        self.count_lines()

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Write down how the run ended."""
        self.manifest |= {"status": status, "summary": dict(summary), "ended": _now()}
        self.count_lines()

    def count_lines(self) -> None:
        """Write down how many lines metrics and ledger have, so that one that is removed later is missed."""
        files = {name: self.path / name for name in (METRICS, LEDGER)}
        counts = {name: file.read_bytes().count(b"\n") for name, file in files.items() if file.exists()}
        self.manifest["lines"] = counts
        self.save_manifest()

    def fail(self, error: BaseException) -> None:
        """Write down what broke the run, where that can still be written."""
        self.manifest |= {"reason": str(error) or type(error).__name__}
        with contextlib.suppress(OSError):
            self.finish("failed", self.summary)

    def save_manifest(self) -> None:
        """Write ``run.json`` in one piece."""
        rewrite_json(self.path / MANIFEST, self.manifest)

    def save_policy(self, policy: Policy) -> None:
        """Write the trained tensors and, for full fine-tuning, the whole model.

        Raises `UserError` where somebody else's files are in their place.
        """
        with new_folder(self.path / FINAL) as folder:
            policy.save(folder)
            if policy.adapter.type == "full":
                (folder / MODEL).mkdir()
                policy.save_model(folder / MODEL)
        made = sorted((self.path / FINAL).iterdir())
        self._refuse_foreign([file.name for file in made])
        self.manifest["wrote"] = [*self.manifest.get("wrote", ()), *map(content_digest, made)]
        self.save_manifest()
        for file in made:
            if file.is_dir() and (self.path / file.name).exists():
                discard(self.path / file.name)
            file.replace(self.path / file.name)
        (self.path / FINAL).rmdir()

    def _refuse_foreign(self, names: Iterable[str]) -> None:
        """Raises `UserError` where a final file is not one that the run wrote; older ones kept no list."""
        wrote = self.manifest.get("wrote")
        for path in (self.path / name for name in names):
            if wrote is not None and os.path.lexists(path) and content_digest(path) not in wrote:
                raise UserError(
                    f"'{path}' is where this run writes its own at the end, and the run did not write it: "
                    "move it away."
                )

    def _save_config(self) -> None:
        rewrite(self.path / CONFIG, signed(dump_config(self.config).encode()))

    def _take(self) -> None:
        """Keep other processes out for as long as this one lives."""
        self._lock = take(self.path, f"run '{self.path}'")


class Recorder(Observer):
    """Writes the metrics and evaluations of a run."""

    def __init__(self, run: Run) -> None:
        self.run = run.path

    def step_finished(self, step: Step) -> None:
        line = metrics_to_json(StepMetrics(step.progress.step, step.metrics))
        append_lines(self.run / METRICS, [line])

    def evaluated(self, evaluation: Evaluation) -> None:
        file = self.run / EVALUATIONS / f"{evaluation.step:07d}.json"
        file.parent.mkdir(exist_ok=True)
        rewrite_json(file, evaluation_to_json(evaluation))
        append_lines(self.run / METRICS, [metrics_to_json(evaluation)])


def _with_step(line: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(line.get("step"), int):
        raise ValueError("it has no step")
    return line


def _is_past(line: Mapping[str, Any], step: int, evaluated: Collection[int]) -> bool:
    """Whether a line of the metrics is not written again by a run that goes on after `step`."""
    return line["step"] in evaluated if "evaluation" in line else line["step"] <= step


def identify(judge: Any, origins: Mapping[type, Origin]) -> JudgeIdentity:
    """Who a judge is, for a ledger. `origins` say where component classes come from (`Config.origins`).

    Options whose field has ``metadata={"identity": False}`` do not matter to what is answered, such as a
    time limit.
    """
    plain = to_plain(judge, origins, Judge)
    origin = origin_of(judge, "judge", origins)
    del plain["use"]
    fields = attrs.fields_dict(type(judge)) if attrs.has(type(judge)) else {}
    options = {k: v for k, v in plain.items() if fields[k].metadata.get("identity", True)}
    text = json.dumps(options, sort_keys=True, default=str)
    return JudgeIdentity(origin.name, origin.version, hashlib.sha256(text.encode()).hexdigest()[:16])


def check_config(path: Path) -> None:
    """Raises `UserError` where ``config.yaml`` of the run in `path` is not as the run wrote it."""
    file = path / CONFIG
    try:
        as_written = is_as_written(file.read_bytes())
    except OSError as error:
        raise UserError(f"'{file}' cannot be read: {error.strerror}.") from error
    if not as_written:
        raise UserError(
            f"'{file}' was changed or damaged: it is not what the run's steps were taken with. Put it back "
            "as it was and change settings with --set, or start a new run with it."
        )


def choose_path(config: Config) -> Path:
    """Where the run goes: ``output.path``, or the first free ``runs/<algorithm>-<model>-<number>``."""
    if config.output.path:
        with said_of("output.path"):
            return local_path(config.output.path)
    algorithm = origin_of(config.algorithm, "algorithm", config.origins).short
    model = re.split(r"[/:\\]", config.model.path.rstrip("/\\"))[-1]
    stem = re.sub(r"[^\w.-]+", "-", f"{algorithm}-{model}")
    numbers = (n for n in range(1, 1_000_000) if not (Path("runs") / f"{stem}-{n}").exists())
    return Path("runs") / f"{stem}-{next(numbers)}"


def refuse_taken(path: Path) -> None:
    """Raises `UserError` where `path` cannot become a new run directory: one that is new, or empty."""
    file = next((p for p in (path, *path.parents) if p.is_file()), None)
    if file is not None:
        raise UserError(f"output.path: '{file}' is a file; give a folder.")
    if (path / MANIFEST).exists():
        raise UserError(
            f"output.path: '{path}' holds a run already; give another folder, or go on with that run: "
            f"prefloop train --resume {shlex.quote(str(path))}"
        )
    around = next((p for p in path.absolute().parents if (p / MANIFEST).exists()), None)
    if around is not None:
        raise UserError(f"output.path: '{path}' lies in the folder of the run '{around}'; give another one.")
    try:
        there = {file.name for file in path.iterdir()} if path.exists() else set()
    except OSError as error:
        raise UserError(f"output.path: cannot write to '{path}': {error.strerror}.") from error
    if LOCK in there:  # of a run that was killed as it began
        there -= {LOCK, CONFIG, *(f".{name}.tmp" for name in (CONFIG, MANIFEST))}
    if strangers := sorted(there - {LOG, ".DS_Store"}):
        raise UserError(
            f"output.path: '{path}' is not empty: '{strangers[0]}' is in it. Give a new or empty folder."
        )


def _git() -> dict[str, Any] | None:
    """Commit of the folder one stands in, where it is a git checkout."""
    answers = []
    for question in (["rev-parse", "HEAD"], ["status", "--porcelain"]):
        try:
            done = subprocess.run(["git", *question], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        answers.append(done.stdout.strip())
    return {"commit": answers[0], "dirty": bool(answers[1])}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
