"""The records of a run as JSON, and back: pairs, verdicts, evaluations and metrics.

How they look in the ledger, the metrics, the files of evaluations and a checkpoint is known here and nowhere
else. Files may have been edited, or written by another version, so reading may raise any of `files.DAMAGE`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from attrs import asdict, evolve, frozen

from prefloop.prompts.chat import transcript
from prefloop.prompts.loading import RowError, check_text, messages_of
from prefloop.prompts.rows import type_in_words
from prefloop.types import Completion, Evaluation, Opinion, Pair, Prompt, Rate, Source, Status, Verdict

EXAMPLES = 3
"""How many pairs of an evaluation a checkpoint and a run's summary keep to be shown."""
T = TypeVar("T")


@frozen
class JudgeIdentity:
    """Who judged: the component's qualified name, its distribution's version, a hash of its options."""

    name: str
    version: str
    options: str


@frozen
class Judgement:
    """A line of the ledger: a pair, what a judge said of it, and when."""

    step: int
    """The step of training that it was judged in; of an evaluation, the steps taken until then."""
    pair: Pair
    verdict: Verdict
    judge: JudgeIdentity
    evaluation: bool = False
    """Whether the pair is one of an evaluation, and not learnt from."""
    seconds: float | None = None
    """How long the verdict took; where several came together, their mean."""

    @property
    def key(self) -> str:
        """Equal for judgements in which one judge, with the same options, judged one pair."""
        return judgement_key(self.judge, self.pair)


@frozen
class StepMetrics:
    """What was measured in a step of training, by the names of ``metrics.jsonl``; NaN is not defined."""

    step: int
    metrics: Mapping[str, float]


def judgement_key(judge: JudgeIdentity, pair: Pair) -> str:
    """Equal for two questions that are one: the same judge, with the same options, about the same pair."""
    who = [judge.name, judge.version, judge.options]
    what = [pair.prompt.id, prompt_to_json(pair.prompt), pair.first.text, pair.second.text]
    return hashlib.sha256(json.dumps([who, what], sort_keys=True).encode()).hexdigest()


def latest(keyed: Iterable[tuple[str, T]]) -> list[T]:
    """Of the values with equal keys the last one, in the order of those."""
    kept: dict[str, T] = {}
    for key, value in keyed:
        kept.pop(key, None)  # so that the last one also comes last
        kept[key] = value
    return list(kept.values())


# The ledger: a line for each judgement


def judgement_to_json(judgement: Judgement) -> dict[str, Any]:
    """The line of a judgement."""
    pair, judge = judgement.pair, judgement.judge
    return {
        "step": judgement.step,
        **({"evaluation": True} if judgement.evaluation else {}),
        **({} if judgement.seconds is None else {"seconds": judgement.seconds}),
        "judge": judge.name,
        "judge_version": judge.version,
        "judge_options": judge.options,
        "prompt_id": pair.prompt.id,
        **_source_to_json(pair.prompt),
        "prompt": prompt_to_json(pair.prompt),
        "first": completion_to_json(pair.first),
        "second": completion_to_json(pair.second),
        **verdict_to_json(judgement.verdict),
    }


def judgement_from_json(line: Mapping[str, Any]) -> Judgement:
    """The judgement in a line of a ledger."""
    if not is_judgement(line):
        raise RowError("is not a judgement: it lacks a prompt, two completions, a probability or a status")
    first, second = (completion_from_json(line[side], side) for side in ("first", "second"))
    judge = JudgeIdentity(*(str(line.get(f"judge{part}") or "") for part in ("", "_version", "_options")))
    prompt = prompt_from_json(line["prompt"], str(line.get("prompt_id") or ""))
    prompt = evolve(prompt, source=str(line.get("source") or ""))
    seconds = line.get("seconds")
    return Judgement(
        step=int(line.get("step") or 0),
        pair=Pair(prompt, first, second),
        verdict=verdict_from_json(line),
        judge=judge,
        evaluation=bool(line.get("evaluation")),
        seconds=None if seconds is None else float(seconds),
    )


def is_judgement(line: Mapping[str, Any]) -> bool:
    """Whether a row has the columns of a ledger line, and not those of a plain pair."""
    columns = ("prompt", "first", "second", "probability", "status")
    return all(column in line for column in columns) and isinstance(line["first"], Mapping)


def prompt_to_json(prompt: Prompt) -> list[dict[str, Any]] | str:
    """The messages of a prompt, or its text where it has none."""
    return [dict(message) for message in prompt.messages] or prompt.text


