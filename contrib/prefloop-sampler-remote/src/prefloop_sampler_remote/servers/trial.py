"""Whether a server samples from the policy that it was given, found out before anything is learnt from it.

At the start of a run adapters change nothing yet, so a server that leaves them away would look right. It is
given adapters that do change something, the policy's own with noise on them, and has to write what the policy
writes with these.
"""

from __future__ import annotations

import tempfile
from hashlib import sha256
from itertools import product, takewhile
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from attrs import evolve, frozen

from prefloop.errors import UserError
from prefloop.model.weight_sharing import view
from prefloop.sampling.generator import Generator
from prefloop.sampling.stops import Stops
from prefloop.types import Sampling
from prefloop_sampler_remote.engine import EngineError, Snapshot, Tokens

if TYPE_CHECKING:
    from prefloop import Policy, Prompt

GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=8)
QUESTION = "What is two and two?"
NOISE, SEEDS = (0.02, 0.1, 0.5, 2.0), (0, 1, 2)
"""Adapters with these standard deviations and seeds are tried, until the policy is sure of what it writes."""
SURE_TOKENS = 4
"""So many tokens are enough."""


@frozen(eq=False)
class Trial:
    """Adapters, and what the policy writes with them and without, where it is sure of it."""

    snapshot: Snapshot
    prompt: Tokens
    tokens: Tokens
    logprobs: tuple[float, ...]
    without: Tokens

    @classmethod
    def of(cls, policy: Policy, tolerance: float) -> Trial:
        """A trial in which rounding decides nothing: each token leads by far more than `tolerance` nats."""
        prompt, own, found = policy.encode(QUESTION), Snapshot.of(policy, -1), []
        without, _ = _likeliest(policy, {}, prompt, 0.0)
        for noise, seed in product(NOISE, SEEDS):
            adapters = _noisy(policy, noise, seed)
            tokens, logprobs = _likeliest(policy, adapters, prompt, 4 * tolerance)
            if tokens != without[: len(tokens)]:
                found.append(cls(_snapshot(own, adapters), prompt.tokens, tokens, logprobs, without))
            if found and len(found[-1].tokens) >= SURE_TOKENS:
                break
        if not found:
            raise UserError("no adapters change what the policy says: whether a server has them cannot show.")
        return max(found, key=lambda trial: len(trial.tokens))

    def check(self, tokens: Tokens, logprobs: tuple[float, ...], tolerance: float) -> None:
        """Raises `EngineError` where what a server wrote, and how likely it found it, is not the policy's."""
        count = len(self.tokens)
        differences = [abs(a - b) for a, b in zip(self.logprobs, logprobs, strict=False)]
        if tokens[:count] == self.tokens:
            if (found := sum(differences) / count) <= tolerance:
                return
            raise EngineError(
                f"finds its tokens as likely as the policy only to within {found:.2g} nats, and "
                f"{tolerance:g} are allowed (sampler.tolerance): is its model quantized or stored otherwise?",
                mistaken=True,
            )
        if tokens[:count] == self.without[: len(tokens)][:count]:
            raise EngineError("leaves away the adapters that it is given", mistaken=True)
        raise EngineError(
            "does not write what the policy writes with the same adapters: does it serve the policy's model?",
            mistaken=True,
        )


def _likeliest(
    policy: Policy, adapters: dict[str, mx.array], prompt: Prompt, lead: float
) -> tuple[Tokens, tuple[float, ...]]:
    """The likeliest tokens, as long as each leads the next by `lead`, and their log-probabilities."""
    model = view(policy.model)
    model.load_weights(list(adapters.items()), strict=False)
    completion, logits = Generator(model, policy.tokenizer).likeliest(prompt, GREEDY.max_tokens)
    logits = logits.astype(mx.float32)
    best = mx.topk(logits, 2, axis=-1) - mx.logsumexp(logits, axis=-1, keepdims=True)
    top, second = mx.max(best, axis=-1), mx.min(best, axis=-1)
    sure: Any = (top - second >= lead).tolist()
    likely: Any = top.tolist()
    tokens = tuple(token for token, _ in takewhile(itemgetter(1), zip(completion.tokens, sure, strict=True)))
    tokens = Stops.of(policy.tokenizer).cut(tokens) or tokens
    return tokens, tuple(likely[: len(tokens)])


def _noisy(policy: Policy, noise: float, seed: int) -> dict[str, mx.array]:
    """The trained tensors with noise on them, the same each time."""
    key, noisy = mx.random.key(seed), {}
    for name, value in policy.trainable().items():
        key, own = mx.random.split(key)
        noisy[name] = value + noise * mx.random.normal(value.shape, value.dtype, key=own)
    return noisy


def _snapshot(own: Snapshot, adapters: dict[str, mx.array]) -> Snapshot:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trial.safetensors"
        mx.save_safetensors(str(file), adapters)
        content = file.read_bytes()
    return evolve(own, adapters=content, digest=sha256(content).hexdigest())
