"""What a loss needs of each token, from hidden states, without ever holding logits of many tokens.

A vocabulary of 150,000 makes the logits of one completion larger than the rest of a training step. Here a
few rows at a time go through the output head, and what is kept of each is a log-probability, a divergence,
and, where the head itself is not trained, the gradients of both in the hidden state, worked out while the
probabilities are at hand: one exponential per logit, forward and backward together.

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

from prefloop.cpu.backend import slow_exp
from prefloop.cpu.token_terms import detach, numpy_logprobs, numpy_terms, use_numpy
from prefloop.model.split import SplitModel
from prefloop.model.weight_sharing import arrays

CHUNK_BYTES = 32 * 2**20
"""Float32 logits of a chunk, at most. A few arrays of this size are alive at a time; mlx allocates ahead."""

_FEWEST_ROWS = 32
"""With fewer, reading the head's weights costs more than multiplying by them."""


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
    """KL from the policy to the reference over the whole vocabulary, where it was asked for."""


def logprobs(hidden: Hidden, targets: mx.array) -> mx.array:
    """Log-probability of each token, ``[M]`` float32, as a constant."""
    found = []
    numpy = slow_exp()
    for part in _chunks(hidden, targets):
        logits = _logits(hidden, part)
        if numpy:
            found.append(numpy_logprobs(logits, targets[part]))
        else:
            found.append(_gather_targets(targets[part], logits) - mx.logsumexp(logits, axis=-1))
        mx.eval(found[-1])
    return mx.concatenate(found)


def token_terms(policy: Hidden, targets: mx.array, reference: Hidden | None = None) -> TokenTerms:
    """Log-probabilities and, given a `reference`, KL; differentiable in the policy's parameters.

    The derivatives are those of the formulas above, applied by the head's own backward pass.
    """
    modules = [m for m in policy.model.head_modules() if arrays(m.trainable_parameters())]
    terms = (_trained if modules else _fixed)(policy.model, modules, targets, reference)
    values = [value for module in modules for value in arrays(module.trainable_parameters()).values()]
    found: Any = terms(policy.states, *values)
    return TokenTerms(found[0], found[1] if reference else None)


def _fixed(
    model: SplitModel, _: Sequence[nn.Module], targets: mx.array, reference: Hidden | None
) -> mx.custom_function:
    """The head is not trained: the gradient in the hidden states is made along with the values."""

    @mx.custom_function
    def terms(states: mx.array) -> list[mx.array]:
        numpy = use_numpy(len(targets), _vocabulary(Hidden(model, states)))
        policy = Hidden(model, detach(states) if numpy else states)
        parts: list[list[mx.array]] = []
        for part in _chunks(policy, targets):
            ours, theirs = _serialise_chunks(policy.states, reference, part, parts)
            logits = model.lm_head(ours).astype(mx.float32)
            values, grads = (numpy_terms if numpy else _chunk_terms)(logits, targets[part], theirs)
            pulled = [_vjp_through_head(model.lm_head, [ours], grad)[0] for grad in grads]
            found = [*values, *pulled]
            parts.append([detach(array) for array in found] if numpy else found)
        return [mx.concatenate(list(column)) for column in zip(*parts, strict=True)]

    @terms.vjp
    def backward(states: mx.array, cotangents: Sequence[mx.array], found: Sequence[mx.array]) -> mx.array:
        count = len(found) // 2
        gradient = sum(c[:, None] * g for c, g in zip(cotangents[:count], found[count:], strict=True))
        return gradient.astype(states.dtype)  # type: ignore[union-attr]

    return terms


