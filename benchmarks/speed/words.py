"""Texts whose length in tokens is known before any tokenizer exists: a token is a word.

Whatever a model samples therefore reads back as the same number of tokens, which a trainer that decodes
completions and encodes them again needs so that both sides do the same work. The judge's question has the
same number of words on both sides: the rubric is filled up with words.
"""

from __future__ import annotations

import random

from benchmarks.harness.internals import fence_for, user_message

LABELS = ("0", "1")
END, REPLY = "end-of-turn", "assistant:"
TEMPLATE = (
    "{% for message in messages %}"
    "{{ message.role + ':\n' + message.content + '\nend-of-turn\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
)
_TURN = 2
"""Words that the template puts around a message; as many as precede the reply, less one."""
_PAIR = "Instruction: {prompt} Output 0: {response0} Output 1: {response1} The better one is number"
FILLER = tuple(f"word{i}" for i in range(500))


def vocabulary(size: int) -> dict[str, int]:
    """Token ids of `size` words: those that are written here, then others."""
    said = user_message("a b c", "x", "y z", labels=LABELS, fence=fence_for("=== x")).split()
    said += user_message("", "", "", labels=LABELS, fence=fence_for("")).split()
    known = dict.fromkeys([END, REPLY, "user:", "system:", *LABELS, *said, *_PAIR.split(), *FILLER])
    if size < len(known):
        raise ValueError(f"the texts have {len(known)} words, which is more than a vocabulary of {size}")
    more = (f"token{i}" for i in range(size - len(known)))
    return {word: i for i, word in enumerate([*known, *more])}


def prompts(count: int, length: int, seed: int) -> list[str]:
    """Different texts that have `length` tokens each once the chat template is around them."""
    draw = random.Random(f"prompts of seed {seed}")
    own = length - _TURN - 1
    return [" ".join([f"word{i % 500}", *draw.choices(FILLER, k=own - 1)]) for i in range(count)]


def rubric(fixed: int) -> str:
    """prefloop's rubric, so that its question has `fixed` words besides the prompt and the answers."""
    asked = user_message("", "", "", labels=LABELS, fence=fence_for(""))
    return _filled(fixed - len(asked.split()) - 2 * _TURN - 1)


def question_with_rubric(fixed: int) -> str:
    """The other side's question with as many words, as a format string.

    It quotes the prompt with the chat template's words around it, so it has as many fewer of its own.
    """
    quoted = _PAIR.format(prompt="", response0="", response1="")
    template = _TURN + 1
    return f"{_filled(fixed - len(quoted.split()) - _TURN - 1 - template)} {_PAIR}"


def _filled(count: int) -> str:
    if count < 1:
        raise ValueError("the judge's question is shorter than what has to be said")
    draw = random.Random("rubric")
    return " ".join(draw.choices(FILLER, k=count))
