"""A process that talks as the models of one run do: its policy, the start, the reference.

`python -m prefloop_studio.talker RUN` reads one request a line, as JSON, and writes what is said as it comes,
one JSON object a line. The models share their weights. Before each answer it looks for a newer checkpoint, so
that one talks with a run in training as it is now.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define

from prefloop import Policy, UserError, open_run
from prefloop.beginning import beginning_of, begun
from prefloop.config import PromptsConfig
from prefloop.cpu import blas
from prefloop.model.adapters import ADAPTERS, load_adapters
from prefloop.prompts.chat import encode_prompt
from prefloop_plugins.commands.evaluating import run_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import mlx.nn as nn

SOURCES = ("policy", "start", "reference")


@define
class Talker:
    """The models of the run in `run`."""

    run: Path
    policy: Policy
    thinking: bool
    """Whether the run's prompts let the model think."""
    loaded: tuple[str, float] = ("", 0.0)

    @classmethod
    def of(cls, run: Path) -> Talker:
        """Load them. Raises `UserError` where that fails."""
        config = run_settings(run)
        with begun(beginning_of(open_run(run).manifest)):
            policy = Policy.load(config.model, config.adapter, config.reference, seed=config.training.seed)
        prompts = config.prompts
        sources = [prompts] if isinstance(prompts, PromptsConfig) else prompts
        return cls(run, policy, any(source.thinking for source in sources))

    def answer(self, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What the model `source` says to `messages`, piece by piece, and in the end how."""
        import mlx.core as mx
        from mlx_lm import stream_generate
        from mlx_lm.sample_utils import make_sampler

        step = self._newest() if asked["source"] == "policy" else None
        tokenizer = self.policy.tokenizer
        prompt = encode_prompt(tokenizer, asked["messages"], thinking=self.thinking)
        mx.random.seed(int(asked["seed"]))
        sampler = make_sampler(temp=float(asked["temperature"]), top_p=float(asked["top_p"]))
        started, count, ended = time.perf_counter(), 0, "length"
        model = self._model(str(asked["source"]))
        for piece in stream_generate(
            model, tokenizer, list(prompt), max_tokens=int(asked["max_tokens"]), sampler=sampler
        ):
            count, ended = piece.generation_tokens, piece.finish_reason or ended
            yield {"text": piece.text}
        seconds = time.perf_counter() - started
        yield {"done": True, "tokens": count, "stopped": ended == "stop", "seconds": seconds, "step": step}

    def _model(self, source: str) -> nn.Module:
        models = {"policy": self.policy.model, "start": self.policy.start, "reference": self.policy.reference}
        model = models[source]
        model.eval()
        return model

    def _newest(self) -> int | None:
        """Load what the run has learnt until now, where that is newer; the step it is of."""
        run = open_run(self.run)
        saved = run.checkpoints()
        final = self.run / ADAPTERS
        ended = run.status != "running" and final.is_file()
        step = (
            run.summary.get("adapters_step", run.summary.get("steps")) if ended else max(saved, default=None)
        )
        folder = self.run if ended else saved.get(step) if step is not None else None
        if folder is None:
            return 0
        newest = (str(folder), (folder / ADAPTERS).stat().st_mtime)
        if newest != self.loaded:
            load_adapters(self.policy.model, str(folder))
            self.loaded = newest
        return step


def main(run: Path) -> None:
    """Answer until there are no more requests. What goes wrong is an answer, too."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is not ours

    def say(record: Mapping[str, Any]) -> None:
        out.write(json.dumps(record) + "\n")
        out.flush()

    try:
        blas.use_fastest()
        talker = Talker.of(run)
    except UserError as error:
        say({"error": str(error)})
        return
    say({"ready": True})
    for line in sys.stdin:
        try:
            for record in talker.answer(json.loads(line)):
                say(record)
        except UserError as error:
            say({"error": str(error)})
        except Exception as error:  # of a model or tokenizer, whose faults the page has to show
            say({"error": f"the model could not answer: {type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
