"""What is seen of a completion: which words, and which two in a row, occur in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

FEATURES = 512
"""Features of a text. Words share one where their hashes agree (Weinberger et al., arXiv 0902.2206)."""
_WORD = re.compile(r"\w+|[^\w\s]")


def occurrences(texts: Sequence[str]) -> NDArray[np.int8]:
    """One where a word, a mark or two of them in a row occur, and zero elsewhere: ``[len(texts), FEATURES]``.

    The hash is CRC-32, which is the same in every process.
    """
    found = np.zeros((len(texts), FEATURES), np.int8)
    for row, text in zip(found, texts, strict=True):
        words = _WORD.findall(text.lower())
        for seen in (*words, *map(" ".join, pairwise(words))):
            row[crc32(seen.encode()) % FEATURES] = 1
    return found
