"""GEB408: layer, group, RMS and unit normalization of single values."""

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from onnx import TensorProto, helper

from auditor import audit
from auditor.finding import Finding, Severity


def found(*stack: keras.Layer, shape: tuple[int | None, ...]) -> tuple[Finding, ...]:
    """What GEB408 says of the layers before a global average and a head."""
    inputs = x = keras.Input(shape)
    for layer in stack:
        x = layer(x)
    while len(x.shape) > 2:
        x = layers.Lambda(lambda t: t[:, 0], output_shape=x.shape[2:])(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("adam", "mse")
    return audit(model, probe=False, select=("GEB408",)).findings


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.LayerNormalization(), (128, 1)),
        (layers.LayerNormalization(axis=1), (1, 8)),
        (layers.LayerNormalization(axis=(1, -1)), (1, 1)),
        (layers.GroupNormalization(groups=-1), (8,)),
        (layers.GroupNormalization(groups=8), (1, 1, 8)),
        (layers.GroupNormalization(groups=4), (4,)),
    ],
)
def test_what_minus_its_own_mean_is_nothing(layer: keras.Layer, shape: tuple[int, ...]) -> None:
    (finding,) = found(layer, shape=shape)
    assert finding.severity is Severity.WARNING
    assert finding.layers == (layer.name,)
    # It is what Keras does: the same answer whatever comes in.
    given = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    np.testing.assert_allclose(layer(given), 0.0, atol=1e-5)


@pytest.mark.parametrize("layer", [layers.UnitNormalization(), layers.RMSNormalization()])
def test_of_a_size_over_one_value_the_sign_is_left(layer: keras.Layer) -> None:
    (finding,) = found(layer, shape=(16, 1))
    assert "only the sign is left" in finding.message
    np.testing.assert_allclose(layer(np.array([[[3.0], [-0.5]]])), [[[1.0], [-1.0]]], rtol=1e-4)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.LayerNormalization(), (1, 8)),
        (layers.LayerNormalization(axis=(1, 2)), (128, 1)),
        (layers.UnitNormalization(axis=1), (None, 8)),
        (layers.GroupNormalization(groups=-1), (4, 4, 8)),
        (layers.GroupNormalization(groups=1), (8,)),
        (layers.GroupNormalization(groups=4), (1, 1, 8)),
        (layers.BatchNormalization(), (8, 1)),
        (layers.UnitNormalization(), (8,)),
    ],
)
def test_several_values_or_an_unknown_number(
    layer: keras.Layer, shape: tuple[int | None, ...]
) -> None:
    assert found(layer, shape=shape) == ()


def test_within_time_distributed() -> None:
    layer = layers.TimeDistributed(layers.LayerNormalization())
    assert len(found(layer, shape=(16, 1))) == 1
    layer = layers.TimeDistributed(layers.LayerNormalization())
    assert found(layer, shape=(16, 2)) == ()


@pytest.mark.parametrize(("shape", "axis", "count"), [((2, 4, 1), -1, 1), ((2, 4, 1), 1, 0)])
def test_an_onnx_normalization_goes_on_to_the_last_axis(
    shape: tuple[int, ...], axis: int, count: int, tmp_path
) -> None:
    node = helper.make_node("LayerNormalization", ["x", "gamma"], ["y"], axis=axis)
    gamma = onnx.numpy_helper.from_array(np.ones(shape[axis:], np.float32), "gamma")
    graph = helper.make_graph(
        [node],
        "normalized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [gamma],
    )
    path = tmp_path / "normalized.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    assert len(audit(path, probe=False, select=("GEB408",)).findings) == count
