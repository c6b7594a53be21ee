"""Fits an LLM judge to a person's labels: how certain it is, and how far it goes by place and by length.

A logistic regression on single questions. The judge's log-odds ``x`` that the first answer is better are
corrected as its options do it, and the parameters maximise the likelihood of the labels::

    P(first is better) = sigmoid(x / temperature - position s - length d)
    s = 1 where the first answer was shown first, else -1
    d = ln((|first| + 1) / (|second| + 1)), in characters

Whether that helps is told on labels that had no part in the fit, by cross-validation over prompts. Float64.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import attrs
import numpy as np
from attrs import frozen

from prefloop.components import Judge
from prefloop.errors import UserError
from prefloop.evaluation.stats import Z
from prefloop_plugins.judges.llm import longer_by
from prefloop_plugins.judging.pair_files import LabelledPair
from prefloop_plugins.judging.report import BINS
from prefloop_plugins.judging.verdicts import Judged

TERMS = ("temperature", "position", "length")
"""Options of a judge that can be fitted, by name."""
NEUTRAL = {"temperature": 1.0, "position": 0.0, "length": 0.0}
FEWEST = 20
"""Labels below which nothing can be said of labels kept out."""
FOLDS, INNER = 10, 5
"""Parts of the labels: each is kept out once, and the terms are chosen with as many parts of the others."""
DRAWS = 2000
"""Bootstrap samples behind an interval."""
_CERTAIN = 1e-9
_ITERATIONS, _TOLERANCE, _FARTHEST = 100, 1e-10, 1e3
_VALUE = {"first": 1.0, "second": 0.0, "tie": 0.5}

Array = np.ndarray
Options = Mapping[str, float]


@frozen(eq=False)
class Questions:
    """What a judge said to single questions, before any correction: arrays ``[Q]``, but for `label`."""

    x: Array
    """Its log-odds that the first answer of the pair is better."""
    shown: Array
    """1 where that one was shown first, else -1."""
    longer: Array
    """How much longer it is: ``d``."""
    pair: Array
    """Which pair it was about."""
    label: Array
    """``[P]``: 1 where the first answer of the pair is better, 0, or one half for a tie."""
    fold: Array
    """``[P]``: a number from the pair's prompt, so that one prompt is never on both sides."""

    def of(self, pairs: Array) -> Questions:
        """The questions about some of the pairs, by a mask ``[P]``."""
        kept = pairs[self.pair]
        place = np.cumsum(pairs) - 1
        return Questions(
            self.x[kept],
            self.shown[kept],
            self.longer[kept],
            place[self.pair[kept]],
            self.label[pairs],
            self.fold[pairs],
        )


@frozen
class Gain:
    """A number on labels kept out, as the judge is and with the terms; the interval is of the change."""

    before: float
    after: float
    low: float
    high: float


@frozen
class Fit:
    """What the fit comes to."""

    labels: int
    prompts: int
    terms: dict[str, float]
    """The options that are worth setting; empty where none is shown to help."""
    agreement: Gain
    log_loss: Gain
    """Mean of ``-ln`` of the probability of the label, in nats."""
    ece: Gain
    """As `Calibration.ece`."""


def options_of_judge(judge: Any) -> dict[str, float]:
    """The options of a judge that can be fitted, as they are. Raises `UserError` where it lacks one."""
    names = attrs.fields_dict(type(judge)) if attrs.has(type(judge)) else {}
    if missing := [term for term in TERMS if term not in names]:
        raise UserError(
            f"--fit: {type(judge).__name__} has no option {' or '.join(missing)}, so nothing can be fitted; "
            "the judge llm has all three."
        )
    return {term: float(getattr(judge, term)) for term in TERMS}


def fit(judge: Judge, pairs: Sequence[LabelledPair], judged: Judged) -> Fit:
    """Fit the options of `judge` to the labels of what it has `judged`, the first of `pairs`.

    Raises `UserError` where it has not the options, and where there are too few labels.
    """
    now = options_of_judge(judge)
    questions = questions_of(judge, now, pairs, judged)
    count, prompts = len(questions.label), len(set(questions.fold.tolist()))
    _check_labels(count, prompts)
    before = probabilities(questions, now)
    after = np.empty_like(before)
    for kept_out in folds(questions, FOLDS):
        rest = questions.of(~kept_out)
        found = maximum(rest, chosen(rest, now), now) or now
        after[kept_out] = probabilities(questions.of(kept_out), found)
    gains = [_gain(measure, before, after, questions.label) for measure in (agreement, log_loss, ece)]
    terms = chosen(questions, now) if gains[1].high < 0 else ()
    best = maximum(questions, terms, now) or now
    return Fit(count, prompts, {term: float(f"{best[term]:.3g}") for term in terms}, *gains)


