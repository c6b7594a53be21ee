"""Experiments on the embedded models and on SmolLM2: what is learnt, by which method, from which judge.

``python -m benchmarks.experiments NAME|all`` in the root of a checkout trains what is not yet on record, and
writes the figures and pages in ``docs/experiments``. Every number there comes from what is on record.
"""

from benchmarks.harness import workers  # noqa: F401 (loads the BLAS before anything imports mlx)
