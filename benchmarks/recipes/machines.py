"""How long a step takes on a Mac, by arithmetic: nothing here was measured.

The products of matrices and the bytes of weights are those of `benchmarks.speed.floor`. Each pass takes as
long as its operations or as the reading of its weights, whichever is longer, at `REACHED` of the rates that
are published for the chip.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, field, frozen
from benchmarks.speed.floor import Model, Pass, sampling
from benchmarks.speed.rows import Row, Size

REACHED = 0.5
"""Of the published rates, what is taken to be reached: an assumption."""
CHARACTERS = 4
"""Of English text in a token: a rule of thumb for large vocabularies."""
TEMPLATE = 20
"""Tokens of a chat template around a prompt, roughly."""


@frozen
class Mac:
    """A Mac by its memory in GB, with the chip that the times are worked out for."""

    memory: int
    chip: str
    teraflops: float
    gigabytes: float
    """Of memory traffic a second."""

    @property
    def rates(self) -> Mapping[str, float]:
        return {"gigaflops": REACHED * 1e3 * self.teraflops, "gigabytes": REACHED * self.gigabytes}


MACS = {
    mac.memory: mac
    for mac in (
        Mac(8, "M1, 8 GPU cores", 2.6, 68),
        Mac(16, "M4, 10 GPU cores", 3.8, 120),
        Mac(32, "M1 Max, 32 GPU cores", 10.4, 400),
        Mac(64, "M2 Max, 38 GPU cores", 13.6, 400),
    )
}
"""Published: float32 rate of the GPU, and bandwidth of the memory."""
PROMPTS = {"trl-lib/ultrafeedback-prompt": 686, "openai/gsm8k": 245}
"""Bytes of a prompt in a data set, on the mean: the size of the column by the number of rows."""


@frozen
class Work:
    """What one step does."""

    policy: Model
    judge: Model | None
    """None where no language model judges."""
    pairs: int
    rollout: int
    prompt: int
    completion: int
    trained: int
    """Layers from the first trained one on; those below are computed once for policy and reference."""
    around: int = 0
    """Tokens of a judge's question besides the rubric, the prompt and the answers."""
    orders: int = 2
    full: bool = field(default=False)
    """Whether all weights of these layers are trained."""
    again: bool = field(default=False)
    """Whether layers are computed again for their gradient."""

    def seconds(self, mac: Mac) -> dict[str, float]:
        """Of each phase of a step."""
        passes = {"sampling": self._sampling(), "judging": self._judging(), "scoring": self._scoring()}
        shares = {"sampling": self.rollout, "judging": 1, "scoring": 1}
        return {
            phase: sum(one.seconds(mac.rates) for one in found) / shares[phase]
            for phase, found in passes.items()
        }

    def _sampling(self) -> list[Pass]:
        """Of a whole rollout, which is sampled as one pool."""
        row = Row("S", self.pairs, self.completion)
        return sampling(self.policy, row, self.prompt, self.rollout)

    def _judging(self) -> list[Pass]:
        """A pair's prompt is read once for both orders of its answers."""
        if self.judge is None:
            return []
        own = 2 * self.completion + self.around
        tokens = self.prompt + self.orders * own
        looked_at = self.prompt**2 / 2 + self.orders * own * (self.prompt + own / 2)
        return [self.judge.passing(tokens, looked_at, self.orders)] * self.pairs

    def _scoring(self) -> list[Pass]:
        """All layers once; those that are trained once more for the reference, and backward."""
        rows = 2 * self.pairs
        tokens = self.pairs * self.prompt + rows * self.completion
        looked_at = self.pairs * self.prompt**2 / 2
        looked_at += rows * self.completion * (self.prompt + self.completion / 2)
        heads = rows * self.completion
        upper = evolve(self.policy, size=evolve(self.policy.size, layers=self.trained))
        once = [self.policy.passing(tokens, looked_at, heads)]
        return once + (2 + self.full + self.again) * [upper.passing(tokens, looked_at, heads)]


def model(size: Size, quantization: Mapping[str, int] | None) -> Model:
    """A model whose weights are bfloat16, or quantized with a scale and a bias in bfloat16 for each group."""
    if not quantization:
        return Model(size, 2.0)
    return Model(size, quantization["bits"] / 8 + 2 * 2.0 / quantization["group_size"])


def prompt_tokens(data: str) -> int:
    """Of a prompt of this data set on the mean, in its chat template."""
    return TEMPLATE + PROMPTS[data] // CHARACTERS
