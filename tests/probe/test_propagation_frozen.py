"""Growth is measured where a gradient is needed: from the first trainable weight on."""

import keras
import pytest
from keras import layers


def stack(frozen: int, trained: int) -> keras.Model:
    dense = [
        layers.Dense(64, "relu", kernel_initializer="he_normal", trainable=index >= frozen)
        for index in range(frozen + trained)
    ]
    model = keras.Sequential([keras.Input((64,)), *dense, layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(("frozen", "trained"), [(0, 8), (4, 8), (8, 0)])
def test_frozen_layers_before_the_first_trained_one_do_not_enter(probe, frozen, trained) -> None:
    result = probe(stack(frozen, trained))
    assert result.growth_points == trained
    assert result.depth == trained + 1
    assert (result.growth_rate is None) is (trained == 0)


def test_frozen_layers_behind_a_trained_one_do(probe) -> None:
    model = stack(0, 8)
    for layer in model.layers[2:5]:
        layer.trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    result = probe(model)
    assert result.growth_points == 8
    assert result.depth == 9


def test_nothing_trained_has_no_depth(probe) -> None:
    model = stack(3, 0)
    model.layers[-1].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    result = probe(model)
    assert (result.growth_points, result.depth) == (0, 0)
