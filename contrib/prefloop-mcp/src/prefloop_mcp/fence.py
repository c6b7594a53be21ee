"""What a configuration that an agent wrote may name: paths in the folder that the server was started in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from prefloop import UserError
from prefloop.config.load import parse_override
from prefloop.config.yaml_nodes import Node, Place, read_text


@frozen
class Fence:
    """The folder that paths must stay in, and folders besides that are allowed."""

    folder: Path
    allowed: tuple[Path, ...] = ()

    def check(self, text: str, overrides: Sequence[str] = ()) -> None:
        """Raises `UserError` for each text in a configuration, or in overrides, that is a path to elsewhere.

        It is looked at before anything is imported. What is no YAML is for others to refuse.
        """
        root, _ = read_text(text, Place("the configuration"))
        nodes = [root, *(parse_override(override).value for override in overrides)]
        leading = [leaf for node in nodes for leaf in _leaves(node) if self._leads_out(str(leaf.value))]
        if leading:
            words = f"leads out of '{self.folder}': this server lets a configuration name paths in there only"
            raise UserError(*(f"{'.'.join(one.path)}: '{str(one.value)[:200]}' {words}." for one in leading))

    def _leads_out(self, given: str) -> bool:
        """Any other text is a name in the folder, be it there or not."""
        try:
            found = (self.folder / Path(given).expanduser()).resolve()
        except (OSError, ValueError, RuntimeError):  # which no file can be called
            return False
        return not any(found.is_relative_to(folder) for folder in (self.folder, *self.allowed))


def _leaves(node: Node) -> Iterator[Node]:
    for child in (node.mapping or {}).values():
        yield from _leaves(child)
    for item in node.items or ():
        yield from _leaves(item)
    if isinstance(node.value, str):
        yield node
