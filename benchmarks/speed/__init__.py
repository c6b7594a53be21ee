"""How long a step takes and how much memory it needs: ``python -m benchmarks.speed``, from the root of a
checkout.

The same work is done by prefloop and by mlx-lm-lora and TRL, or by an earlier commit of prefloop, in fresh
processes that take turns. `comparing` runs a row, `rows` says what there is to run, `models`, `words` and
`english` make what is run, `ours`, `theirs` (mlx-lm-lora) and `trl_worker` are the workers, `pairing` and
`floor` conclude, `tables` and `sharing` show. benchmarks/README.md has the method.
"""
