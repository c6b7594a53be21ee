"""A recipe worked out: memory by prefloop's own plan for the shapes of its models, time by arithmetic."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import frozen
from benchmarks.harness.internals import Beginning, Plan, begun, loading, make_plan, prepare
from benchmarks.recipes.machines import MACS, Mac, Work, model, prompt_tokens
from benchmarks.recipes.models import MODELS, Shape, Shelf, on_metal, size_of
from mlx.utils import tree_flatten

from prefloop import BaseJudge, BaseSampler, Config, adapt, load_config

PROMPTS = 704
"""Prompts that a plan is made with: enough for a step and for those held out, at most a tenth of them."""


@frozen
class Recipe:
    """A file of `recipes/` as it is written, with the Mac that its name ends with."""

    file: Path

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def mac(self) -> Mac:
        """Raises `ValueError` where the file's name does not end with the memory of one of them."""
        found = re.search(r"-(\d+)gb$", self.name)
        if not found or int(found[1]) not in MACS:
            raise ValueError(
                f"{self.file.name}: its name ends with none of {', '.join(f'{m}gb' for m in MACS)}"
            )
        return MACS[int(found[1])]

    @cached_property
    def config(self) -> Config:
        return self.load()

    def load(self, settings: Sequence[str] = ()) -> Config:
        """The configuration as it is read in the folder of the recipes; `settings` are those of ``--set``."""
        with begun(Beginning(self.file.parent)):
            return load_config(self.file, settings)

    @property
    def judge(self) -> str | None:
        """The id of the model that judges, if one does."""
        return getattr(self.config.judge, "model", None)

    def shape(self) -> Shape:
        """Of the policy as it is trained."""
        given = self.config.model
        if given.quantize == "none":
            return MODELS[given.path]
        return {**MODELS[given.path], "quantization": loading._QUANTIZE[given.quantize]}


@frozen
class Planned:
    """What a recipe needs on its Mac."""

    plan: Plan
    seconds: dict[str, float]
    """Of each phase of a step."""

    @property
    def step(self) -> float:
        return sum(self.seconds.values())


def work_out(recipe: Recipe, folder: Path) -> Planned:
    """The plan for prompts and completions of full length, and the time for prompts of the mean length.

    `folder` is for the stand-ins of models and prompts.
    """
    with on_metal():
        shelf = Shelf(folder)
        given = recipe.config.model
        settings = [f"model.path={shelf.put(given.path, given.quantize)}", *_full_prompts(recipe, folder)]
        if recipe.judge:
            settings.append(f"judge.model={shelf.put(recipe.judge)}")
        config = recipe.load(settings)
        prepared = prepare(config)
        judge = adapt(config.judge, BaseJudge)
        judge.prepare()
        held_out = prepared.evaluator.prompts if prepared.evaluator else ()
        loop, prompts = prepared.loop, prepared.prompts
        plan = make_plan(loop, prompts, held_out, judge=_own_bytes(judge, loop), judges=[judge])
        return Planned(plan, _work(recipe, judge).seconds(recipe.mac))


def _full_prompts(recipe: Recipe, folder: Path) -> list[str]:
    """Settings that give prompts of exactly the greatest length: a word is a token or more."""
    file, words = folder / "prompts.jsonl", "moo " * recipe.config.prompts.max_length
    rows = [{"prompt": f"{i} {words}", "answer": "#### 1"} for i in range(PROMPTS)]  # for a judge of sums
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        f"prompts.path={file}",
        "prompts.name=null",
        "prompts.column=null",
        "prompts.too_long=truncate_left",
    ]


def _own_bytes(judge: Any, loop: Any) -> int:
    """What a judge holds beside the weights that it shares with the policy."""
    if (loaded := getattr(judge, "_loaded", None)) is None:
        return 0
    shared = {id(value) for _, value in tree_flatten(loop.policy.loaded.pristine.model.parameters())}
    own = (value for _, value in tree_flatten(loaded.model.parameters()) if id(value) not in shared)
    return sum(value.nbytes for value in own)


def _work(recipe: Recipe, judge: Any) -> Work:
    """What a step of a recipe does, with prompts of the mean length and completions of full length."""
    config, shape = recipe.config, recipe.shape()
    training, layers = config.training, shape["num_hidden_layers"]
    judging = MODELS[recipe.judge] if recipe.judge else None
    asked = config.adapter.layers
    return Work(
        policy=model(size_of(shape), shape.get("quantization")),
        judge=model(size_of(judging), judging.get("quantization")) if judging else None,
        pairs=training.batch_size * training.gradient_accumulation,
        rollout=training.rollout,
        prompt=prompt_tokens(config.prompts.path),
        completion=adapt(config.sampler, BaseSampler).sampling.max_tokens,
        trained=layers if asked < 0 else min(asked, layers),
        orders=2 if getattr(judge, "orders", "both") == "both" else 1,
        around=_around(judge) if judging else 0,
        full=config.adapter.type == "full",
        again=training.gradient_checkpointing,
    )


def _around(judge: Any) -> int:
    """Tokens of an empty question behind what all questions begin with."""
    reader = judge._reader
    return len(reader.encode("", "", "")) - len(reader.prefix)
