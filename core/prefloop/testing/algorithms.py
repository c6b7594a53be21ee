"""What every algorithm must do."""

from __future__ import annotations

from typing import ClassVar

from prefloop.config import Config, load_config
from prefloop.config.components import PRESET
from prefloop.errors import UserError
from prefloop.registry import Provider, Registry
from prefloop.testing.suite import ComponentSuite


class AlgorithmSuite(ComponentSuite):
    """Tests of an algorithm. `judge` is what a user has to add where the preset leaves the judge open."""

    kind: ClassVar[str] = "algorithm"
    judge: object = None

    def test_sets_only_what_is_its_to_set(self) -> None:
        strangers = sorted(set(self.component.settings()) - set(PRESET))
        assert not strangers, (
            f"settings() sets {', '.join(strangers)}, but an algorithm sets only {', '.join(PRESET)}: a "
            "configuration with it would be refused."
        )

    def test_makes_a_configuration(self) -> None:
        config = self._load()
        for key in self.component.settings():
            assert getattr(config, key) is not None, f"settings() sets '{key}', but nothing comes of it."

    def _load(self) -> Config:
        registry, name = Registry(), "under-test"
        registry.providers.append(Provider("algorithm", name, "conformance", "0", self.component_class))
        settings: dict[str, object] = {
            "model": "embedded:policy",
            "prompts": "embedded:prompts",
            "algorithm": {"use": f"conformance:{name}"} | self._saved(),
        }
        if self.judge is not None:
            settings["judge"] = self.judge
        try:
            return load_config(settings, registry=registry)
        except UserError as error:
            raise AssertionError(
                f"a configuration with this algorithm and nothing else is refused ({error}): naming it must "
                "be enough."
            ) from error
