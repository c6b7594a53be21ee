"""Whether a server samples from the policy that it was given, found out before a run.

At the start of a run adapters change nothing yet, so a server that leaves them away would look right. It is
given adapters that do change something: the policy's own with noise on them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
from attrs import evolve

from prefloop.metrics import number
from prefloop.model.weight_sharing import view
from prefloop.scoring.scorer import Scorer, lay_out
from prefloop.types import Completion, Prompt, Sampling
from prefloop_sampler_remote.engine import EngineError, Snapshot

if TYPE_CHECKING:
    from prefloop import Policy
    from prefloop_sampler_remote.servers.engine import Said

GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=8)
QUESTION = "What is two and two?"
NOISE = (0.02, 0.1, 0.5)
"""Standard deviations, of which the first is taken that shows."""
Ask = Callable[[Snapshot, Prompt, Sampling], "Said"]


def check_trial(policy: Policy, ask: Ask, tolerance: float) -> None:
    """Compare the log-probabilities that a server gives for what it writes with the policy's own.

    They may differ by `tolerance` nats in the mean. Raises `EngineError` where they differ by more.
    """
    prompt, own = policy.encode(QUESTION), Snapshot.of(policy, 0)
    for noise in NOISE:
        tensors = _noisy(policy, noise)
        said = ask(_snapshot(own, tensors), prompt, GREEDY)
        with_noise, without = _logprobs(policy, tensors, prompt, said), _logprobs(policy, {}, prompt, said)
        theirs = mx.array(said.logprobs)
        if _distance(with_noise, without) < 4 * tolerance:  # adapters that do not show: more noise
            continue
        if (found := _distance(theirs, with_noise)) <= tolerance:
            return
        if _distance(theirs, without) <= tolerance:
            raise EngineError(
                "it samples from the model without the adapters that it was given", mistaken=True
            )
        raise EngineError(
            f"it does not sample from the policy: the log-probabilities of its tokens differ by {found:.2g} "
            f"nats from the policy's, and {tolerance:g} is allowed ('tolerance'). Is its model the policy's?",
            mistaken=True,
        )
    raise EngineError("no adapters change what the policy says, so nobody can tell whether it has them")


def _noisy(policy: Policy, noise: float) -> dict[str, mx.array]:
    """The trained tensors with noise on them, the same each time."""
    key = mx.random.key(0)
    noisy = {}
    for name, value in policy.trainable().items():
        key, own = mx.random.split(key)
        noisy[name] = value + noise * mx.random.normal(value.shape, value.dtype, key=own)
    return noisy


def _snapshot(own: Snapshot, tensors: dict[str, mx.array]) -> Snapshot:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trial.safetensors"
        mx.save_safetensors(str(file), tensors)
        content = file.read_bytes()
    return evolve(own, adapters=content, digest=sha256(content).hexdigest())


def _logprobs(policy: Policy, tensors: dict[str, mx.array], prompt: Prompt, said: Said) -> mx.array:
    model = view(policy.model)
    model.load_weights(list(tensors.items()), strict=False)
    return Scorer(model).logprobs(lay_out([prompt], [Completion(said.tokens, "")]))[0]


def _distance(one: mx.array, other: mx.array) -> float:
    return number(mx.abs(one - other).mean())
