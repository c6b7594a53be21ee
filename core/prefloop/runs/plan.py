"""What a run is going to do and need, as `run.json` has it. `planning` works it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import AttrsInstance, fields_dict, frozen

T = TypeVar("T", bound=AttrsInstance)


@frozen
class Division:
    """How a step is divided to fit the memory. It is kept for the whole run: rounding depends on it."""

    micro_batch: int
    """Pairs that are scored at once."""
    pool_bytes: int
    """What rows that are sampled together may take."""


@frozen
class Memory:
    """Estimated bytes. Activations and caches are those of the largest step, all completions full length."""

    weights: int
    """Policy, reference and start; what they share counts once."""
    judge: int
    """What judges and sampler hold once they are prepared and do not share with the policy."""
    trained: int
    optimizer: int
    caches: int
    """Most that sampling takes."""
    activations: int
    """Most that scoring a micro-batch takes, forward and backward."""
    update: int = 0
    """Most that applying the gradient takes."""
    judging: int = 0
    """Most that judges take while they are asked."""

    @property
    def held(self) -> int:
        """What is there all the time."""
        return self.weights + self.judge + self.trained + self.optimizer

    @property
    def total(self) -> int:
        """At the peak: sampling, judging, scoring and updating take turns."""
        return self.held + max(self.caches, self.activations, self.update, self.judging)

    def words(self) -> str:
        """The estimate in a sentence."""
        judge = f", judge {size_words(self.judge)}" if self.judge else ""
        judging = f"judging {size_words(self.judging)}, " if self.judging else ""
        return (
            f"about {size_words(self.total)}: weights {size_words(self.weights)}{judge}, trained "
            f"{size_words(self.trained)}, optimizer {size_words(self.optimizer)}, and in turn caches "
            f"{size_words(self.caches)}, {judging}activations {size_words(self.activations)}, "
            f"update {size_words(self.update)}"
        )


@frozen
class Plan:
    """The size of a run."""

    parameters: int
    trained_parameters: int
    trained_tensors: int
    prompts: int
    held_out: int
    dropped: int
    cut: int
    steps: int
    prompts_per_step: int
    epochs: float
    longest_prompt: int
    tokens_per_step: int
    """At most, prompts and completions together."""
    division: Division
    memory: Memory
    warnings: tuple[str, ...] = ()
    """What the run will do that was hardly meant."""
    sources: tuple[str, ...] = ()
    """Of a mixture, what each source brings."""

    def lines(self) -> list[tuple[str, str]]:
        """The plan as titles and texts, for a terminal."""
        share = 100 * self.trained_parameters / self.parameters
        prompts = f"{self.prompts:,} to train on, {self.held_out:,} held out"
        prompts += f", {self.dropped:,} dropped as too long" if self.dropped else ""
        prompts += f", {self.cut:,} cut from the left" if self.cut else ""
        trains = f"{self.trained_parameters:,} of {self.parameters:,} parameters ({share:.2f} %)"
        at_once = self.division.micro_batch
        steps = f"{self.steps:,} of {self.prompts_per_step} prompts, {self.epochs:.2f} epochs"
        return [
            ("trains", f"{trains} in {self.trained_tensors} tensors"),
            ("prompts", prompts),
            *(("source", text) for text in self.sources),
            ("steps", f"{steps}, at most {self.tokens_per_step:,} tokens a step"),
            ("scoring", f"at most {at_once} {'pair' if at_once == 1 else 'pairs'} at a time"),
            ("memory", self.memory.words()),
            *(("warning", text) for text in self.warnings),
        ]


def plan_from_json(found: Any) -> Plan | None:
    """The plan in ``run.json``; None where there is none, or not such a one."""
    try:
        parts = {"division": _record(Division, found["division"]), "memory": _record(Memory, found["memory"])}
        warnings = tuple(str(text) for text in found.get("warnings", ()))
        sources = tuple(str(text) for text in found.get("sources", ()))
        return _record(Plan, {**found, **parts, "warnings": warnings, "sources": sources})
    except (LookupError, TypeError):
        return None


def _record(cls: type[T], found: Mapping[str, Any]) -> T:
    """A record of the fields that it knows. Raises `TypeError` where one is missing or is no number."""
    known = {name: found[name] for name in fields_dict(cls) if name in found}
    if not all(isinstance(value, int | float | Division | Memory | tuple) for value in known.values()):
        raise TypeError(f"{cls.__name__} has values that are no numbers")
    return cls(**known)


def size_words(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
