"""How long a step takes and how much memory it needs: ``python -m benchmarks.speed``, from the root of a
checkout.

The same work is done by prefloop and by mlx-lm-lora, or by an earlier commit of prefloop, in fresh processes
that take turns. `comparing` runs a row, `rows` says what there is to run, `models` and `words` make what is
run, `ours` and `theirs` are the workers, `pairing` concludes, `tables` shows. benchmarks/README.md has the
method.
"""
