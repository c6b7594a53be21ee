"""A project folder in which `prefloop mcp` is started, and the SDK's own client to talk to it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

COMMAND = [sys.executable, "-m", "prefloop", "mcp"]
CONFIG = """\
model: embedded:policy
prompts: {path: embedded:prompts, limit: 40}
judge: {use: rule, length: shorter}
sampler: {max_completion_length: 8}
adapter: {rank: 2, layers: 1}
training: {batch_size: 3, iters: 2, save_every: 1}
evaluation: {held_out: 2}
output: {report: false}
"""


class Agent:
    """Who calls tools."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool answers; it must succeed."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        return dict(result.structured_content)

    async def refused(self, tool: str, **arguments: Any) -> str:
        """What a tool says of a call that it must refuse."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        return str(result.content[0].text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def over_stdio(project: Path, *options: str) -> AbstractAsyncContextManager[Client]:
    command = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *options], cwd=project)
    return Client(command)


@asynccontextmanager
async def over_http(address: str, token: str | None) -> Any:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=120) as http,
        Client(streamable_http_client(address, http_client=http)) as client,
    ):
        yield client


@pytest.fixture
def served(project: Path) -> Any:
    """The address of a server over HTTP, and its token."""
    process = subprocess.Popen(
        [*COMMAND, "--http", "--port", "0"], cwd=project, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    yield address, (project / "runs" / ".studio" / "token").read_text()
    process.terminate()
    process.wait(30)
    process.stdout.close()


def talk(
    connected: AbstractAsyncContextManager[Client], conversation: Callable[[Agent], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with connected as client:
            await conversation(Agent(client))

    asyncio.run(main())
