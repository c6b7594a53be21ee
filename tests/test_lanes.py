"""Two lanes on mlx's CPU back end: what goes where, the threads of the BLAS, and that the loop uses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from prefloop import Loop, Policy, component
from prefloop.config import AdapterConfig, TrainingConfig
from prefloop.cpu import blas, kernels, lanes, on_cpu
from support.cpu_lanes import two_lanes
from support.plain_scoring import batch, error
from support.tiny_models import ModelFolder

pytestmark = pytest.mark.skipif(not on_cpu(), reason="lanes are for mlx's CPU back end")


def streams(rows: int) -> list[tuple[int, int, bool]]:
    """The parts of so many rows, and whether their lane is the default stream."""
    usual = mx.default_stream(mx.cpu)
    return [(p.start, p.stop, mx.default_stream(mx.cpu) == usual) for p in lanes.parted(rows)]


def test_rows_are_divided_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = mx.default_stream(mx.cpu)
    assert streams(4) == [(0, 4, True)], "outside"
    with two_lanes(monkeypatch):
        assert streams(4) == [(0, 2, True), (2, 4, False)]
        assert streams(3) == [(0, 3, True)]
        with lanes.divided():
            assert lanes.count() == 2, "not four"
        assert lanes.count() == 2
    assert lanes.count() == 1
    assert mx.default_stream(mx.cpu) == usual


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of threads that a stand-in for OpenBLAS is told, which has 6 at first."""
    counts = [6]
    library = SimpleNamespace(
        openblas_get_parallel=lambda: 1,
        openblas_get_num_threads=lambda: counts[-1],
        openblas_set_num_threads=counts.append,
    )
    monkeypatch.setattr(blas, "_in_use", {"openblas": library})
    monkeypatch.setenv("MLX_BFS_MAX_WIDTH", "100")
    return counts


def test_each_lane_has_half_of_the_threads(told: list[int]) -> None:
    with pytest.raises(RuntimeError, match="stopped"), lanes.divided():
        assert (lanes.count(), told) == (2, [6, 3])
        raise RuntimeError("stopped")
    assert (lanes.count(), told) == (1, [6, 3, 6])
    with lanes.divided(wanted=False):
        assert lanes.count() == 1


@pytest.mark.parametrize("reason", ["one thread", "an OpenMP build", "no OpenBLAS", "depth first"])
def test_there_is_one_lane_where_two_would_wait_for_each_other(
    told: list[int], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    library: Any = blas._in_use["openblas"]
    if reason == "one thread":
        told[:] = [1]
    elif reason == "an OpenMP build":
        library.openblas_get_parallel = lambda: 2
    elif reason == "no OpenBLAS":
        monkeypatch.setattr(blas, "_in_use", {"mkl": SimpleNamespace()})
    else:
        monkeypatch.delenv("MLX_BFS_MAX_WIDTH")
    with lanes.divided():
        assert (lanes.most(), lanes.count()) == (1, 1)


def make_loop(model_folder: ModelFolder, adapter: AdapterConfig, **training: Any) -> Loop:
    policy = Policy.load(str(model_folder("qwen3")), adapter)
    settings = TrainingConfig(batch_size=3, iters=1, **training)
    return Loop(
        policy, batch().prompts, judge=component("judge", "rule")(length="shorter"), training=settings
    )


def gradient_of(loop: Loop) -> dict[str, mx.array]:
    return dict(tree_flatten(loop.total_gradient(batch(), loop.progress(1))[0]))


def test_the_loop_scores_in_lanes_and_its_gradient_is_the_same(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(model_folder, AdapterConfig(rank=4, layers=-1))
    alone = gradient_of(loop)
    monkeypatch.setattr(lanes, "most", lambda: 2)
    used: list[int] = []
    real = lanes.lane
    monkeypatch.setattr(lanes, "lane", lambda number: used.append(number) or real(number))
    assert error(gradient_of(loop), alone) < 1e-5
    assert {0, 1} <= set(used)


def test_a_thread_of_its_own_scores_in_lanes(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mlx lets no other thread use a stream, and a program may call the loop from any."""
    monkeypatch.setattr(lanes, "most", lambda: 2)
    found: list[dict[str, mx.array]] = []

    def train() -> None:
        found.append(gradient_of(make_loop(model_folder, AdapterConfig(rank=4, layers=-1))))

    for _ in range(2):
        thread = Thread(target=train)
        thread.start()
        thread.join()
    train()
    assert len(found) == 3
    assert max(error(one, found[0]) for one in found[1:]) < 1e-5


def test_lanes_are_not_used_where_they_do_not_pay(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "most", lambda: 2)
    lora = AdapterConfig(rank=4, layers=-1)
    assert make_loop(model_folder, lora).lanes == 2
    assert make_loop(model_folder, lora, gradient_checkpointing=True).lanes == 1
    assert make_loop(model_folder, AdapterConfig(type="full", layers=-1)).lanes == 1, "the head is trained"
    monkeypatch.setattr(kernels, "slow_exp", lambda: True)
    monkeypatch.setattr(kernels, "MIN_TRACED_WIDTH", 0)
    assert make_loop(model_folder, lora).lanes == 1, "NumPy is left the head"


@pytest.mark.skipif(not blas.uses_linux_cpu_backend(), reason="mlx computes elsewhere")
def test_the_wheels_openblas_is_made_once_and_computes(tmp_path: Path) -> None:
    """In a folder of its own, from the packages of the extra ``cpu``, and with LAPACK's names too."""
    pytest.importorskip("scipy_openblas32")
    code = (
        "from prefloop.cpu import blas; made = blas._from_wheel(); print(made.stat().st_mtime_ns)\n"
        "import ctypes; library = ctypes.CDLL(str(made))\n"
        "assert all(hasattr(library, name) for name in ('cblas_sgemm', 'sgesdd_', 'openblas_get_parallel'))\n"
        "assert blas._load(str(made)); import mlx.core as mx\n"
        "assert (mx.ones((2, 300)) @ mx.ones((300, 2))).tolist() == [[300.0, 300.0]] * 2"
    )
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    shown = [subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(2)]
    assert [one.stderr for one in shown] == ["", ""]
    assert shown[0].stdout == shown[1].stdout != ""
    assert [file.name for file in (tmp_path / "prefloop").iterdir()] == [blas._from_wheel().name]
