"""How long an answer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs.validators import in_

if TYPE_CHECKING:
    from prefloop import Completion, Pair

Unit = Literal["characters", "tokens"]

UNIT_HELP = "What lengths are counted in: characters, or the policy's own tokens."
is_unit = in_(("characters", "tokens"))


def length(completion: Completion, unit: Unit) -> int:
    """The length of the text, or the number of sampled tokens, the stop token included."""
    return len(completion.text if unit == "characters" else completion.tokens)


def difference(pair: Pair, unit: Unit) -> int:
    """How much longer the first answer is."""
    return length(pair.first, unit) - length(pair.second, unit)
