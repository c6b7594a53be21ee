"""Views share weights, stay as they were, and never give their adapters away."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from prefloop.model.weight_sharing import copy_module_tree, view


class Twins(nn.Module):
    """A model that uses one layer under two names, in a list and as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(4, 4), nn.Linear(4, 4)]
        self.again = self.layers[0]

    def __call__(self, x: mx.array) -> mx.array:
        return self.again(self.layers[1](self.layers[0](x)))


def test_a_view_shares_arrays_and_keeps_them_when_the_model_is_updated() -> None:
    model = Twins()
    picture = view(model)
    x = mx.ones((1, 4))
    before = picture(x)
    assert picture.layers[0].weight is model.layers[0].weight

    model.update({"layers": [{"weight": mx.zeros((4, 4))}, {}]})

    assert mx.array_equal(picture(x), before)
    assert not mx.array_equal(model(x), before)


def test_a_view_is_frozen_and_the_model_stays_trainable() -> None:
    model = Twins()
    picture = view(model)
    assert tree_flatten(picture.trainable_parameters()) == []
    assert len(tree_flatten(model.trainable_parameters())) > 0


def test_a_layer_shared_in_the_model_is_shared_in_its_copy() -> None:
    twin = copy_module_tree(Twins())
    assert twin.again is twin.layers[0]


def test_replacing_a_layer_of_a_copy_leaves_the_model_alone() -> None:
    model = Twins()
    twin = copy_module_tree(model)
    twin.layers[1] = nn.Identity()
    twin.layers[0].weight = mx.zeros((4, 4))
    assert isinstance(model.layers[1], nn.Linear)
    assert bool(mx.any(model.layers[0].weight != 0))
