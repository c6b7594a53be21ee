"""`prefloop config init`: every option, explained, with its default."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from prefloop.config import Config, load_config
from prefloop.config.options import options_of, section_of
from prefloop.errors import UserError
from prefloop_plugins.commands.init import template
from support.fake_plugins import Kl, Xpo

if TYPE_CHECKING:
    from pathlib import Path


def filled(text: str) -> str:
    assert text.count("  path:\n") == 2
    return text.replace("  path:\n", "  path: there\n")


@pytest.mark.parametrize("algorithm", [None, "xpo"])
def test_a_filled_template_loads_to_the_defaults(
    installed: None, tmp_path: Path, algorithm: str | None
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(filled(template(algorithm)), "utf-8")
    chosen = {} if algorithm is None else {"algorithm": algorithm}
    assert load_config(path) == load_config({"model": "there", "prompts": "there", **chosen})


def test_an_unfilled_template_names_what_to_fill(installed: None, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(template(), "utf-8")
    with pytest.raises(UserError) as caught:
        load_config(path)
    problems = [re.sub(r"^.*?:\d+: ", "", line) for line in caught.value.problems]
    assert problems == [
        "model.path: must be text, not null (nothing).",
        "prompts.path: must be text, not null (nothing).",
    ]


def test_the_template_has_every_option_below_its_help(installed: None) -> None:
    text = template("xpo")
    data = yaml.safe_load(text)
    flat = " ".join(line.strip().removeprefix("#").strip() for line in text.splitlines())
    assert list(data) == list(options_of(Config))
    for name, option in options_of(Config).items():
        assert option.help in flat
        section = section_of(option.type)
        if section is None:
            continue
        assert list(data[name]) == list(options_of(section))
        for field in options_of(section).values():
            assert field.help
            assert field.help in flat
    assert data["judge"]["orders"] == "first"
    assert list(data["bonuses"][0]) == ["use", *options_of(Kl)]
    assert f"#   # {options_of(Xpo)['alpha'].help}\n#   alpha: 1.0e-05\n" in text


def test_a_template_of_an_unknown_algorithm_is_refused(installed: None) -> None:
    with pytest.raises(UserError, match=r"there is no algorithm 'xpi'\. Did you mean 'xpo'\?"):
        template("xpi")
