"""A simulated person, and pairs of answers for them."""

from __future__ import annotations

import json
import random
from pathlib import Path

from prefloop import Completion, Pair, Prompt, Verdict
from prefloop.types import PERSON

WARM = ("Sure thing!", "Great question!", "Happy to help!", "Of course!")
BLUNT = ("Really?", "Obviously.", "Everyone knows.", "Fine.")
FACTS = ("A cow says moo.", "Grass is green.", "A dog says woof.", "Two and two is four.", "Snow is white.")


def pairs(count: int, *, seed: int = 0) -> list[Pair]:
    """Warm answers beside blunt ones, in an order by chance, each pair to a prompt of its own."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        fact = rng.choice(FACTS)
        warm, blunt = f"{rng.choice(WARM)} {fact}", f"{rng.choice(BLUNT)} {fact}"
        first, second = (warm, blunt) if rng.random() < 0.5 else (blunt, warm)
        text = f"{seed}-{i}: tell me something."
        prompt = Prompt((), text, ({"role": "user", "content": text},))
        found.append(Pair(prompt, Completion((), first), Completion((), second)))
    return found


def likes_warmth(pair: Pair) -> Verdict:
    """Certain that the warm answer is better."""
    return Verdict(float(pair.first.text.startswith(WARM)), by=PERSON)


def coin(pair: Pair, seed: int) -> Verdict:
    """Certain, and by chance."""
    return Verdict(float(random.Random(f"{seed} {pair.prompt.text}").random() < 0.5), by=PERSON)


def write_pairs(path: Path, given: list[Pair]) -> Path:
    """A file of pairs as `prefloop judge` reads it, labelled by who likes warmth."""
    rows = [
        {
            "prompt": p.prompt.text,
            "first": p.first.text,
            "second": p.second.text,
            "label": "first" if likes_warmth(p).prefers_first else "second",
        }
        for p in given
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
