"""Whole runs that ranks share: their files, how they are resumed, and how they end together."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from support.ranks import ended, start
from support.small_runs import SETTINGS, lines, settings_for

pytestmark = pytest.mark.slow


def configure(folder: Path, **training: Any) -> Path:
    """The folder of a run whose configuration is ``c.yaml`` beside it."""
    folder.mkdir()
    settings = {**SETTINGS["training"], "batch_size": 4, "iters": 8, "save_every": 4, "schedule": None}
    given = settings_for(folder / "run", training=settings | training, evaluation={"held_out": 3})
    (folder / "c.yaml").write_text(json.dumps(given))
    return folder / "run"


def train(run: Path, ranks: int, *arguments: str, code: int = 0) -> None:
    """Start or resume the run with so many ranks, each of which ends with `code`."""
    processes = start(ranks, run.parent, "-m", "prefloop", "train", *(arguments or ("c.yaml",)))
    for found, output, errors in ended(processes, 300):
        assert found == code, output + errors


def apart(run: Path, other: Path) -> float:
    """The largest difference of what was trained, relative to the largest number."""
    one, two = ({**mx.load(str(path / "adapters.safetensors"))} for path in (run, other))
    largest = max(mx.abs(value).max().item() for value in one.values())
    return max(mx.abs(one[name] - two[name]).max().item() for name in one) / largest


def judged(run: Path) -> list[Any]:
    """The labels of the ledger, in their order."""
    keys = ("step", "prompt_id", "first", "second", "probability", "status")
    return [[line[key] for key in keys] for line in lines(run / "judgements.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that was not interrupted."""
    run = configure(tmp_path_factory.mktemp("whole") / "run")
    train(run, 1)
    return run


def test_a_shared_run_has_the_files_of_one_process(whole: Path, tmp_path: Path) -> None:
    run = configure(tmp_path / "shared")
    train(run, 2)
    assert apart(whole, run) < 1e-5
    assert judged(run) == judged(whole)
    assert len(lines(run / "metrics.jsonl")) == len(lines(whole / "metrics.jsonl"))
    assert sorted(p.relative_to(run) for p in run.rglob("*")) == sorted(
        p.relative_to(whole) for p in whole.rglob("*")
    )


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (1, 3), (3, 1)])
def test_a_run_goes_on_with_another_number_of_ranks(
    before: int, after: int, whole: Path, tmp_path: Path
) -> None:
    run = configure(tmp_path / "resumed", iters=4)
    train(run, before)
    train(run, after, "--resume", str(run), "--set", "training.iters=8")
    assert apart(whole, run) < 1e-5
    labels = [str(one) for one in judged(run)]
    assert len(labels) == len(set(labels))
    trained = [line for line in lines(run / "metrics.jsonl") if "evaluation" not in line]
    assert [line["step"] for line in trained] == list(range(1, 9))


@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_rank_ends_all_and_the_run_is_saved(told: int, tmp_path: Path) -> None:
    run = configure(tmp_path / "stopped", iters=10_000, save_every=0)
    processes = start(2, run.parent, "-m", "prefloop", "train", "c.yaml")
    metrics = run / "metrics.jsonl"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (metrics.exists() and len(lines(metrics)) > 3):
        time.sleep(0.2)
    processes[told].send_signal(signal.SIGINT)
    assert [code for code, _, _ in ended(processes)] == [130, 130]
    manifest, last = json.loads((run / "run.json").read_text()), lines(metrics)[-1]["step"]
    assert (manifest["status"], manifest["reason"]) == ("stopped", "stopped by SIGINT")
    assert [p.name for p in (run / "checkpoints").iterdir()] == [f"{last:07d}"]
    train(run, 1, "--resume", str(run), "--set", f"training.iters={last + 1}")


def test_ranks_with_other_settings_do_not_begin(tmp_path: Path) -> None:
    run = configure(tmp_path / "unequal")
    (run.parent / "other.yaml").write_text(
        (run.parent / "c.yaml").read_text().replace('"rank": 2', '"rank": 3')
    )
    command = "import os, sys; from prefloop.cli import main; sys.argv = ['prefloop', 'train', FILE]; main()"
    chosen = command.replace("FILE", "'other.yaml' if os.environ['MLX_RANK'] == '1' else 'c.yaml'")
    for code, _, errors in ended(start(2, run.parent, "-c", chosen)):
        assert code == 2
        assert "rank 1 has another value than rank 0 of adapter.rank" in errors and "Traceback" not in errors
    assert not run.exists()
