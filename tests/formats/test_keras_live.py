"""A model in memory is read like its file, and left as it was."""

import keras
import numpy as np
import pytest
from keras import layers

from auditor.errors import UnreadableModel
from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def small() -> keras.Model:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.BatchNormalization(name="b")],
        name="live",
    )
    model.compile("sgd", "mse")
    return model


def test_graph_and_values_of_a_live_model() -> None:
    model = small()
    before = [np.asarray(variable) for variable in model.variables]
    file = read_live_model(model, DEFAULT_LIMITS)
    graph = file.graph
    assert (graph.format, graph.name, graph.parameters) == ("keras-live", "live", 27)
    assert graph.compile is not None
    kernel = graph.by_id["a"].weights[0]
    assert kernel.read is not None
    # The file it was read from is gone; the values are not.
    np.testing.assert_array_equal(kernel.read(), np.asarray(model.layers[0].kernel))
    for own, was in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(own), was)
    assert file.hazards == ()


def test_values_handed_out_are_copies() -> None:
    kernel = read_live_model(small(), DEFAULT_LIMITS).graph.by_id["a"].weights[0]
    assert kernel.read is not None
    kernel.read()[:] = 0
    assert kernel.read().any()


def test_the_digest_is_the_models() -> None:
    model = small()
    first = read_live_model(model, DEFAULT_LIMITS).sha256
    assert read_live_model(model, DEFAULT_LIMITS).sha256 == first
    model.layers[0].bias.assign([1, 2, 3])
    assert read_live_model(model, DEFAULT_LIMITS).sha256 != first


def test_an_unbuilt_model_is_told() -> None:
    model = keras.Sequential([layers.Dense(3)], name="empty")
    with pytest.raises(UnreadableModel, match="<empty>: the model is not built"):
        read_live_model(model, DEFAULT_LIMITS)


def test_a_model_that_cannot_be_saved_is_told() -> None:
    class Stubborn(layers.Layer):
        def call(self, x: object) -> object:
            return x

        def get_config(self) -> dict[str, object]:
            raise RuntimeError("not\nme")

    model = keras.Sequential([keras.Input((4,)), Stubborn()], name="stubborn")
    with pytest.raises(UnreadableModel, match=r"<stubborn>: .*cannot be saved.*not$"):
        read_live_model(model, DEFAULT_LIMITS)


def test_code_of_ones_own_is_no_hazard_in_a_live_model() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x + 1)])
    file = read_live_model(model, DEFAULT_LIMITS)
    assert file.hazards == ()
    assert "Lambda" in file.graph.calls[1].note


class Scaled(keras.layers.Layer):
    """A layer as people write them: an argument, and no `get_config`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def call(self, x):
        """The input times the factor."""
        return x * self.factor


def test_a_custom_layer_without_a_configuration_of_its_own_is_read() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), Scaled(2.0)])
    graph = read_live_model(model, DEFAULT_LIMITS).graph
    assert [call.kind for call in graph.calls] == ["InputLayer", "Dense", "Scaled"]
    assert graph.calls[-1].name