def prompt_from_json(found: Any, id: str) -> Prompt:
    """A prompt as it was judged; its token ids are not in the ledger."""
    if isinstance(found, str):
        return Prompt((), found, id=id)
    messages = messages_of(found, "prompt")
    return Prompt((), transcript(messages), tuple(messages), id)


def _source_to_json(prompt: Prompt) -> dict[str, str]:
    """The source of a prompt of a mixture."""
    return {"source": prompt.source} if prompt.source else {}


def completion_to_json(completion: Completion) -> dict[str, Any]:
    """All of a completion."""
    return {
        "text": completion.text,
        "tokens": list(completion.tokens),
        "stopped": completion.stopped,
        "source": completion.source,
        **({} if completion.version is None else {"version": completion.version}),
        **_thought_to_json(completion),
    }


def _thought_to_json(completion: Completion) -> dict[str, Any]:
    """The thought before the answer, where there is one."""
    count = completion.thought_tokens
    return {"thought": completion.thought, "thought_tokens": count} if count else {}


def _thought_from_json(found: Mapping[str, Any]) -> tuple[str, int]:
    return str(found.get("thought") or ""), int(found.get("thought_tokens") or 0)


def completion_from_json(found: Any, side: str) -> Completion:
    """The completion in a row, as its `side`. Raises `RowError` where that is none."""
    if not isinstance(found, Mapping) or not isinstance(found.get("text"), str):
        raise RowError(f"has no object with a 'text' as its '{side}'")
    check_text(found["text"], f"its '{side}'")
    tokens, source = found.get("tokens") or [], found.get("source", "policy")
    if not isinstance(tokens, list):
        raise RowError(f"has {type_in_words(tokens)} as the 'tokens' of its '{side}', not a list")
    if source not in get_args(Source):
        raise RowError(f"has the source {source!r} of its '{side}', none of {', '.join(get_args(Source))}")
    stopped = bool(found.get("stopped", True))
    version = found.get("version")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 0):
        raise RowError(f"has the version {version!r} of its '{side}', not a number of steps")
    thought = _thought_from_json(found)
    return Completion(tuple(tokens), found["text"], stopped, source, *thought, version=version)


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """All of a verdict; who gave it, what was said before and an audit's chance only where there are such."""
    further = {
        "by": verdict.by,
        "earlier": verdict.earlier and verdict_to_json(verdict.earlier),
        "audit": verdict.audit,
    }
    return {
        "probability": verdict.probability,
        "status": verdict.status,
        "orders": verdict.orders and list(verdict.orders),
        "reason": verdict.reason,
        **{name: value for name, value in further.items() if value is not None},
    }


def verdict_from_json(found: Mapping[str, Any]) -> Verdict:
    """The verdict in a row. Raises `RowError` where that is none."""
    status, orders, reason = found["status"], found.get("orders"), found.get("reason")
    if status not in get_args(Status):
        raise RowError(f"has the status {status!r}, which is none of {', '.join(get_args(Status))}")
    both = (_probability(orders[0]), _probability(orders[1])) if orders else None
    by, earlier, audit = (found.get(name) for name in ("by", "earlier", "audit"))
    return Verdict(
        _probability(found["probability"]),
        status,
        reason and str(reason),
        both,
        by=by and str(by),
        earlier=None if earlier is None else verdict_from_json(earlier),
        audit=None if audit is None else float(audit),
    )


