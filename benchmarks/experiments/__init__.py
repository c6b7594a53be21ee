"""Experiments on the embedded models: what is learnt, by which method, from which judge.

``python -m benchmarks.experiments NAME|all`` in the root of a checkout trains what is not yet on record, and
writes the figures and pages in ``docs/experiments``. Every number there comes from what is on record.
"""

import os

from prefloop import blas

# Before anything imports mlx. Runs go side by side, one thread each.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
blas.use_fastest()
