"""What stands in mlx's place on x86 processors: NumPy in attention without a gradient, a BLAS and threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from prefloop.cpu import attention, blas
from prefloop.model.split import inference_attention

ROWS, HEADS, GROUPS, WIDTH = 2, 4, 2, 8
PLAIN = mx.fast.scaled_dot_product_attention


def inputs(length: int, keys: int) -> tuple[mx.array, mx.array, mx.array]:
    draw = np.random.default_rng(length)
    shapes = [(ROWS, HEADS, length, WIDTH), (ROWS, GROUPS, keys, WIDTH), (ROWS, GROUPS, keys, WIDTH + 1)]
    q, k, v = (mx.array(draw.normal(size=shape).astype(np.float32)) for shape in shapes)
    return 3 * q, k, v


def wanted(q: mx.array, k: mx.array, v: mx.array, allowed: Any) -> Any:
    """Attention in float64, one head after the other."""
    found = np.zeros((*q.shape[:3], v.shape[-1]))
    for row, head in np.ndindex(ROWS, HEADS):
        queries, keys, values = (
            np.asarray(a, dtype=np.float64)
            for a in (q[row, head], k[row, head * GROUPS // HEADS], v[row, head * GROUPS // HEADS])
        )
        scores = np.where(allowed[row, head], 0.3 * queries @ keys.T, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        found[row, head] = weights / weights.sum(axis=-1, keepdims=True) @ values
    return found


def masks(length: int, keys: int) -> dict[str, mx.array | str | None]:
    """Those of mlx-lm's models: none, causal, a window, and prompts padded on the left."""
    places = np.arange(keys - length, keys)[:, None]
    causal = np.arange(keys)[None] <= places
    window = causal & (np.arange(keys)[None] > places - 3)
    padding = causal[None, None] & (np.arange(keys) >= np.array([0, 2])[:, None, None, None])
    own = np.arange(keys) == places  # every query sees its own place
    by_head = causal & (np.random.default_rng(1).random((1, HEADS, length, keys)) < 0.7)
    arrays = {"window": window, "padding": padding | own, "by head": by_head | own}
    return {"none": None, "causal": "causal", **{name: mx.array(mask) for name, mask in arrays.items()}}


@pytest.mark.parametrize("queries", [1, 3, 64])
@pytest.mark.parametrize("name", masks(1, 1))
@pytest.mark.parametrize(("length", "keys"), [(7, 7), (7, 12), (1, 5)])
def test_numpy_attention_matches_the_formula(
    monkeypatch: pytest.MonkeyPatch, queries: int, name: str, length: int, keys: int
) -> None:
    monkeypatch.setattr(attention, "QUERIES", queries)
    q, k, v = inputs(length, keys)
    mask = masks(length, keys)[name]
    given = masks(length, keys)["causal" if mask is None else name]
    allowed = np.tri(length, keys, keys - length, dtype=bool) if isinstance(given, str) else np.asarray(given)
    allowed = np.ones_like(allowed) if mask is None else allowed
    allowed = np.broadcast_to(allowed, (ROWS, HEADS, length, keys))
    found = attention.attend(q, k, v, scale=0.3, mask=mask)
    np.testing.assert_allclose(np.asarray(found), wanted(q, k, v, allowed), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        np.asarray(found), np.asarray(PLAIN(q, k, v, scale=0.3, mask=mask)), rtol=1e-5, atol=1e-6
    )


def test_a_fully_masked_query_gives_finite_values() -> None:
    """Padding before a prompt: its own rows are never looked at, but must not be undefined."""
    q, k, v = inputs(4, 4)
    mask = mx.array(np.tri(4, dtype=bool) & (np.arange(4) >= 2))
    found = attention.attend(q, k, v, scale=0.3, mask=mask)
    assert mx.isfinite(found).all().item()
    expected = PLAIN(q, k, v, scale=0.3, mask=mask)
    np.testing.assert_allclose(np.asarray(found[:, :, 2:]), np.asarray(expected[:, :, 2:]), rtol=1e-5)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Masks of the calls that NumPy took."""
    seen: list[Any] = []

    def attend(q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Any) -> mx.array:
        seen.append(mask)
        return mx.zeros((*q.shape[:3], v.shape[-1]))

    monkeypatch.setattr(attention, "slow_exp", lambda: True)
    monkeypatch.setattr(attention, "MIN_SCORES", ROWS * HEADS * 5 * 5)
    monkeypatch.setattr(attention, "attend", attend)
    return seen


def test_numpy_attention_handles_only_supported_and_large_calls(taken: list[Any]) -> None:
    q, k, v = inputs(5, 5)
    with inference_attention():
        now = mx.fast.scaled_dot_product_attention
        now(q, k, v, scale=1.0, mask="causal")
        now(q, k, v, scale=1.0)
        assert taken == ["causal", None]
        now(q[:, :, :4], k, v, scale=1.0)  # fewer scores
        now(q, k, v, scale=1.0, mask=mx.zeros((5, 5)))  # added to the scores
        now(q, k, v, scale=1.0, sinks=mx.zeros(HEADS))
        now(*(a.astype(mx.bfloat16) for a in (q, k, v)), scale=1.0)
    assert taken == ["causal", None]
    assert mx.fast.scaled_dot_product_attention is PLAIN


def test_numpy_attention_ends_with_its_block_even_after_an_error(taken: list[Any]) -> None:
    with pytest.raises(RuntimeError, match="stopped"), inference_attention():
        assert mx.fast.scaled_dot_product_attention is not PLAIN
        raise RuntimeError("stopped")
    assert mx.fast.scaled_dot_product_attention is PLAIN


def test_processors_with_fast_exp_keep_mlx_attention(
    taken: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "slow_exp", lambda: False)
    with inference_attention():
        assert mx.fast.scaled_dot_product_attention is PLAIN


@pytest.mark.skipif(not blas.uses_linux_cpu_backend(), reason="mlx computes elsewhere")
def test_a_processor_with_avx_gets_no_kernel_without_it() -> None:
    code = "from prefloop.cpu import blas; blas.use_fastest(); print(blas.described().get('kernel', ''))"
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "PREFLOOP_BLAS")}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert not (shown == "Prescott" and " avx " in Path("/proc/cpuinfo").read_text())
