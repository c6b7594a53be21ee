"""OpenAI-compatible servers that sample for a run: `mlx_lm.server` and vLLM."""
