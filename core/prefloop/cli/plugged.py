"""Groups of commands that plugins add to, through the hook ``prefloop_commands``.

Help and completion list what plugins offer by the line that each gave; a command is imported when it is used.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import Any

import click
from click.shell_completion import CompletionItem

from prefloop.errors import UserError, did_you_mean
from prefloop.hooks import GROUPS
from prefloop.registry import BUNDLED, Provider, Registry
from prefloop.text import one_line


class PluggedGroup(click.Group):
    """Commands of its own, and those of plugins.

    Its own commands win, then bundled ones. What they hide, and what two other plugins both offer, goes by
    its qualified name, ``distribution:name``.
    """

    @property
    def prefix(self) -> str:
        """What the names of its commands begin with in the hook, such as ``plugins `` with its space."""
        return f"{self.name} " if self.name in GROUPS else ""

    @cached_property
    def registry(self) -> Registry:
        return Registry()

    @cached_property
    def offered(self) -> dict[str, Provider]:
        """What plugins offer, by the names that it goes by here."""
        found: dict[str, list[Provider]] = {}
        for provider in self.registry.commands:
            name = provider.name.removeprefix(self.prefix)
            if provider.name.startswith(self.prefix) and " " not in name:
                found.setdefault(name, []).append(provider)
        return {self._shown(name, p, all_of_it): p for name, all_of_it in found.items() for p in all_of_it}

    def _shown(self, name: str, provider: Provider, all_of_it: list[Provider]) -> str:
        bundled = any(p.distribution == BUNDLED for p in all_of_it)
        short = name not in self.commands and (
            provider.distribution == BUNDLED if bundled else len(all_of_it) == 1
        )
        return name if short else f"{provider.distribution}:{name}"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self.offered})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in self.commands:
            return self.commands[name]
        provider = self.offered.get(name) or self._qualified(name)
        if provider is None:
            return None
        found = provider.load_object()
        if not isinstance(found, click.Command):
            raise UserError(f"command '{provider.qualified}': '{provider.target}' is no click command.")
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does it, but that an unknown name is answered by what it might have been."""
        name = args[0]
        if ctx.resilient_parsing:  # completion says nothing
            with suppress(UserError):
                return super().resolve_command(ctx, args)
            return None, None, []
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            several = sorted(p.qualified for p in self.offered.values() if p.name == self.prefix + name)
            if several:
                choices = " or ".join(f"'{q.replace(self.prefix, '')}'" for q in several)
                raise UserError(f"command '{name}' is offered by several plugins: write {choices}.")
            hint = did_you_mean(name, self.list_commands(ctx))
            raise UserError(f"there is no command '{name}'.{hint}{self.registry.set_aside()}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self._help(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        for broken in self.registry.broken:
            formatter.write_text(f"Set aside as broken: {broken.distribution} ({one_line(broken.error)})")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self._help(ctx, name)) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def _help(self, ctx: click.Context, name: str) -> str:
        if name in self.commands:
            return self.commands[name].get_short_help_str(limit=80)
        return one_line(self.offered[name].help)

    def _qualified(self, name: str) -> Provider | None:
        """What a plugin offers, named with its distribution although that is not needed."""
        distribution, colon, short = name.partition(":")
        wanted = f"{distribution}:{self.prefix}{short}"
        return next((p for p in self.registry.commands if colon and p.qualified == wanted), None)
