"""prefloop beside mlx-lm-lora and TRL: ``python -m benchmarks.others``, from the root of the repository.

``losses`` compares loss values and gradients with TRL's, ``learning`` trains the embedded policy with all
three on one task. Theirs runs in environments of its own, with pinned versions; `docs/experiments/others.md`
says what came of it.
"""