def check_fit(judge: Any, pairs: Sequence[LabelledPair]) -> None:
    """Raises `UserError` where `fit` would, whatever the judge says."""
    options_of_judge(judge)
    labelled = [p.pair.prompt.text for p in pairs if p.label is not None]
    _check_labels(len(labelled), len(set(labelled)))


def _check_labels(labels: int, prompts: int) -> None:
    if min(labels, prompts) < FEWEST:
        raise UserError(
            f"--fit: takes at least {FEWEST} labels, of as many prompts, that the judge gives a verdict on, "
            f"and there are {labels} of {prompts}."
        )


def questions_of(judge: Any, now: Options, pairs: Sequence[LabelledPair], judged: Judged) -> Questions:
    """The questions that labelled pairs with a verdict were asked with; the judge's options are undone."""
    rows: list[tuple[float, float, float, int]] = []
    labels: list[float] = []
    prompts: list[int] = []
    for labelled, verdict, again in zip(pairs, judged.verdicts, judged.swapped, strict=False):
        if labelled.label is None or verdict.status not in ("ok", "tie"):
            continue
        pair = labelled.pair
        swaps = getattr(judge, "swaps", lambda pair: False)
        if verdict.orders is not None:
            asked = [(verdict.orders[0], 1.0), (verdict.orders[1], -1.0)]
        else:
            asked = [(verdict.probability, -1.0 if swaps(pair) else 1.0)]
            if again is not None and again.status in ("ok", "tie"):
                asked.append((again.probability, 1.0 if swaps(pair.swapped()) else -1.0))
        longer = longer_by(pair.first.text, pair.second.text)
        for p, shown in asked:
            p = min(max(p, _CERTAIN), 1 - _CERTAIN)
            raw = math.log(p) - math.log1p(-p) + now["position"] * shown + now["length"] * longer
            rows.append((raw * now["temperature"], shown, longer, len(labels)))
        labels.append(_VALUE[labelled.label])
        prompts.append(int.from_bytes(hashlib.sha256(pair.prompt.text.encode()).digest()[:6], "big"))
    x, shown_, longer_, place = np.array(rows, dtype=float).reshape(-1, 4).T
    return Questions(x, shown_, longer_, place.astype(int), np.array(labels), np.array(prompts))


def probabilities(questions: Questions, options: Options) -> Array:
    """That the first answer of each pair is better, ``[P]``: the mean over its questions."""
    p = _sigmoid(_logits(questions, options))
    return np.bincount(questions.pair, p) / np.bincount(questions.pair)


def maximum(questions: Questions, free: Sequence[str], now: Options) -> dict[str, float] | None:
    """The options with those in `free` at their maximum likelihood (Newton), the others as they are.

    A pair counts once, however often it was asked about. None where there is no maximum, as where something
    separates the labels, or where it is at a temperature that is not above zero.
    """
    if not free:
        return dict(now)
    columns = {"temperature": questions.x, "position": -questions.shown, "length": -questions.longer}
    weights = {"temperature": 1 / now["temperature"], "position": now["position"], "length": now["length"]}
    design = np.stack([columns[term] for term in free])
    fixed = sum(
        (weights[term] * columns[term] for term in TERMS if term not in free), np.zeros_like(questions.x)
    )
    y, counts = questions.label[questions.pair], 1 / np.bincount(questions.pair)[questions.pair]
    beta = np.array([weights[term] for term in free])

    def loss(at: Array) -> float:
        return _loss(fixed + at @ design, questions)

    for _ in range(_ITERATIONS):
        p = _sigmoid(fixed + beta @ design)
        gradient = design @ (counts * (y - p))
        hessian = (design * (counts * p * (1 - p))) @ design.T
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            return None
        before = loss(beta)
        for _ in range(50):
            if loss(beta + step) <= before + _TOLERANCE * (1 + abs(before)):
                break
            step = step / 2
        beta = beta + step
        if not np.isfinite(beta).all() or abs(beta).max() > _FARTHEST:
            return None
        if abs(step).sum() < _TOLERANCE * (1 + abs(beta).sum()):
            break
    else:
        return None
    found = dict(zip(free, beta.tolist(), strict=True))
    if "temperature" in found:
        if found["temperature"] <= 1 / _FARTHEST:
            return None
        found["temperature"] = 1 / found["temperature"]
    return {**now, **found}


