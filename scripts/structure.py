"""How core is built: size, what importing the loop loads, import circles. ``python scripts/structure.py``.

Imports are read from the source, those inside functions left out of what is loaded; those for type checkers
count when circles are looked for.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "core" / "prefloop"
LOADED = (
    "import sys; import {module}; print(*sorted(m for m in sys.modules if m.split('.')[0] == 'prefloop'))"
)


def modules(package: Path = CORE) -> dict[str, Path]:
    """The modules of a package by their dotted names."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Mapping[str, Path]) -> set[str]:
    """The modules among `known` that a file imports at its top level, for type checkers or at run time."""
    found = set()
    for node in _top_level(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in known else node.module)
    return found & known.keys()


def _top_level(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _top_level(node)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in order:
            visit(node)
    return found


def graph_of(known: Mapping[str, Path]) -> dict[str, set[str]]:
    """Which module imports which. The public names of the package itself, which come lazily, are left out."""
    return {name: imported(path, known) - {name} if "." in name else set() for name, path in known.items()}


def loaded_by(module: str) -> list[str]:
    """The modules of prefloop that importing `module` loads, asked of a new process."""
    command = [sys.executable, "-c", LOADED.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def lines(paths: Sequence[Path]) -> int:
    """Lines of files together."""
    return sum(len(path.read_text("utf-8").splitlines()) for path in paths)


def main() -> None:
    """Print the figures."""
    known = modules()
    print(f"core: {lines(list(known.values())):,} lines in {len(known)} files")
    for folder in sorted({path.parent for path in known.values()}):
        inside = sorted(folder.glob("*.py"))
        print(f"  {folder.relative_to(CORE.parent)!s:24} {lines(inside):6,} lines in {len(inside):3} files")
    for module in ("prefloop.loop", "prefloop.runs.training"):
        loaded = loaded_by(module)
        print(f"import {module}: {lines([known[m] for m in loaded]):,} lines in {len(loaded)} modules")
    found = circles(graph_of(known))
    print(f"import circles: {len(found)}, of {sum(map(len, found))} modules")
    for circle in found:
        print(f"  {' '.join(name.removeprefix('prefloop.') for name in circle)}")


if __name__ == "__main__":
    main()
