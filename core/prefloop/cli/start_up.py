"""What a command that computes does first."""

from __future__ import annotations

import os

from prefloop import blas


def be_ready() -> str | None:
    """Keep the libraries' own advice out of the output, and load a fast BLAS before anything imports mlx.

    Returns the library, or None where none was found or needed.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return blas.use_fastest() if blas.matters() else None
