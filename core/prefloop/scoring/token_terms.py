"""What a loss needs of each token, from hidden states, without ever holding logits of many tokens.

With a vocabulary of 150,000, the logits of one completion are larger than the rest of a training step. So a
few rows at a time go through the output head, and a log-probability and a divergence of each are kept. If the
head is frozen, their gradients in the hidden states are kept too: they are computed while the probabilities
are at hand, with one exponential per logit for forward and backward pass together.

With logits ``z``, ``p = softmax(z)``, and ``q`` the reference's distribution:

    log p(y) = z_y - logsumexp(z)               d/dz = onehot(y) - p
    KL(p, q) = sum_v p_v (log p_v - log q_v)    d/dz = p * (log p - log q - KL)

Shapes: ``M`` tokens, ``m`` of them in a chunk, ``H`` the hidden size, ``V`` the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from attrs import frozen
from mlx.utils import tree_unflatten

from prefloop.cpu import lanes, slow_exp
from prefloop.cpu.kernels import detach, numpy_logprobs, numpy_terms, use_numpy
from prefloop.model.mlx_lm_internals import is_checkpointed
from prefloop.model.split import SplitModel
from prefloop.model.weight_sharing import arrays

Head = Callable[..., mx.array]
"""From hidden states ``[m, H]`` and, where the head is trained, its parameters to logits ``[m, V]``."""
Chunk = tuple[slice, mx.array, list[mx.array], list[mx.array]]
"""Where its tokens are, their hidden states, the values ``[m]``, and the values' gradients ``[m, V]``."""

CHUNK_BYTES = 32 * 2**20
"""Most bytes of a chunk's float32 logits. A few such arrays are alive at a time; mlx allocates ahead."""

SUMMED = 256
"""Numbers that are summed at a time."""
_FEWEST_ROWS = 32
"""With fewer rows, reading the head's weights takes longer than multiplying by them."""


@frozen(eq=False)
class Hidden:
    """Hidden states of completion tokens, and the model whose head they belong to."""

    model: SplitModel
    states: mx.array
    """``[M, H]``, at the positions that predict the tokens."""


@frozen(eq=False)
class TokenTerms:
    """Per token, float32 ``[M]``."""

    logprobs: mx.array
    kl: mx.array | None = None
    """KL from the policy to the reference over the whole vocabulary; None without a reference."""


def logprobs(hidden: Hidden, targets: mx.array) -> mx.array:
    """Log-probability of each token, ``[M]`` float32, as a constant."""
    chunk_logprobs = numpy_logprobs if slow_exp() else _chunk_logprobs
    found = []
    parts = list(_chunks(hidden.model.lm_head, hidden.states))
    for start in range(0, len(parts), lanes.count()):
        group = parts[start : start + lanes.count()]
        logits = []
        for number, part in enumerate(group):
            with lanes.lane(number):
                logits.append(hidden.model.lm_head(hidden.states[part]).astype(mx.float32))
        if len(group) > 1:  # or NumPy would wait for one lane after the other
            mx.eval(logits)
        terms = [chunk_logprobs(z, targets[part]) for z, part in zip(logits, group, strict=True)]
        mx.eval(terms)
        found += terms
    return mx.concatenate(found)


def token_terms(policy: Hidden, targets: mx.array, reference: Hidden | None = None) -> TokenTerms:
    """Log-probabilities and, given a `reference`, KL; differentiable in the policy's parameters.

    The derivatives are those of the formulas above, applied by the head's own backward pass.
    """
    trained = trained_modules(policy.model)
    parameters = [value for module in trained for value in arrays(module.trainable_parameters()).values()]
    if trained:
        terms = _with_trained_head(_with_parameters(policy.model, trained), targets, reference)
    else:
        terms = _with_frozen_head(policy.model, targets, reference)
    found: Any = terms(policy.states, *parameters)
    return TokenTerms(found[0], found[1] if reference else None)


