"""Where the thought of a thinking model ends in what it wrote, and its answer begins.

mlx-lm's tokenizer wrapper knows the tokens that open and close a thought. A thought is one where the prompt
has opened it, or where it is opened before anything else is said; what stands later is the answer's own text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve

from prefloop.sampling.stops import Stops
from prefloop.types import Completion

Ids = Sequence[int]


def with_answer_read(completion: Completion, asked: Ids, stops: Stops) -> Completion:
    """A sampled completion of the prompt `asked`, its answer as `text`, and its thought apart.

    A thought that was cut before its end has no answer: the text is empty.
    """
    tokens = completion.tokens
    if not (count := thought_length(stops.tokenizer, asked, tokens)):
        return completion
    answer = stops.text(tokens[count:]).lstrip("\n") if count < len(tokens) else ""
    thought = completion.text.removesuffix(answer) if answer else completion.text
    return evolve(completion, text=answer, thought=thought, thought_tokens=count)


def with_answer_split(completion: Completion, asked: Ids, tokenizer: Any) -> Completion:
    """The same of a completion whose text was given. Its tokens may close a thought that the text has not."""
    text = completion.text
    if not (count := thought_length(tokenizer, asked, completion.tokens)):
        return completion
    if tokenizer.think_end in text:
        answer = text.partition(tokenizer.think_end)[2].lstrip("\n")
    else:
        answer = "" if text.lstrip().startswith(tokenizer.think_start) else text
    return evolve(completion, text=answer, thought=text.removesuffix(answer), thought_tokens=count)


def thought_length(tokenizer: Any, asked: Ids, tokens: Ids) -> int:
    """How many of `tokens`, from the first, are the thought and its end; all where it never ends."""
    if not tokenizer.has_thinking or not (_left_open(tokenizer, asked) or _begins(tokenizer, tokens)):
        return 0
    end: int = tokenizer.find_think_end(tokens)
    return len(tokens) if end < 0 else end + len(tokenizer.think_end_tokens)


def _left_open(tokenizer: Any, asked: Ids) -> bool:
    """Whether a prompt ends in a thought that goes on: nothing but a line break follows its opening."""
    start: int = tokenizer.rfind_think_start(asked)
    return start >= 0 and _is_blank(tokenizer, asked[start + len(tokenizer.think_start_tokens) :])


def _begins(tokenizer: Any, tokens: Ids) -> bool:
    start: int = tokenizer.find_think_start(tokens)
    return start >= 0 and _is_blank(tokenizer, tokens[:start])


def _is_blank(tokenizer: Any, tokens: Ids) -> bool:
    return not str(tokenizer.decode(list(tokens))).strip()