def chosen(questions: Questions, now: Options) -> tuple[str, ...]:
    """The terms that are needed: from all three, one after another goes that is not.

    A term is needed where the likelihood-ratio test rejects leaving it out (Bonferroni for three), and where
    the log loss on labels kept out is larger without it.
    """
    critical = NormalDist().inv_cdf(1 - (1 - NormalDist().cdf(Z)) / len(TERMS)) ** 2
    parts = folds(questions, INNER)
    taken: tuple[str, ...] = TERMS
    while taken:
        now_at = _deviance(questions, taken, now), _kept_out(questions, taken, now, parts)
        fewer = [tuple(term for term in taken if term != gone) for gone in taken]
        at = {f: (_deviance(questions, f, now), _kept_out(questions, f, now, parts)) for f in fewer}
        gone = [f for f in fewer if at[f][0] - now_at[0] <= critical or at[f][1] <= now_at[1]]
        if not gone and math.isfinite(sum(now_at)):
            break
        taken = min(gone or fewer, key=lambda f: at[f])
    return taken


def _deviance(questions: Questions, free: Sequence[str], now: Options) -> float:
    """Minus twice the log-likelihood at its maximum; infinite where there is none."""
    found = maximum(questions, free, now)
    return math.inf if found is None else 2 * _loss(_logits(questions, found), questions)


def _loss(logits: Array, questions: Questions) -> float:
    """Minus the log-likelihood of the labels, each pair's the mean over its questions."""
    each = np.logaddexp(0, logits) - questions.label[questions.pair] * logits
    return float((each / np.bincount(questions.pair)[questions.pair]).sum())


def _kept_out(questions: Questions, free: Sequence[str], now: Options, parts: Sequence[Array]) -> float:
    """The mean log loss with terms fitted to the other parts; infinite where one of those has no maximum."""
    losses = np.empty(len(questions.label))
    for part in parts:
        found = maximum(questions.of(~part), free, now)
        if found is None:
            return math.inf
        losses[part] = _losses(probabilities(questions.of(part), found), questions.label[part])
    return float(losses.mean())


def folds(questions: Questions, count: int) -> list[Array]:
    """Masks of pairs, ``[P]``: about equal parts, in which each pair and each prompt is once."""
    _, order = np.unique(
        questions.fold, return_inverse=True
    )  # by a hash, so in no order that means something
    return [part for i in range(count) if (part := order % count == i).any()]


def agreement(p: Array, label: Array) -> float:
    """Share of labels that the probability is on the side of; one that is one half is half right."""
    return float(np.where(label == 0.5, p == 0.5, (1 + np.sign(p - 0.5) * np.sign(label - 0.5)) / 2).mean())


def log_loss(p: Array, label: Array) -> float:
    """Mean log loss in nats; a tie is half of either label."""
    return float(_losses(p, label).mean())


def ece(p: Array, label: Array) -> float:
    """Expected calibration error as in `report.calibration`, over pairs with a better side; NaN of none."""
    p, label = p[label != 0.5], label[label != 0.5]
    if not len(p):
        return math.nan
    confidence = np.maximum(p, 1 - p)
    right = np.where(p == 0.5, 0.5, (p > 0.5) == (label == 1.0))
    bins = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    return float(abs(np.bincount(bins, right - confidence, BINS)).sum() / len(p))


def _gain(measure: Callable[[Array, Array], float], before: Array, after: Array, label: Array) -> Gain:
    """The measure before and after, with the percentile interval of the change over pairs drawn again."""
    draws = np.random.default_rng(0).integers(0, len(label), (DRAWS, len(label)))
    changes = [measure(after[rows], label[rows]) - measure(before[rows], label[rows]) for rows in draws]
    low, high = np.nanpercentile(changes, [2.5, 97.5])
    return Gain(measure(before, label), measure(after, label), float(low), float(high))


def _logits(questions: Questions, options: Options) -> Array:
    x, shown, longer = questions.x, questions.shown, questions.longer
    return x / options["temperature"] - options["position"] * shown - options["length"] * longer


def _losses(p: Array, label: Array) -> Array:
    p = np.clip(p, _CERTAIN, 1 - _CERTAIN)
    losses: Array = -(label * np.log(p) + (1 - label) * np.log1p(-p))
    return losses


def _sigmoid(x: Array) -> Array:
    p: Array = np.exp(-np.logaddexp(0.0, -x))
    return p
