"""prefloop for agents: `prefloop mcp`, a server of the Model Context Protocol.

It is the Studio without pages: the same queue, the same folder of runs, the same files, the same token.
"""

from __future__ import annotations

from prefloop import Command, hookimpl


@hookimpl
def prefloop_commands() -> dict[str, Command]:
    return {"mcp": Command("prefloop_mcp.command:mcp", "Give an agent the runs here as tools (MCP).")}