def trained_modules(model: SplitModel) -> list[nn.Module]:
    """The modules of the head that have something to train."""
    return [module for module in model.head_modules() if arrays(module.trainable_parameters())]


def _with_frozen_head(model: SplitModel, targets: mx.array, reference: Hidden | None) -> mx.custom_function:
    """The gradients in the hidden states are computed along with the values."""
    head = model.lm_head

    @mx.custom_function
    def terms(states: mx.array) -> list[mx.array]:
        widths = len(model.whole.layers) * states.shape[-1]
        # NumPy would look into the pass, and mlx keep what is to be computed again.
        possible = not is_checkpointed(model.whole)
        numpy = possible and use_numpy(len(targets), _vocabulary(head, states), widths)
        states = detach(states) if numpy else states
        parts: list[list[mx.array]] = []
        for _, ours, values, grads in _serialise_chunks(
            head, states, [], targets, reference, parts, numpy, lanes.count()
        ):
            found = values + [_vjp_through_head(head, [ours], grad)[0] for grad in grads]
            parts.append([detach(array) for array in found] if numpy else found)
        return [mx.concatenate(list(column)) for column in zip(*parts, strict=True)]

    @terms.vjp
    def backward(states: mx.array, cotangents: Sequence[mx.array], found: Sequence[mx.array]) -> mx.array:
        count = len(found) // 2
        gradient = sum(c[:, None] * g for c, g in zip(cotangents[:count], found[count:], strict=True))
        return gradient.astype(states.dtype)  # type: ignore[union-attr]

    return terms


def _with_trained_head(head: Head, targets: mx.array, reference: Hidden | None) -> mx.custom_function:
    """The head's own gradient has to wait for the loss, so the backward pass computes each chunk again."""

    @mx.custom_function
    def terms(states: mx.array, *parameters: mx.array) -> list[mx.array]:
        parts: list[list[mx.array]] = []
        for _, _, values, _ in _serialise_chunks(head, states, parameters, targets, reference, parts):
            parts.append(values)  # for which the next chunk waits
        return [mx.concatenate(list(column)) for column in zip(*parts, strict=True)]

    @terms.vjp
    def backward(
        primals: Sequence[mx.array], cotangents: Sequence[mx.array], _: Sequence[mx.array]
    ) -> list[mx.array]:
        states, *parameters = primals
        in_states: list[mx.array] = []
        sums: list[mx.array] = []
        done: list[list[mx.array]] = []
        for part, ours, _, grads in _serialise_chunks(head, states, parameters, targets, reference, done):
            grad = sum(c[part][:, None] * g for c, g in zip(cotangents, grads, strict=True))
            in_chunk, *in_parameters = _vjp_through_head(head, [ours, *parameters], grad)
            sums = [a + b for a, b in zip(sums, in_parameters, strict=True)] if sums else in_parameters
            in_states.append(in_chunk)
            done[:] = [[in_chunk, *sums]]
        return [mx.concatenate(in_states), *sums]

    return terms


def _serialise_chunks(
    head: Head,
    states: mx.array,
    parameters: Sequence[mx.array],
    targets: mx.array,
    reference: Hidden | None,
    done: Sequence[list[mx.array]],
    numpy: bool = False,
    abreast: int = 1,
) -> Iterator[Chunk]:
    """So many chunks `abreast`, none to be computed before the arrays of `done` that are as many places back.

    `done` grows meanwhile. mlx may compute independent arrays in any order, and would keep the logits of all
    chunks.
    """
    for number, part in enumerate(_chunks(head, states, parameters)):
        with lanes.lane(number % abreast):
            inputs = [states[part], *([reference.states[part]] if reference else [])]
            ours, *others = mx.depends(inputs, done[-abreast]) if len(done) >= abreast else inputs
            logits = head(ours, *parameters).astype(mx.float32)
            theirs = reference.model.lm_head(others[0]).astype(mx.float32) if reference else None
            yield part, ours, *(numpy_terms if numpy else _chunk_terms)(logits, targets[part], theirs)


