"""What the fault campaign holds a run against: files that can be read, and its uninterrupted twin."""

from __future__ import annotations

import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from attrs import field, frozen

SETTINGS: dict[str, Any] = {
    "model": "embedded:policy",
    "prompts": {"path": "embedded:prompts", "limit": 40},
    "judge": {"use": "llm", "model": "embedded:judge", "batch_size": 4},
    "sampler": {"max_completion_length": 8},
    "adapter": {"rank": 2, "layers": 1},
    "training": {
        "batch_size": 3,
        "iters": 10,
        "save_every": 2,
        "evaluate_every": 3,
        "learning_rate": 1e-3,
        "schedule": {"use": "cosine_decay", "warmup": 2},
    },
    "evaluation": {"held_out": 4},
}
DIFFERS = ("seconds", "tokens_per_second", "peak_memory_gb", "crc")
"""What differs between any two runs: how long things took, and what depends on that."""


@frozen
class Outcome:
    """How a fault ended, and what it cost."""

    kind: str
    refused: int = 0
    """Times that prefloop said what is wrong, in lines that begin with ``error:``, and exited with 2."""
    same_end: int = 0
    """Times that the run ended as its twin did, bit for bit."""
    losses: Counter[str] = field(factory=Counter)


@frozen
class Twin:
    """What a run that nothing interrupted came to."""

    adapters: bytes
    metrics: list[str]
    ledger: list[str]

    @classmethod
    def of(cls, run: Path) -> Twin:
        return cls(
            (run / "adapters.safetensors").read_bytes(),
            records(run / "metrics.jsonl"),
            records(run / "judgements.jsonl"),
        )

    def losses(self, run: Path, *, cut: bool = False) -> Counter[str]:
        """What the finished `run` lacks or has besides.

        Where lines were `cut` off, they are missing, and a later step may have asked for a label again.
        """
        end = Twin.of(run)
        expected, found = (Counter(_without_steps(t.ledger) if cut else t.ledger) for t in (self, end))
        return +Counter(
            {
                "labels lost": 0 if cut else (expected - found).total(),
                "labels repeated": (found - expected).total(),
                "other adapters": int(end.adapters != self.adapters),
                "other metrics": int(not set(end.metrics) <= set(self.metrics))
                if cut
                else int(end.metrics != self.metrics),
            }
        )


def _without_steps(ledger: list[str]) -> list[str]:
    rows = [json.loads(line) for line in ledger]
    return [json.dumps({k: v for k, v in row.items() if k not in ("step", "evaluation")}) for row in rows]


def records(path: Path) -> list[str]:
    """The lines of a file, without what differs between any two runs."""
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [json.dumps({k: v for k, v in row.items() if not k.startswith(DIFFERS)}) for row in found]


def unreadable(run: Path) -> list[str]:
    """The files of a run that cannot be read; what stands beside its place does not belong to it yet."""
    files = [path for path in run.rglob("*") if path.is_file() and not _beside(path.relative_to(run))]
    return [f"{path}: {problem}" for path in files if (problem := _problem(path))]


def _beside(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _problem(path: Path) -> str:
    try:
        _READERS.get(path.suffix, _nothing)(path.read_bytes())
    except (ValueError, LookupError, struct.error, yaml.YAMLError) as error:
        return str(error) or type(error).__name__
    return ""


def _nothing(content: bytes) -> None:
    """Any content will do."""


def _read_json(content: bytes) -> None:
    json.loads(content)


def _read_lines(content: bytes) -> None:
    """A torn last line is no fault: it is cut off when the run is taken up."""
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        json.loads(line)


def _read_yaml(content: bytes) -> None:
    yaml.safe_load(content)


def _read_tensors(content: bytes) -> None:
    """The header is whole, and the tensors that it lists fill the rest of the file."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    ends = [about["data_offsets"][1] for name, about in header.items() if name != "__metadata__"]
    if 8 + length + max(ends) != len(content):
        raise ValueError("it is shorter or longer than its header says")


_READERS = {
    ".json": _read_json,
    ".jsonl": _read_lines,
    ".yaml": _read_yaml,
    ".safetensors": _read_tensors,
}
