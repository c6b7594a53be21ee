"""Experiments on the embedded models: what is learnt, by which method, from which judge.

``python -m benchmarks.experiments NAME|all`` in the root of a checkout trains what is not yet on record, and
writes the figures and pages in ``docs/experiments``. Every number there comes from what is on record.
"""

from prefloop.cpu import blas

blas.use_fastest()  # before anything imports mlx
