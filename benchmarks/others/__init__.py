"""prefloop beside mlx-lm-lora and TRL: ``python -m benchmarks.others``, from the root of a checkout.

``losses`` compares loss values and gradients with TRL's, ``learning`` trains the embedded policy with all
three on one task, and ``real`` SmolLM2 on another. The workers of the other tools run in environments of
their own, with pinned versions; `docs/experiments/others.md` says what came of it.
"""
