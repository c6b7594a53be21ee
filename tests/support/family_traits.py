"""The model families under test: the caches of each, how it is sampled, whether it shares prompts.

`tests/test_generation.py` and `tests/test_fast_scoring.py` hold each line; `docs/performance.md` shows them.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Traits:
    """What holds for one family."""

    caches: str
    """mlx-lm's classes, with spaces between them."""
    sampling: str = "one pool"
    """Rows of any length together, those of equal length, or one by one."""
    shares_prompts: bool = True
    """Whether the prompt is computed once for both completions of a pair."""


TRAITS = {
    "qwen3": Traits("KVCache"),
    "llama": Traits("KVCache"),
    "gemma": Traits("KVCache"),
    "deepseek_v3": Traits("KVCache"),
    "gemma3_text": Traits("KVCache RotatingKVCache"),
    "gemma3": Traits("KVCache RotatingKVCache"),
    "gpt_oss": Traits("KVCache RotatingKVCache"),
    "cohere2": Traits("KVCache RotatingKVCache"),
    # Its attention takes no mask for padding.
    "gemma2": Traits("KVCache", "pools of equal length", shares_prompts=False),
    "llama4": Traits("KVCache ChunkedKVCache", "one by one", shares_prompts=False),
    "mamba2": Traits("ArraysCache", shares_prompts=False),
    "lfm2": Traits("KVCache ArraysCache", shares_prompts=False),
    "qwen3_next": Traits("KVCache ArraysCache", shares_prompts=False),
    "recurrent_gemma": Traits("RotatingKVCache ArraysCache", shares_prompts=False),
    "baichuan_m1": Traits("CacheList", shares_prompts=False),
}


def table() -> str:
    """The table in `docs/performance.md`."""
    lines = [
        "| `model_type` | caches | sampling | prompt computed once for a pair |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in TRAITS.items():
        caches = ", ".join(f"`{cache}`" for cache in found.caches.split())
        lines.append(f"| {name} | {caches} | {found.sampling} | {'yes' if found.shares_prompts else 'no'} |")
    return "\n".join(lines)