def _trained(
    model: SplitModel, modules: Sequence[nn.Module], targets: mx.array, reference: Hidden | None
) -> mx.custom_function:
    """The head is trained: its gradient has to wait for the loss, so each chunk is computed again then."""

    @mx.custom_function
    def terms(states: mx.array, *parameters: mx.array) -> list[mx.array]:
        head = _with_parameters(model, modules)
        parts: list[list[mx.array]] = []
        for part in _chunks(Hidden(model, states), targets):
            ours, theirs = _serialise_chunks(states, reference, part, parts)
            logits = head(ours, *parameters).astype(mx.float32)
            parts.append(_chunk_terms(logits, targets[part], theirs)[0])
        return [mx.concatenate(list(column)) for column in zip(*parts, strict=True)]

    @terms.vjp
    def backward(
        primals: Sequence[mx.array], cotangents: Sequence[mx.array], _: Sequence[mx.array]
    ) -> list[mx.array]:
        states, *parameters = primals
        head = _with_parameters(model, modules)
        in_states: list[mx.array] = []
        in_parameters = [mx.zeros_like(value) for value in parameters]
        for part in _chunks(Hidden(model, states), targets):
            ours, theirs = _serialise_chunks(states, reference, part, [[*in_states[-1:], *in_parameters]])
            logits = head(ours, *parameters).astype(mx.float32)
            _, grads = _chunk_terms(logits, targets[part], theirs)
            grad = sum(c[part][:, None] * s for c, s in zip(cotangents, grads, strict=True))
            gradient = _vjp_through_head(head, [ours, *parameters], grad)
            in_states.append(gradient[0])
            in_parameters = [a + b for a, b in zip(in_parameters, gradient[1:], strict=True)]
        return [mx.concatenate(in_states), *in_parameters]

    return terms


def _chunk_terms(
    logits: mx.array, targets: mx.array, theirs: mx.array | None
) -> tuple[list[mx.array], list[mx.array]]:
    """Values ``[m]`` and their grads ``[m, V]``; lazy, so what is not used is not computed."""
    p = mx.softmax(logits, axis=-1)
    # The normaliser from the likeliest token, whose probability cannot underflow: no second exp.
    top = mx.argmax(logits, axis=-1)
    normaliser = _gather_targets(top, logits) - mx.log(_gather_targets(top, p))
    values = [_gather_targets(targets, logits) - normaliser]
    grads = [(-p).at[mx.arange(len(targets)), targets].add(1.0)]
    if theirs is not None:
        ratio = logits - theirs - (normaliser - mx.logsumexp(theirs, axis=-1))[:, None]
        kl = (p * ratio).sum(-1)
        values.append(kl)
        grads.append(p * (ratio - kl[:, None]))
    return values, grads


def _vjp_through_head(head: Callable[..., mx.array], primals: list[mx.array], grad: Any) -> list[mx.array]:
    """A derivative in the logits, taken back through the head."""
    _, gradients = mx.vjp(lambda *p: head(*p).astype(mx.float32), primals, [grad])
    return list(gradients)


def _with_parameters(model: SplitModel, modules: Sequence[nn.Module]) -> Callable[..., mx.array]:
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


def _serialise_chunks(
    states: mx.array, reference: Hidden | None, part: slice, done: Sequence[list[mx.array]]
) -> tuple[mx.array, mx.array | None]:
    """A chunk's states and the reference's logits, not to be computed before the last chunk is `done`.

    mlx may compute what does not depend on each other in any order, and would keep the logits of all chunks.
    """
    inputs = [states[part]] if reference is None else [states[part], reference.states[part]]
    if done:
        inputs = mx.depends(inputs, done[-1])
    if reference is None:
        return inputs[0], None
    return inputs[0], reference.model.lm_head(inputs[1]).astype(mx.float32)


def _logits(hidden: Hidden, part: slice) -> mx.array:
    """Logits of a chunk, ``[m, V]`` float32."""
    return hidden.model.lm_head(hidden.states[part]).astype(mx.float32)


def _chunks(hidden: Hidden, targets: mx.array) -> Iterator[slice]:
    rows = chunk_rows(_vocabulary(hidden))
    return (slice(i, i + rows) for i in range(0, len(targets), rows))


def chunk_rows(vocabulary: int) -> int:
    """Tokens whose logits are held at a time."""
    return max(_FEWEST_ROWS, CHUNK_BYTES // (4 * vocabulary))


def _vocabulary(hidden: Hidden) -> int:
    return int(hidden.model.lm_head(hidden.states[:1]).shape[-1])  # lazy: the shape costs nothing


def _gather_targets(tokens: mx.array, rows: mx.array) -> mx.array:
    """Each row's entry for its token, ``[m]``."""
    return mx.take_along_axis(rows, tokens[:, None], axis=-1).squeeze(-1)