def _probability(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RowError(f"has {type_in_words(value)} as its 'probability', not a number")
    if not 0 <= value <= 1:
        raise RowError(f"is not a judgement: a verdict's probability lies between 0 and 1, not {value!r}")
    return float(value)


# The metrics: a line for each step and each evaluation


def metrics_to_json(measured: StepMetrics | Evaluation) -> dict[str, Any]:
    """The line of a step, or of an evaluation."""
    if isinstance(measured, StepMetrics):
        return {"step": measured.step, **finite(measured.metrics)}
    who = {"judge": measured.judge, **_others_to_json(measured)} if measured.others else {}
    rates = {"win_rate": asdict(measured.win_rate), **finite(measured.metrics), **who}
    return {"step": measured.step, "evaluation": rates}


def metrics_from_json(line: Mapping[str, Any]) -> StepMetrics | Evaluation:
    """The metrics in a line: those of a step, or of an evaluation, whose pairs are in its own file."""
    step = int(line["step"])
    if "evaluation" not in line:
        return StepMetrics(step, _numbers({name: value for name, value in line.items() if name != "step"}))
    rates = line["evaluation"]
    found = Evaluation(step, _rate(rates["win_rate"]), _numbers(rates))
    return evolve(found, judge=str(rates.get("judge") or ""), **_others_from_json(rates))


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no infinity and no NaN: they are null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in a mapping; what is null is NaN, and what is anything else is left out."""
    numbers = {}
    for name, value in found.items():
        if value is None:
            numbers[name] = math.nan
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[name] = float(value)
    return numbers


def _rate(found: Mapping[str, Any]) -> Rate:
    rate, low, high = (_probability(found[name]) for name in ("rate", "low", "high"))
    return Rate(rate, low, high, int(found["pairs"]))


# A file for each evaluation


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything of an evaluation but the token ids of its answers, of which there is the number."""
    judged = zip(evaluation.pairs, evaluation.verdicts, strict=True)
    return {
        "step": evaluation.step,
        "judge": evaluation.judge,
        "against": evaluation.against,
        "win_rate": asdict(evaluation.win_rate),
        "metrics": finite(evaluation.metrics),
        **_others_to_json(evaluation, verdicts=True),
        "pairs": [_compared_to_json(pair, verdict) for pair, verdict in judged],
    }


def evaluation_from_json(found: Mapping[str, Any]) -> Evaluation:
    """The evaluation in a file. Its answers have their texts and no token ids."""
    pairs: Sequence[Mapping[str, Any]] = found.get("pairs") or ()
    return Evaluation(
        step=int(found["step"]),
        win_rate=_rate(found["win_rate"]),
        metrics=_numbers(found.get("metrics") or {}),
        pairs=tuple(map(_compared_from_json, pairs)),
        verdicts=tuple(map(verdict_from_json, pairs)),
        judge=str(found.get("judge") or ""),
        against=str(found.get("against") or "start"),
        **_others_from_json(found),
    )


def _others_to_json(evaluation: Evaluation, *, verdicts: bool = False) -> dict[str, Any]:
    """What the other judges said, and who taught; nothing where there was one judge."""
    if not evaluation.others:
        return {}
    others = [
        {
            "judge": other.judge,
            "win_rate": asdict(other.win_rate),
            **({"verdicts": [*map(verdict_to_json, other.verdicts)]} if verdicts else {}),
        }
        for other in evaluation.others
    ]
    return {"teacher": evaluation.teacher, "others": others}


def _others_from_json(found: Mapping[str, Any]) -> dict[str, Any]:
    others = tuple(
        Opinion(
            str(other["judge"]),
            _rate(other["win_rate"]),
            tuple(map(verdict_from_json, other.get("verdicts") or ())),
        )
        for other in found.get("others") or ()
    )
    return {"others": others, "teacher": str(found.get("teacher") or "")}


def _compared_to_json(pair: Pair, verdict: Verdict) -> dict[str, Any]:
    return {
        "prompt": pair.prompt.text,
        "prompt_id": pair.prompt.id or None,
        **_source_to_json(pair.prompt),
        "ours": _answer_to_json(pair.first),
        "theirs": _answer_to_json(pair.second),
        **verdict_to_json(verdict),
    }


def _answer_to_json(completion: Completion) -> dict[str, Any]:
    about = {"text": completion.text, "tokens": len(completion.tokens), "stopped": completion.stopped}
    return about | _thought_to_json(completion)


def _compared_from_json(found: Mapping[str, Any]) -> Pair:
    id, source = (str(found.get(key) or "") for key in ("prompt_id", "source"))
    prompt = Prompt((), str(found["prompt"]), id=id, source=source)
    answers = (_compared_answer(found[side]) for side in ("ours", "theirs"))
    return Pair(prompt, *answers)


def _compared_answer(found: Mapping[str, Any]) -> Completion:
    stopped = bool(found.get("stopped", True))
    return Completion((), str(found["text"]), stopped, "policy", *_thought_from_json(found))


# The evaluations until a checkpoint


def evaluation_to_state(evaluation: Evaluation) -> dict[str, Any]:
    """What a checkpoint keeps of an evaluation: its rates, and its first pairs as texts."""
    examples = [(p.prompt.text, p.first.text, p.second.text) for p in evaluation.pairs[:EXAMPLES]]
    about = {"step": evaluation.step, "win_rate": asdict(evaluation.win_rate)}
    others = _others_to_json(evaluation)
    return {**about, "metrics": finite(evaluation.metrics), **others, "examples": examples}


def evaluation_from_state(state: Mapping[str, Any]) -> Evaluation:
    """The evaluation that a checkpoint keeps."""
    examples = [
        Pair(Prompt((), prompt), Completion((), first), Completion((), second))
        for prompt, first, second in state["examples"]
    ]
    found = Evaluation(state["step"], Rate(**state["win_rate"]), _numbers(state["metrics"]), examples)
    return evolve(found, **_others_from_json(state))
