"""Reads the files of W&B's offline mode, as a killed process leaves them: W&B has no reader in Python.

They are LevelDB logs (blocks of 32 KiB, in which each piece has a header of checksum, length and kind) of
W&B's own protocol buffers, after a header of seven bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefloop_trackers.entries import COUNTS

BLOCK, HEADER = 32 * 1024, 7
FULL, FIRST, MIDDLE, LAST = range(1, 5)


def records(file: Path) -> Iterator[Any]:
    """The records, up to one that is cut off."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = file.read_bytes(), HEADER, b""
    while place + HEADER <= len(data):
        if (left := BLOCK - place % BLOCK) < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        place += HEADER + length
        if kind not in (FULL, FIRST, MIDDLE, LAST) or place > len(data):
            return
        piece = data[place - length : place]
        parts = piece if kind in (FULL, FIRST) else parts + piece
        if kind in (FULL, LAST):
            yield Record.FromString(parts)


def counts_in(file: Path) -> Iterator[tuple[str, float]]:
    """The values of `COUNTS` that were written."""
    for record in records(file):
        for item in record.history.item:
            name = item.key or item.nested_key[0]
            if name in COUNTS.values():
                yield name, json.loads(item.value_json)
