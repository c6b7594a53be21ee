"""The model families that are tried, what they keep of a text, and which ways are open to them.

`tests/test_generation.py` and `tests/test_fast_scoring.py` hold each line; `docs/performance.md` shows them.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Tried:
    """One family."""

    caches: str
    """mlx-lm's classes, with spaces between them."""
    sampling: str = "one pool"
    """Rows of any length together, those of equal length, or one by one."""
    shares_prompts: bool = True
    """Whether the prompt is computed once for both completions of a pair."""


FAMILIES = {
    "qwen3": Tried("KVCache"),
    "llama": Tried("KVCache"),
    "gemma": Tried("KVCache"),
    "deepseek_v3": Tried("KVCache"),
    "gemma3_text": Tried("KVCache RotatingKVCache"),
    "gemma3": Tried("KVCache RotatingKVCache"),
    "gpt_oss": Tried("KVCache RotatingKVCache"),
    "cohere2": Tried("KVCache RotatingKVCache"),
    # Its attention takes no mask for padding.
    "gemma2": Tried("KVCache", "pools of equal length", shares_prompts=False),
    "llama4": Tried("KVCache ChunkedKVCache", "one by one", shares_prompts=False),
    "mamba2": Tried("ArraysCache", shares_prompts=False),
    "lfm2": Tried("KVCache ArraysCache", shares_prompts=False),
    "qwen3_next": Tried("KVCache ArraysCache", shares_prompts=False),
    "recurrent_gemma": Tried("RotatingKVCache ArraysCache", shares_prompts=False),
    "baichuan_m1": Tried("CacheList", shares_prompts=False),
}


def table() -> str:
    """As the page shows it."""
    lines = [
        "| `model_type` | caches | sampling | prompt computed once for a pair |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in FAMILIES.items():
        caches = ", ".join(f"`{cache}`" for cache in found.caches.split())
        lines.append(f"| {name} | {caches} | {found.sampling} | {'yes' if found.shares_prompts else 'no'} |")
    return "\n".join(lines)
