"""Works the recipes out and writes what they need into their first lines and into `recipes/README.md`."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click
from benchmarks.harness.pages import fill, markdown
from benchmarks.harness.workers import ROOT
from benchmarks.recipes.planned import Planned, Recipe, work_out

FOLDER = ROOT / "recipes"
README = FOLDER / "README.md"
HEADS = (
    "recipe",
    "policy",
    "judge",
    "prompts x steps at once",
    "planned, GB",
    "seconds a step",
    "hours",
    "run",
)


def recipes() -> list[Recipe]:
    """All of them, the smallest Mac first."""
    found = map(Recipe, FOLDER.glob("*.yaml"))
    return sorted(found, key=lambda recipe: (recipe.mac.memory, recipe.name))


def all_worked_out() -> dict[Recipe, Planned]:
    """Every recipe with what it needs."""
    with tempfile.TemporaryDirectory() as folder:
        return {recipe: work_out(recipe, Path(folder)) for recipe in recipes()}


def header(recipe: Recipe, planned: Planned) -> str:
    """The two lines of comment that say what a recipe needs."""
    memory, mac = planned.plan.memory, recipe.mac
    parts = [("weights", memory.weights), ("judge", memory.judge), ("optimizer", memory.optimizer)]
    held = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts if size)
    work = f"work {(memory.total - memory.held) / 1e9:.1f}"
    phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in planned.seconds.items() if seconds)
    hours = planned.plan.steps * planned.step / 3600
    return (
        f"# Planned: {memory.total / 1e9:.1f} GB at the peak, of the "
        f"{recipe.config.training.memory_limit_gb:g} allowed ({held}, {work}).\n"
        f"# Expected: {planned.step:.0f} s a step by arithmetic on an {mac.chip} ({phases}); "
        f"{planned.plan.steps} steps {hours:.1f} h.\n"
    )


def with_header(text: str, lines: str) -> str:
    """A recipe's text with these lines behind its title, in the place of those that were there."""
    own = re.sub(r"^# (Planned|Expected): .*\n", "", text, flags=re.MULTILINE)
    title, rest = own.split("\n", 1)
    return f"{title}\n{lines}{rest}"


def run_of(text: str) -> str:
    """What a recipe's own line says of where it was run."""
    found = re.search(r"^# Run: (.*?)\.?$", text, re.MULTILINE)
    return found[1] if found else ""


def table(worked_out: dict[Recipe, Planned]) -> str:
    """All recipes in Markdown."""
    return markdown(HEADS, (_cells(*row) for row in worked_out.items()), numbers=False)


def _cells(recipe: Recipe, planned: Planned) -> tuple[str, ...]:
    config, run = recipe.config, run_of(recipe.file.read_text(encoding="utf-8"))
    quantized = "" if config.model.quantize == "none" else f" in {config.model.quantize}"
    return (
        f"[{recipe.name}]({recipe.file.name})",
        config.model.path + quantized,
        recipe.judge or type(config.judge).__name__.removesuffix("Judge").lower(),
        f"{planned.plan.prompts_per_step} x {config.training.rollout}",
        f"{planned.plan.memory.total / 1e9:.1f}",
        f"{planned.step:.0f}",
        f"{planned.plan.steps * planned.step / 3600:.1f}",
        "never" if run.startswith("never") else run,
    )


def written() -> Iterable[tuple[Path, str]]:
    """Every file with what it should hold."""
    worked_out = all_worked_out()
    for recipe, planned in worked_out.items():
        text = recipe.file.read_text(encoding="utf-8")
        yield recipe.file, with_header(text, header(recipe, planned))
    yield README, fill(README.read_text(encoding="utf-8"), {"recipes": lambda _: table(worked_out)})


@click.command(help="Write what the recipes need into them.")
@click.option("--check", is_flag=True, help="Only say which files are out of date.")
def main(check: bool) -> None:
    stale = [(file, text) for file, text in written() if file.read_text(encoding="utf-8") != text]
    for file, text in stale:
        click.echo(f"{file.relative_to(ROOT)}: {'out of date' if check else 'written'}")
        if not check:
            file.write_text(text, encoding="utf-8")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