def _chunk_terms(
    logits: mx.array, targets: mx.array, theirs: mx.array | None
) -> tuple[list[mx.array], list[mx.array]]:
    """Values ``[m]`` and their gradients ``[m, V]``; lazy, so what is not used is not computed."""
    p, normaliser = _softmax(logits)
    values = [_gather_targets(targets, logits) - normaliser]
    grads = [(-p).at[mx.arange(len(targets)), targets].add(1.0)]
    if theirs is not None:
        ratio = logits - theirs - (normaliser - _softmax(theirs)[1])[:, None]
        kl = _sum(p * ratio)
        values.append(kl)
        grads.append(p * (ratio - kl[:, None]))
    return values, grads


def _chunk_logprobs(logits: mx.array, targets: mx.array) -> mx.array:
    """Log-probabilities ``[m]`` alone."""
    return _gather_targets(targets, logits) - _softmax(logits)[1]


def _softmax(logits: mx.array) -> tuple[mx.array, mx.array]:
    """Probabilities ``[m, V]`` and logsumexp ``[m]``, for policy and reference alike: an error in one of
    them alone would be taken for something learnt.
    """
    p = mx.softmax(logits, axis=-1)
    total = _sum(p)  # mlx's own sum of 150,000 numbers is off by 1e-5 to 1e-4 on a CPU
    # The normaliser from the likeliest token, whose probability cannot underflow: no second exp.
    top = mx.argmax(logits, axis=-1)
    normaliser = _gather_targets(top, logits) - mx.log(_gather_targets(top, p)) + mx.log(total)
    return p / total[:, None], normaliser


def _sum(rows: mx.array) -> mx.array:
    """Sums ``[m]`` of rows ``[m, V]``, in blocks: a single running float32 sum loses what is small."""
    missing = -rows.shape[-1] % SUMMED
    blocks = mx.pad(rows, [(0, 0), (0, missing)]) if missing else rows
    return blocks.reshape(len(rows), -1, SUMMED).sum(-1).sum(-1)


def _gather_targets(tokens: mx.array, rows: mx.array) -> mx.array:
    """Each row's entry for its token, ``[m]``."""
    return mx.take_along_axis(rows, tokens[:, None], axis=-1).squeeze(-1)


def _vjp_through_head(head: Head, primals: list[mx.array], grad: Any) -> list[mx.array]:
    """A gradient in the logits as gradients in the head's inputs."""
    _, gradients = mx.vjp(lambda *p: head(*p).astype(mx.float32), primals, [grad])
    return list(gradients)


def _with_parameters(model: SplitModel, modules: Sequence[nn.Module]) -> Head:
    """The head as a function of its trained parameters too, in the order of `modules`."""

    def head(states: mx.array, *parameters: mx.array) -> mx.array:
        before = [module.trainable_parameters() for module in modules]
        left = iter(parameters)
        for module, tree in zip(modules, before, strict=True):
            module.update(tree_unflatten([(name, next(left)) for name in arrays(tree)]))
        try:
            return model.lm_head(states)
        finally:
            for module, tree in zip(modules, before, strict=True):
                module.update(tree)

    return head


def _chunks(head: Head, states: mx.array, parameters: Sequence[mx.array] = ()) -> Iterator[slice]:
    most = max(_FEWEST_ROWS, chunk_rows(_vocabulary(head, states, parameters)) // lanes.count())
    parts = -(-len(states) // (most * lanes.count())) * lanes.count()  # as many in each lane
    rows = max(_FEWEST_ROWS, -(-len(states) // parts))
    return (slice(i, i + rows) for i in range(0, len(states), rows))


def chunk_rows(vocabulary: int) -> int:
    """Tokens whose logits are held at a time, in all lanes."""
    return max(_FEWEST_ROWS, CHUNK_BYTES // (4 * vocabulary))


def _vocabulary(head: Head, states: mx.array, parameters: Sequence[mx.array] = ()) -> int:
    return int(head(states[:1], *parameters).shape[-1])  # lazy: the shape costs nothing
