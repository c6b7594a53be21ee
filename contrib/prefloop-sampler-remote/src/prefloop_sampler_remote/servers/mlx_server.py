"""`mlx_lm.server`: text completions whose ``logprobs`` carry the ids of the tokens that were sampled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field

from prefloop.errors import UserError
from prefloop.model.adapters import ADAPTER_CONFIG, ADAPTERS
from prefloop_sampler_remote.engine import EngineError, Snapshot, Tokens
from prefloop_sampler_remote.servers.asking import Asker
from prefloop_sampler_remote.servers.engine import Said, as_ids, as_logprobs, one_choice

if TYPE_CHECKING:
    from prefloop import Policy, Sampling


@define(eq=False)
class MlxServer:
    """Speaks to `mlx_lm.server` (mlx-lm 0.32).

    It loads the model that a request names, with the adapters in the folder that the request names, and
    keeps both until another request names others. Under the name ``default_model`` it leaves adapters away.
    It takes a prompt as text only.
    """

    model: str | None = None
    """The model's folder or Hub id, as the server finds it; None is the policy's own folder."""
    _tokenizer: Any = field(default=None, init=False, repr=False)

    def check(self, policy: Policy) -> None:
        """Raises `UserError` where the server would load another model than the policy's."""
        config, folder = policy.loaded.config, policy.loaded.folder
        stored = json.loads((folder / "config.json").read_bytes())
        if "quantization" in config and "quantization" not in stored:
            raise UserError(
                "model.quantize: the server loads the model as it is stored, not quantized. Quantize it on "
                "disk (mlx_lm.convert --quantize), and name that folder as the model of both."
            )
        self.model = self.model or str(folder.resolve())
        self._tokenizer = policy.tokenizer

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
        content = (choice.get("logprobs") or {}).get("content")
        rows = content if isinstance(content, list) and all(isinstance(r, dict) for r in content) else []
        ids = as_ids([row.get("id") for row in rows])
        logprobs = as_logprobs([row.get("logprob") for row in rows], len(rows))
        if not ids or logprobs is None:
            raise EngineError("it gives no token ids in 'logprobs': is it mlx_lm.server?", mistaken=True)
        if not isinstance(usage, dict) or usage.get("prompt_tokens") != len(prompt):
            raise EngineError(
                f"it did not read the {len(prompt)} tokens of a prompt as the policy does: is its tokenizer "
                "that of the policy's model?",
                mistaken=True,
            )
        return Said(ids, logprobs, choice.get("finish_reason") == "stop")

    def _text(self, prompt: Tokens) -> str:
        """The text that the server's tokenizer, which is the policy's, turns into this prompt.

        Raises `EngineError` for a prompt that has no such text: nothing else may be answered in its place.
        """
        text = str(self._tokenizer.decode(list(prompt)))
        for candidate in (text, text.removeprefix(self._tokenizer.bos_token or "")):
            if tuple(self._tokenizer.encode(candidate)) == tuple(prompt):
                return candidate
        raise EngineError(
            f"mlx_lm.server takes prompts as text, and the {len(prompt)} tokens of a prompt are not what its "
            f"text becomes ({text[:60]!r} …). Sample with workers of prefloop's own instead",
            mistaken=True,
        )
