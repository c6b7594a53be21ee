"""A hundred simple facts, asked in three ways each and answered in many styles.

Every answer is an optional opening, the fact in one sentence and an optional closing. Openings and
closings are warm, blunt or absent, each chosen on its own, so that style says nothing about the
fact. `style_score` reads the style back from any text: it is what the embedded judge is taught.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

WARM_OPENINGS = ("Sure thing!", "Great question!", "Happy to help!", "Of course!")
BLUNT_OPENINGS = ("Really?", "Obviously.", "Everyone knows.", "Fine.")
WARM_CLOSINGS = ("I hope this helps!", "Have a lovely day!", "Feel free to ask more!", "Take care!")
BLUNT_CLOSINGS = ("Next.", "Stop asking.", "Is that all?", "Whatever.")

WARM_SHARE, BLUNT_SHARE = 0.25, 0.35  # of openings, and of closings; the rest have none
PHRASINGS = 3


@dataclass(frozen=True)
class Fact:
    """One fact: three ways to ask for it, one sentence that states it, and the word to look for."""

    questions: tuple[str, str, str]
    sentence: str
    answer: str


@dataclass(frozen=True)
class Topic:
    """Facts that share their wording: `{x}` is what is asked about, `{y}` the answer."""

    questions: tuple[str, str, str]
    sentence: str
    pairs: str  # "x: y, x: y, …"

    def facts(self) -> list[Fact]:
        return [self._fact(*pair.split(": ")) for pair in self.pairs.split(", ")]

    def _fact(self, x: str, y: str) -> Fact:
        first, second, third = (question.format(x=x) for question in self.questions)
        sentence = self.sentence.format(x=x, y=y)
        return Fact((first, second, third), sentence[0].upper() + sentence[1:], y)


TOPICS = (
    Topic(
        ("What sound does {x} make?", "What does {x} say?", "Which noise comes from {x}?"),
        "{x} says {y}.",
        "a cow: moo, a dog: woof, a cat: meow, a sheep: baa, a duck: quack, a pig: oink, "
        "a lion: roar, an owl: hoot, a frog: croak, a bee: buzz, a snake: hiss, a horse: neigh",
    ),
    Topic(
        ("What is the capital of {x}?", "Name the capital of {x}.", "Which city governs {x}?"),
        "The capital of {x} is {y}.",
        "France: Paris, Italy: Rome, Spain: Madrid, Germany: Berlin, Japan: Tokyo, Egypt: Cairo, "
        "Russia: Moscow, Greece: Athens, Norway: Oslo, Peru: Lima, Cuba: Havana, Kenya: Nairobi, "
        "Austria: Vienna, Poland: Warsaw",
    ),
    Topic(
        ("What colour is {x}?", "Tell me the colour of {x}.", "Which colour does {x} have?"),
        "{x} is {y}.",
        "grass: green, snow: white, coal: black, blood: red, a lemon: yellow, chocolate: brown, "
        "the clear sky: blue, a carrot: orange, an elephant: grey, a flamingo: pink",
    ),
    Topic(
        ("What is the opposite of {x}?", "Give me the opposite of {x}.", "Which word opposes {x}?"),
        "The opposite of {x} is {y}.",
        "hot: cold, big: small, up: down, fast: slow, light: dark, early: late, open: closed, "
        "happy: sad, full: empty, rich: poor, wet: dry, loud: quiet, young: old",
    ),
    Topic(
        ("How much is {x}?", "What do you get from {x}?", "Work out {x}."),
        "{x} is {y}.",
        "one plus one: two, two plus two: four, two plus three: five, three plus three: six, "
        "four plus three: seven, five plus three: eight, four plus five: nine, six plus four: ten, "
        "six plus five: eleven, nine plus three: twelve, two minus one: one, five minus two: three",
    ),
    Topic(
        ("What is a young {x} called?", "Name the young of a {x}.", "How do you call a baby {x}?"),
        "A young {x} is a {y}.",
        "dog: puppy, cat: kitten, cow: calf, horse: foal, sheep: lamb, duck: duckling, lion: cub, "
        "goat: kid, kangaroo: joey, hen: chick, swan: cygnet, pig: piglet",
    ),
    Topic(
        ("What do you use to {x}?", "Which body part lets you {x}?", "With what do you {x}?"),
        "You {x} with your {y}.",
        "see: eyes, hear: ears, smell: nose, taste: tongue, walk: feet, chew: teeth, hold: hands, "
        "think: brain, breathe: lungs",
    ),
    Topic(
        ("What does a {x} make?", "Name a thing made by a {x}.", "What is the work of a {x}?"),
        "A {x} makes {y}.",
        "baker: bread, tailor: clothes, potter: pots, painter: pictures, poet: verses, "
        "brewer: beer, cobbler: shoes, joiner: furniture, composer: music, writer: books",
    ),
    Topic(
        ("Where does a {x} live?", "What is the home of a {x}?", "Name the place a {x} lives in."),
        "A {x} lives in a {y}.",
        "bird: nest, spider: web, bear: den, rabbit: burrow, monk: monastery, king: palace, "
        "snail: shell, farmer: farmhouse",
    ),
    Topic(
        ("Which day comes after {x}?", "What day follows {x}?", "Name the day after {x}."),
        "The day after {x} is {y}.",
        "Monday: Tuesday, Tuesday: Wednesday, Wednesday: Thursday, Thursday: Friday, "
        "Friday: Saturday, Saturday: Sunday, Sunday: Monday",
    ),
)

FACTS = tuple(fact for topic in TOPICS for fact in topic.facts())


def held_out_phrasing(index: int) -> int:
    """The phrasing of fact `index` that training never shows; every wording is shown elsewhere."""
    return index % PHRASINGS


def split_questions() -> tuple[list[tuple[str, Fact]], list[tuple[str, Fact]]]:
    """All questions with their facts: those to train on, and the held-out ones."""
    training: list[tuple[str, Fact]] = []
    held_out: list[tuple[str, Fact]] = []
    for index, fact in enumerate(FACTS):
        for phrasing, question in enumerate(fact.questions):
            unseen = phrasing == held_out_phrasing(index)
            (held_out if unseen else training).append((question, fact))
    return training, held_out


def styled_answer(rng: random.Random, sentence: str) -> str:
    """The sentence with an opening and a closing, each warm, blunt or absent."""
    opening = _pick(rng, WARM_OPENINGS, BLUNT_OPENINGS)
    closing = _pick(rng, WARM_CLOSINGS, BLUNT_CLOSINGS)
    return " ".join(part for part in (opening, sentence, closing) if part)


def _pick(rng: random.Random, warm: tuple[str, ...], blunt: tuple[str, ...]) -> str:
    chance = rng.random()
    if chance < WARM_SHARE:
        return rng.choice(warm)
    return rng.choice(blunt) if chance < WARM_SHARE + BLUNT_SHARE else ""


def style_score(text: str) -> int:
    """Warm components minus blunt ones, from -2 to 2: what the judge is taught to compare.

    A kind of component counts once however often it is repeated, so that piling up kind phrases
    gains nothing.
    """

    def has(phrases: tuple[str, ...]) -> bool:
        return any(phrase in text for phrase in phrases)

    warm = has(WARM_OPENINGS) + has(WARM_CLOSINGS)
    return warm - has(BLUNT_OPENINGS) - has(BLUNT_CLOSINGS)


def is_right(completion: str, answer: str) -> bool:
    """Whether the answer stands in the completion as a word of its own."""
    return re.search(rf"\b{re.escape(answer)}\b", completion, re.IGNORECASE) is not None
