"""Samples of ``perf``, read back: which phase each was taken in, and what the processor was doing.

A sample is a stack. What counts is what the kernel was doing in it, if anything, and the function of the
program that it was taken in or that called the kernel.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

CATEGORIES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.MULTILINE)
    for name, pattern in {
        # Threads of a BLAS that wait for work, or for each other's part of a product, without sleeping.
        "spinning": r"sched_yield|^blas_thread_server ",
        "memory": r"page_fault|munmap|_mmap|_brk\b|madvise|mremap"
        r"|^(_int_|__libc_|_mid_)?(malloc|free|calloc|realloc|memalign)\b|^cfree|^malloc_|^unlink_chunk"
        r"|^sysmalloc|^__lll_lock_\w+_private|^mlx::core::allocator::",
        "starting": r"futex|pthread_|lll_lock|[Ss]cheduler|command_encoder|_M_manager|eval_impl|cpu::eval[( ]"
        r"|^mlx::core::(array|SmallVector)\b|^std::_(Hashtable|Sp_counted|Rb_tree)|::vjp\b|libstdc\+\+"
        r"|libpython|/python[\d.]*\)|mlx/core\.\S*\)|_ctypes",
        "random numbers": r"threefry|RandomBits|/numpy/random/",
        "products": r"\(\S*(openblas|libblas|libcblas|mkl_|libblis|libnvpl|libarmpl)|gemm|gemv|matmul|qmm",
        "exponentials": r"\(\S*libm[.-]|simd::(exp|log)|simd_(exp|log)|_(exp|log)_|[Ss]igmoid|softmax"
        r"|logsumexp|detail::(Exp|Expm1|Log|Log1p|Tanh|Erf)\b",
        "element-wise": r"\(\S*(libmlx|/mlx/|_multiarray_umath)|^__mem(cpy|move|set)_|^ldiv ",
        "other": "",
    }.items()
}
"""By the frames of a sample, one a line, as ``symbol (library)``; the first that is found in them."""
COLUMNS = (
    "products",
    "exponentials",
    "element-wise",
    "random numbers",
    "memory",
    "starting",
    "other",
    "spinning",
)

Spans = Mapping[str, Sequence[Sequence[float]]]
"""When each phase began and ended, step by step, in seconds on the clock of the samples."""


@frozen
class Sample:
    """A moment of a thread that had a processor."""

    time: float
    frames: str
    """The kernel's, and the innermost of the program: one a line, the innermost first."""

    @property
    def category(self) -> str:
        return next(name for name, pattern in CATEGORIES.items() if pattern.search(self.frames))


def read(lines: Iterable[str]) -> Iterator[Sample]:
    """The samples in what ``perf script -F tid,time,ip,sym,dso`` prints: a head, then its frames."""
    time, frames = 0.0, list[str]()
    program = False  # whether a frame of the program was met
    for line in lines:
        if head := re.match(r"\s*\d+\s+(\d+\.\d+):\s*$", line):
            if frames:
                yield Sample(time, "\n".join(frames))
            time, frames, program = float(head[1]), [], False
        elif (frame := re.match(r"\s+([0-9a-f]+) (.+)$", line)) and not program:
            frames.append(frame[2])
            program = not frame[1].startswith("ffff")
    if frames:
        yield Sample(time, "\n".join(frames))


def sorted_out(samples: Iterable[Sample], spans: Spans, frequency: int) -> dict[str, dict[str, float]]:
    """Processor seconds of each phase by category: of an average step, all threads together."""
    found = {phase: Counter[str]() for phase in spans}
    for sample in samples:
        for phase, times in spans.items():
            if any(begin <= sample.time < end for begin, end in times):
                found[phase][sample.category] += 1
    return {
        phase: {name: counts[name] / frequency / len(spans[phase]) for name in CATEGORIES}
        for phase, counts in found.items()
    }


def seconds(spans: Spans) -> dict[str, float]:
    """What each phase of an average step took."""
    return {phase: sum(end - begin for begin, end in times) / len(times) for phase, times in spans.items()}
