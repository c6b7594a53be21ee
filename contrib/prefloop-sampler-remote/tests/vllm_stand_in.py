"""Stands in for vLLM: the part of its HTTP interface that a sampler uses, over a small model on this machine.

It follows the documentation and source of vLLM's OpenAI-compatible server. Adapters are applied as PEFT
defines them, ``W + lora_alpha / r * B A``, by NumPy and not by mlx-lm's layers.

    python vllm_stand_in.py MODEL PORT [KEY]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import uvicorn
from attrs import define, field
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_sampler
from safetensors.numpy import load_file
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from prefloop import load_model
from prefloop.model.weight_sharing import arrays, copy_module_tree

MAX_MODEL_LEN = 512
MAX_LORA_RANK = 16


@define
class Served:
    """The base model, and the models that adapters make of it."""

    path: str
    key: str
    models: dict[str, Any] = field(factory=dict)
    tokenizer: Any = None

    def __attrs_post_init__(self) -> None:
        loaded = load_model(self.path)
        self.models[self.path], self.tokenizer = loaded.model, loaded.tokenizer

    def with_adapters(self, folder: Path) -> Any:
        """The base model with PEFT's adapters in its weights."""
        config = json.loads((folder / "adapter_config.json").read_bytes())
        if config.get("use_dora"):
            raise ValueError("vLLM does not yet support DoRA.")
        if config["r"] > MAX_LORA_RANK:
            raise ValueError(f"LoRA rank {config['r']} is greater than max_lora_rank {MAX_LORA_RANK}.")
        tensors = load_file(folder / "adapter_model.safetensors")
        model = copy_module_tree(self.models[self.path])
        weights = arrays(model.parameters())
        for name, a in tensors.items():
            if ".lora_A." not in name:
                continue
            target = name.removeprefix("base_model.model.").replace(".lora_A.weight", "")
            if target.rpartition(".")[2] not in config["target_modules"]:
                raise ValueError(f"{target} is not among target_modules.")
            change = config["lora_alpha"] / config["r"] * (tensors[name.replace("lora_A", "lora_B")] @ a)
            weight = weights[f"{target}.weight"]
            model.load_weights([(f"{target}.weight", weight + mx.array(change))], strict=False)
        return model


def _error(message: str, status: int, kind: str = "BadRequestError") -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


def app(served: Served) -> Starlette:
    """The server."""

    async def load(request: Request) -> Response:
        body = await request.json()
        name, path = body.get("lora_name"), body.get("lora_path")
        if not name or not path:
            return _error("Both 'lora_name' and 'lora_path' must be provided.", 400, "InvalidUserInput")
        if name in served.models:
            return _error(f"The lora adapter '{name}' has already been loaded.", 400, "InvalidUserInput")
        if not Path(path).is_dir():
            return _error(f"Loading lora {name} failed: No adapter found for {path}", 404, "NotFoundError")
        try:
            served.models[name] = served.with_adapters(Path(path))
        except ValueError as error:
            return _error(str(error), 500, "InternalServerError")
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if served.models.pop(name, None) is None:
            return _error(f"The lora adapter '{name}' cannot be found.", 404, "NotFoundError")
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name} for name in served.models]})

    async def complete(request: Request) -> Response:
        body = await request.json()
        if body["model"] not in served.models:
            return _error(f"The model `{body['model']}` does not exist.", 404, "NotFoundError")
        if len(body["prompt"]) + body["max_tokens"] > MAX_MODEL_LEN:
            return _error(f"This model's maximum context length is {MAX_MODEL_LEN} tokens.", 400)
        return JSONResponse(_completion(served, body))

    async def guard(request: Request, call_next: Any) -> Response:
        if served.key and request.headers.get("authorization") != f"Bearer {served.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        found: Response = await call_next(request)
        return found

    routes = [
        Route("/v1/load_lora_adapter", load, methods=["POST"]),
        Route("/v1/unload_lora_adapter", unload, methods=["POST"]),
        Route("/v1/completions", complete, methods=["POST"]),
        Route("/v1/models", models),
    ]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)])


def _completion(served: Served, body: dict[str, Any]) -> dict[str, Any]:
    if body.get("seed") is not None:
        mx.random.seed(body["seed"])
    sampler = make_sampler(body["temperature"], top_p=body["top_p"], top_k=body["top_k"], min_p=body["min_p"])
    stops = {*served.tokenizer.eos_token_ids, *body["stop_token_ids"]}
    ids: list[int] = []
    logprobs: list[float] = []
    reason = "length"
    prompt, model = mx.array(body["prompt"]), served.models[body["model"]]
    for token, likely in generate_step(prompt, model, max_tokens=body["max_tokens"], sampler=sampler):
        ids.append(int(token))
        logprobs.append(float(likely[token]))
        if ids[-1] in stops or any(text in served.tokenizer.decode(ids) for text in body["stop"]):
            reason = "stop"
            break
    choice: dict[str, Any] = {"index": 0, "text": served.tokenizer.decode(ids), "finish_reason": reason}
    if body.get("logprobs") is not None:
        choice["logprobs"] = {"token_logprobs": logprobs, "tokens": [str(i) for i in ids]}
    if body.get("return_token_ids"):
        choice |= {"token_ids": ids, "prompt_token_ids": body["prompt"]}
    usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(ids)}
    return {"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": usage}


if __name__ == "__main__":
    path, port, *key = sys.argv[1:]
    uvicorn.run(app(Served(path, *(key or [""]))), host="127.0.0.1", port=int(port), log_level="warning")
