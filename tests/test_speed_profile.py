"""What the profile concludes from samples: their category, their phase, seconds of an average step.

The samples are written here as perf prints them; ``python -m benchmarks.speed --profile`` takes them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.speed import profiling, rows, samples, table

from prefloop import UserError

ROW = rows.Row("S", 2, 5, "80")
LIBRARIES = {"BLAS": "/usr/lib/libopenblas.so.0", "mlx": "/venv/mlx/lib/libmlx.so", "C": "/usr/lib/libc.so.6"}
KERNEL = "ffffffff82100000"


def stack(*frames: str, library: str = "mlx") -> list[str]:
    """Frames as perf prints them: the kernel's, which start with a +, one of `library`, and its caller."""
    found = [
        f"\t{KERNEL} {frame[1:]} ([kernel.kallsyms])"
        if frame.startswith("+")
        else f"\t    7ffb7518a600 {frame} ({LIBRARIES.get(library, library)})"
        for frame in frames
    ]
    return [*found, "\t           19a600 malloc (/usr/lib/libc.so.6)"]


@pytest.mark.parametrize(
    ("frames", "library", "category"),
    [
        (["sgemm_kernel_HASWELL"], "BLAS", "products"),
        (["mlx::core::matmul_dispatch<float>"], "mlx", "products"),
        (["mlx::core::simd::exp<float, 1>"], "mlx", "exponentials"),
        (["__fmaf_fma3"], "/usr/lib/libm.so.6", "exponentials"),
        (["simd_exp_FLOAT"], "/venv/numpy/_core/_multiarray_umath.so", "exponentials"),
        (["FLOAT_add"], "/venv/numpy/_core/_multiarray_umath.so", "element-wise"),
        (["mlx::core::binary_op<float, float, mlx::core::detail::Multiply>"], "mlx", "element-wise"),
        (
            ["Add_VV_f4f4_1_contiguous"],
            "/cache/mlx/0.32.4/cpu/libAdd_VV_f4f4_1_contiguous.so",
            "element-wise",
        ),
        (["mlx::core::random::threefry2x32_hash"], "mlx", "random numbers"),
        (["_int_malloc"], "C", "memory"),
        (["+clear_page_erms", "+asm_exc_page_fault", "sgemm_beta_HASWELL"], "BLAS", "memory"),
        (["mlx::core::eval_impl"], "mlx", "starting"),
        (["mlx::core::scheduler::enqueue<mlx::core::softmax<float> >"], "mlx", "starting"),
        (["+wake_up_q", "+__x64_sys_futex", "pthread_cond_broadcast"], "C", "starting"),
        (["_PyEval_EvalFrameDefault"], "/usr/lib/libpython3.11.so.1.0", "starting"),
        (["+__schedule", "+__x64_sys_sched_yield", "__sched_yield"], "C", "spinning"),
        (["blas_thread_server"], "BLAS", "spinning"),
        (["+filemap_read", "+__x64_sys_pread64", "__libc_pread"], "C", "other"),
    ],
)
def test_a_sample_is_of_one_category(frames: list[str], library: str, category: str) -> None:
    lines = ["  123    7.000000: ", *stack(*frames, library=library), ""]
    (sample,) = samples.read(lines)
    assert (sample.time, sample.category) == (7.0, category)
    assert sample.frames.count("\n") == len(frames) - 1


def test_samples_are_sorted_into_the_phases_of_a_step() -> None:
    times = [0.9, 1.0, 1.5, 2.5, 3.1, 9.0]
    names = ["threefry", "threefry", "sgemm_nn", "sgemm_nn", "sgemm_nn", "threefry"]
    lines = [
        line
        for time, name in zip(times, names, strict=True)
        for line in (f"  12 {time:.6f}: ", *stack(name), "")
    ]
    spans = {"sampling": [(1.0, 2.0), (3.0, 4.5)], "judging": [(2.0, 3.0), (4.5, 5.0)]}
    found = samples.sorted_out(samples.read(lines), spans, frequency=10)
    assert found["sampling"] == dict.fromkeys(samples.CATEGORIES, 0.0) | {
        "random numbers": pytest.approx(0.05),
        "products": pytest.approx(0.1),
    }
    assert sum(found["judging"].values()) == found["judging"]["products"] == pytest.approx(0.05)
    assert samples.seconds(spans) == {"sampling": 1.25, "judging": 0.75}
    phases = {name: {"seconds": 1.25, "processor": found[name]} for name in found}
    row = {"row": ROW.as_json(), "sides": {"earlier": {"phases": phases}}, "version": "abc"}
    lines = table.profile({"profile": {ROW.name: row}}).splitlines()
    assert len(lines) == 4 and "| earlier abc | sampling | 1.25 | 0.10 | 0.00 | 0.00 | 0.05 |" in lines[2]


def test_without_perf_the_profile_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UserError, match="Linux only"):
        profiling.check_perf()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="not on the PATH"):
        profiling.check_perf()
