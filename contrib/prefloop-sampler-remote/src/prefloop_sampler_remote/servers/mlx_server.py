"""`mlx_lm.server`: text completions whose ``logprobs`` carry the ids of the tokens that were sampled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import define, field

from prefloop.errors import UserError
from prefloop.model.adapters import ADAPTER_CONFIG, ADAPTERS
from prefloop_sampler_remote.engine import EngineError, Snapshot, Tokens
from prefloop_sampler_remote.servers.asking import Asker
from prefloop_sampler_remote.servers.engine import Said, as_ids, as_logprobs, logprobs_of, one_choice

if TYPE_CHECKING:
    from prefloop import Policy, Prompt, Sampling


@define(eq=False)
class MlxServer:
    """Speaks to `mlx_lm.server` (mlx-lm 0.32).

    It loads the model that a request names, with the adapters in the folder that the request names, and
    keeps both until another request names others. Under the name ``default_model`` it leaves adapters away.
    It takes a prompt as text only.
    """

    model: str
    """The model's folder or Hub id, as the server finds it."""
    tokenizer: Any = field(repr=False)
    """The policy's."""
    loads_slowly: ClassVar[bool] = True  # with the adapters it reads the whole model again

    def check(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        """Raises `UserError` where the server would load another model, or read other prompts."""
        stored = json.loads((policy.loaded.folder / "config.json").read_bytes())
        if "quantization" in policy.loaded.config and "quantization" not in stored:
            raise UserError(
                "model.quantize: mlx_lm.server loads the model as it is stored, not quantized. Quantize it "
                "on disk (mlx_lm.convert --quantize), and name that folder as the model of both."
            )
        for prompt in prompts:
            try:
                self._text(prompt.tokens)
            except EngineError as error:
                raise UserError(f"prompts: {prompt.id or repr(prompt.text[:60])}: {error.reason}.") from error

    def write(self, folder: Path, snapshot: Snapshot) -> None:
        """mlx-lm reads adapters as prefloop saves them."""
        (folder / ADAPTERS).write_bytes(snapshot.adapters)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(snapshot.config, indent=2) + "\n", encoding="utf-8")

    def announce(self, asker: Asker, name: str, place: str, former: Sequence[str]) -> None:
        """Requests name the folder; the server loads it when it is first named."""

    def request(self, name: str, place: str, prompt: Tokens, sampling: Sampling, seed: int) -> dict[str, Any]:
        """Without the seed, which would make the server take one request after another."""
        return {
            "model": self.model,
            "adapters": place,
            "prompt": self._text(prompt),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "stop": [text for text in sampling.stop if isinstance(text, str)],
            "logprobs": True,
        }

    def read(self, reply: Mapping[str, Any], prompt: Tokens) -> Said:
        """The ids in ``logprobs.content``. Raises `EngineError` where the server read another prompt."""
        choice, usage = one_choice(reply), reply.get("usage")
        content = logprobs_of(choice).get("content")
        rows = content if isinstance(content, list) and all(isinstance(r, dict) for r in content) else []
        ids = as_ids([row.get("id") for row in rows])
        logprobs = as_logprobs([row.get("logprob") for row in rows], len(rows))
        if not ids or logprobs is None:
            raise EngineError("gives no token ids in 'logprobs': is it mlx_lm.server?", mistaken=True)
        if not isinstance(usage, dict) or usage.get("prompt_tokens") != len(prompt):
            raise EngineError(
                f"did not read the {len(prompt)} tokens of a prompt as the policy does: is its tokenizer "
                "that of the policy's model?",
                mistaken=True,
            )
        return Said(ids, logprobs, choice.get("finish_reason") == "stop")

    def _text(self, prompt: Tokens) -> str:
        """The text that the server's tokenizer, which is the policy's, turns into this prompt.

        Raises `EngineError` for a prompt that has no such text: nothing else may be answered in its place.
        """
        text = str(self.tokenizer.decode(list(prompt)))
        for candidate in (text, text.removeprefix(self.tokenizer.bos_token or "")):
            if tuple(self.tokenizer.encode(candidate)) == tuple(prompt):
                return candidate
        raise EngineError(
            f"takes prompts as text, and the text of this one ({text[:60]!r}) does not become its "
            f"{len(prompt)} tokens again. Sample with workers of prefloop's own instead",
            mistaken=True,
        )
