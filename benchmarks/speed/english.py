"""Texts for a pretrained model: prompts that people might write, of unequal length, and a rubric."""

from __future__ import annotations

import random

ASKED = (
    "Write a short poem about",
    "Explain to a child of ten",
    "Give three facts about",
    "Describe in two sentences",
    "What should everybody know about",
    "Write the first lines of a story about",
    "Name the best and the worst thing about",
    "Write a polite letter to a neighbour who knows nothing yet about",
)
SUBJECTS = (
    "the sea at night",
    "bread",
    "how a bicycle stays upright",
    "an old lighthouse and its keeper",
    "the moons of Jupiter",
    "learning to play the violin",
    "rain",
    "why leaves turn red and yellow in autumn",
    "a market in a small town",
    "chess",
    "the first railways",
    "moving to another country with two cats",
)
IN_A_SENTENCE = (
    "Answer in one sentence: what is {} like?",
    "Say in one sentence how you feel about {}.",
    "Write one short sentence about {}.",
)
THINGS = (
    "rain",
    "bread",
    "a bicycle",
    "the moon",
    "chess",
    "a lighthouse",
    "autumn",
    "a violin",
    "dogs",
    "moving house",
    "Mondays",
    "the sea",
    "trains",
    "winter",
    "an old friend",
    "a market",
    "coffee",
    "homework",
    "a long walk",
    "the dentist",
    "birthdays",
    "a power cut",
    "gardens",
    "exams",
    "snow",
    "a broken cup",
    "holidays",
    "traffic",
    "a new job",
    "silence",
    "storms",
    "libraries",
)
_IMPARTIAL = (
    "Do not prefer an answer because it is longer, because it comes first, or because it praises the person "
    "who asked. "
)
RUBRIC = (
    "You compare two answers to the same request and say which of them is better. A good answer does what "
    "was asked and nothing else. It is correct, it is easy to read, and it comes to an end. "
    f"{_IMPARTIAL}If both answers are bad, choose the one that does less harm. Reply with the number of the "
    "better answer, 0 or 1, and with nothing else: no reasons, no greeting, and no full stop."
)
_PAIR = "Request: {prompt}\n\nAnswer 0: {response0}\n\nAnswer 1: {response1}\n\nBetter answer:"
QUESTION = f"{RUBRIC.replace(_IMPARTIAL, '')}\n\n{_PAIR}"
"""mlx-lm-lora's question, as a format string.

It quotes the prompt with the chat template's words around it, so it has a sentence less of its own.
"""


def prompts(count: int, seed: int) -> list[str]:
    """Different prompts in a seeded order."""
    every = [f"{asked} {subject}." for asked in ASKED for subject in SUBJECTS]
    if count > len(every):
        raise ValueError(f"there are {len(every)} prompts, and {count} are wanted")
    return random.Random(f"prompts of seed {seed}").sample(every, count)


def one_sentence() -> list[str]:
    """Every prompt that asks for a sentence, always in the same mixed order."""
    every = [asked.format(thing) for asked in IN_A_SENTENCE for thing in THINGS]
    return random.Random("prompts that ask for a sentence").sample(every, len(every))
