"""How long a step takes and what it needs: ``python -m benchmarks.speed``, from the root of the repository.

The same work is done by prefloop and by mlx-lm-lora 5.10.2, in fresh processes that take turns;
`docs/performance.md` says how. What imports mlx runs in those processes, never in the one that measures.
"""
