"""vLLM: completions of token ids that come back as token ids, from adapters in PEFT's format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import define, field
from safetensors.numpy import load, save

from prefloop.errors import UserError
from prefloop.sampling.stops import Stops
from prefloop_plugins.commands.exports.peft import CONFIG, WEIGHTS, peft_config, peft_name
from prefloop_sampler_remote.engine import EngineError, Snapshot, Tokens
from prefloop_sampler_remote.servers.asking import Asker
from prefloop_sampler_remote.servers.engine import Said, as_ids, as_logprobs, logprobs_of, one_choice

if TYPE_CHECKING:
    from prefloop import Policy, Prompt, Sampling

UNPENALISED = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""vLLM would take these from the model's generation_config.json, which the policy does not sample by."""


@define(eq=False)
class Vllm:
    """Speaks to vLLM, started with ``--enable-lora`` and with VLLM_ALLOW_RUNTIME_LORA_UPDATING set."""

    tokenizer: Any = field(repr=False)
    """The policy's."""
    loads_slowly: ClassVar[bool] = False
    _config: Mapping[str, Any] = field(factory=dict, init=False, repr=False)

    def check(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        """Raises `UserError` where vLLM cannot have the policy's adapters."""
        if policy.adapter.type != "lora":
            raise UserError(
                f"adapter.type: vLLM serves LoRA adapters, not {policy.adapter.type}. Use lora, or sample "
                "with workers of prefloop's own."
            )
        dtypes = {str(value.dtype).removeprefix("mlx.core.") for value in policy.trainable().values()}
        if not dtypes <= {"float32", "float16"}:
            raise UserError(f"model.dtype: adapters of {min(dtypes)} do not go to vLLM. Use float32.")
        self._config = peft_config(policy, str(policy.loaded.folder))

    def write(self, folder: Path, snapshot: Snapshot) -> None:
        """PEFT has the transposes of mlx-lm's tensors, under other names."""
        tensors = {peft_name(name): np.ascontiguousarray(a.T) for name, a in load(snapshot.adapters).items()}
        (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
        (folder / CONFIG).write_text(json.dumps(self._config, indent=2) + "\n", encoding="utf-8")

    def announce(self, asker: Asker, name: str, place: str, former: Sequence[str]) -> None:
        """Load the adapters under their name, and unload old ones."""
        try:
            asker.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": place})
        except EngineError as error:
            if "already been loaded" not in error.reason:  # the same name means the same numbers
                raise _explained(error) from None
        for old in former:
            try:
                asker.post("/v1/unload_lora_adapter", {"lora_name": old})
            except EngineError:  # it was started again since: there is nothing to unload
                continue

    def request(self, name: str, place: str, prompt: Tokens, sampling: Sampling, seed: int) -> dict[str, Any]:
        """Ids go in and come back; a request has its own seed, so that equal prompts are answered apart."""
        return {
            "model": name,
            "prompt": list(prompt),
            "add_special_tokens": False,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            **UNPENALISED,
            "seed": seed,
            "stop": [text for text in sampling.stop if isinstance(text, str)],
            "stop_token_ids": sorted(Stops.of(self.tokenizer, sampling.stop).ids),
            "logprobs": 0,
            "return_token_ids": True,
        }

    def read(self, reply: Mapping[str, Any], prompt: Tokens) -> Said:
        """The ids in ``token_ids``. Raises `EngineError` where the server read another prompt."""
        choice = one_choice(reply)
        ids, asked = as_ids(choice.get("token_ids")), as_ids(choice.get("prompt_token_ids"))
        if not ids or asked is None:
            raise EngineError(
                "returns no token ids: it has to be a vLLM that knows 'return_token_ids'", mistaken=True
            )
        if asked != prompt:
            raise EngineError("did not read a prompt as it was sent", mistaken=True)
        logprobs = as_logprobs(logprobs_of(choice).get("token_logprobs"), len(ids))
        if logprobs is None:
            raise EngineError("gives no log-probability for each token", mistaken=True)
        return Said(ids, logprobs, choice.get("finish_reason") == "stop")


def _explained(error: EngineError) -> EngineError:
    if "HTTP 404" not in error.reason and "HTTP 400" not in error.reason:
        return error
    return EngineError(
        f"does not load adapters: {error.reason}. Start it with --enable-lora, --max-lora-rank of "
        "adapter.rank or more, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and show it the adapters' folder",
        mistaken=True,
    )
