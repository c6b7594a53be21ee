"""What is seen of a completion: which words occur in it, and which of them together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

WORDS = 1024
"""Places for words. Two share one where their hashes agree (Weinberger et al., arXiv 0902.2206)."""
_WORD = re.compile(r"\w+|[^\w\s]")


def words_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """One where a word or a mark occurs, and zero elsewhere: ``[len(texts), WORDS]``.

    The hash is CRC-32, which is the same in every process.
    """
    found = np.zeros((len(texts), WORDS), np.float32)
    for row, text in zip(found, texts, strict=True):
        row[[crc32(word.encode()) % WORDS for word in _WORD.findall(text.lower())]] = 1
    return found


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """What share of their words and pairs of words texts have in common, ``[M, N]``.

    Of ``[M, WORDS]`` and ``[N, WORDS]`` it is the cosine of the indicators of all words and of all pairs, so
    a covariance: that of texts each of whose words and pairs of words is worth something by itself, and none
    of which is worth more for having many. A text without words has nothing in common with any.
    """
    sizes = np.maximum(np.outer(_features(a.sum(axis=1)), _features(b.sum(axis=1))), 1)
    found: NDArray[np.float64] = _features(a @ b.T) / np.sqrt(sizes)
    return found


def _features(words: NDArray[np.float32]) -> NDArray[np.float64]:
    """How many words and pairs of words there are among so many words."""
    count = words.astype(np.float64)
    return count * (count + 1) / 2
