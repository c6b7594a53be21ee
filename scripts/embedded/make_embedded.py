"""Make the quick start's embedded policy, judge and prompts: `python scripts/embedded/make_embedded.py`.

Everything is generated from `facts.py`; nothing is downloaded. It takes three to five minutes on two
cores with a fast BLAS (preload OpenBLAS on Linux, where mlx's own is far slower). The
seeds are fixed; other machines may round differently and so give slightly different weights.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facts import FACTS, Fact, split_questions, styled_answer
from model import save
from quality import measure, readme
from tokenizer import train_tokenizer
from train_judge import Comparison, train_judge
from train_policy import train_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path(__file__).parents[2] / "core" / "prefloop" / "embedded"
VOCABULARY = 1024
SEED = 7


def main() -> None:
    training, held_out = split_questions()
    tokenizer = _train_tokenizer(training)

    print(f"policy: {len(FACTS)} facts, {len(training)} training questions", flush=True)
    policy, config = train_policy(tokenizer, SEED)
    save(policy, config, tokenizer, FOLDER / "policy")
    print("judge", flush=True)
    judge, config = train_judge(policy, tokenizer, training, SEED)
    save(judge, config, tokenizer, FOLDER / "judge")

    _write_prompts(FOLDER / "prompts.jsonl", training)
    _write_prompts(FOLDER / "held_out.jsonl", held_out)
    quality = measure(policy, judge, tokenizer, training, held_out)
    text = readme(quality)
    (FOLDER / "README.md").write_text(text, encoding="utf-8")
    print(text)


def _train_tokenizer(questions: Sequence[tuple[str, Fact]]) -> Any:
    """Train on questions, answers and the judge's wording: each of their words is about a token."""
    rng = random.Random(SEED)
    texts = [question for question, _ in questions]
    texts += [styled_answer(rng, fact.sentence) for _, fact in questions for _ in range(5)]
    draft = train_tokenizer(texts, VOCABULARY)  # to render the judge's question with
    wording = draft.decode(Comparison("", "", "").question(draft), skip_special_tokens=True)
    return train_tokenizer([*texts, *[wording] * len(questions)], VOCABULARY)


def _write_prompts(path: Path, questions: Sequence[tuple[str, Fact]]) -> None:
    rows = ({"prompt": question, "answer": fact.answer} for question, fact in questions)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
