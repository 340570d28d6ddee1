"""A sample of the round trips of bench/onnx_round_trip.py, and what a call's inputs are."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.onnx_import import to_keras
from auditor.onnx_import.dependence import dependence
from auditor.onnx_import.kernel_norm import frobenius_norm, kernel_of
from auditor.probe.backends import load_backend
from auditor.probe.model_io import ModelInputs
from auditor.probe.recording import RecordedCall, record
from auditor.probe.structure import (
    Structure,
    is_affine,
    may_couple_samples,
    onnx_run,
    runs_by_sample,
    structure_of,
)

BENCH = Path(__file__).parents[2] / "bench"


@cache
def bench() -> ModuleType:
    """The benchmark as a module."""
    sys.path.insert(0, str(BENCH))
    try:
        path = BENCH / "onnx_round_trip.py"
        spec = importlib.util.spec_from_file_location("onnx_round_trip", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["onnx_round_trip"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


@pytest.mark.parametrize("name", ["mlp", "temporal", "gru"])
def test_gains_are_those_of_the_torch_module(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = bench().of_torch(name, tmp_path)
    assert len(found.differences) == found.possible > 1
    # Single precision against exact values; the smallest Ritz residual is of the same order.
    for gains, own in zip(found.differences.values(), found.errors.values(), strict=True):
        assert max(gains[:2]) <= max(2.0 * own[0], 1e-6) < 0.05
        assert gains[2] < 1e-4


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch is what exports the model")
def test_gains_are_those_of_the_keras_layers_that_a_call_is_made_of(tmp_path: Path) -> None:
    first = {"data_format": "channels_first"}
    inputs = keras.Input((3, 12, 12))
    x = keras.layers.ZeroPadding2D(1, name="pad", **first)(inputs)
    x = keras.layers.Conv2D(6, 3, strides=2, name="conv", **first)(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.SeparableConv2D(8, 3, padding="same", name="separable", **first)(x)
    x = keras.layers.BatchNormalization(axis=1, name="norm")(x)
    x = keras.layers.Conv2D(8, 1, name="gate", **first)(x)
    x = keras.layers.ReLU(6.0, name="relu6")(x + 3.0) * (1.0 / 6.0)
    x = keras.layers.Flatten(name="flat")(x)
    model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax", name="head")(x))
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    found = bench().of_keras(model, x, tmp_path / "model")
    layers = [title.split(" + ") for title in found.differences]
    assert layers[:2] == [["pad", "conv", "relu"], ["separable"]]
    assert layers[2][0] == "gate"
    assert layers[3][-1] == "head"
    assert found.matched == found.possible == 5  # a separable convolution has two kernels
    for gains, own in zip(found.differences.values(), found.errors.values(), strict=True):
        assert max(gains[:2]) <= max(2.0 * own[0], 1e-6) < 0.05
        assert gains[2] < 1e-4


def recorded(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> list[RecordedCall]:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(3, 3, 2, 5)),  # as Keras stores a kernel
        "half": np.full(5, 0.5),
        "rise": rng.normal(size=(5, 1, 1)),
    }
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    model = to_keras(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    x = np.random.default_rng(1).normal(size=(3, 2, 6, 6)).astype(np.float32)
    backend = load_backend(keras.backend.backend())
    return list(record(model, ModelInputs(specs=(), structure=None), [x], backend=backend))


TURNED = (
    helper.make_node("Transpose", ["w"], ["kernel"], perm=[3, 2, 0, 1]),
    helper.make_node("Conv", ["x", "kernel"], ["z"], pads=[1, 1, 1, 1], strides=[2, 2]),
)


def test_weights_that_the_graph_computes_are_no_inputs_of_a_call() -> None:
    (call,) = recorded(*TURNED, helper.make_node("Add", ["z", "rise"], ["y"]))
    assert [tuple(tensor.shape) for tensor in call.inputs] == [(3, 2, 6, 6)]
    assert is_affine(call)
    assert not may_couple_samples(call)
    assert runs_by_sample(call)


def test_the_closed_form_of_a_kernel_is_its_frobenius_norm() -> None:
    (call,) = recorded(*TURNED, helper.make_node("Add", ["z", "rise"], ["y"]))
    run = onnx_run(call)
    assert run is not None
    kernel = kernel_of(run)
    assert kernel is not None
    columns = []
    for place in range(72):
        one = np.zeros((1, 72), np.float32)
        one[0, place] = 1.0
        pair = np.concatenate([one, np.zeros_like(one)]).reshape(2, 2, 6, 6)
        made = keras.ops.convert_to_numpy(call.run([keras.ops.convert_to_tensor(pair)]))
        columns.append((made[0] - made[1]).ravel())
    assert frobenius_norm(run, kernel) == pytest.approx(np.linalg.norm(columns), rel=1e-5)


def test_a_cast_to_its_own_type_gives_no_second_output() -> None:
    nodes = (
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Cast", ["r"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["r"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["a"], ["c"]),
        helper.make_node("Mul", ["b", "c"], ["y"]),
    )
    calls = recorded(*nodes)
    assert all(len(call.outputs) == 1 for call in calls)


def test_what_an_activation_follows_depends_on_its_inputs_values() -> None:
    (call,) = recorded(*TURNED, helper.make_node("Relu", ["z"], ["y"]))
    assert structure_of(call) is Structure.GENERAL
    assert not is_affine(call)
    assert not may_couple_samples(call)


@pytest.mark.parametrize(
    ("node", "by_sample", "in_place"),
    [
        (helper.make_node("Relu", ["x"], ["y"]), True, True),
        (helper.make_node("Softmax", ["x"], ["y"], axis=1), True, False),
        (helper.make_node("Softmax", ["x"], ["y"], axis=0), False, False),
        (helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0, 2, 3]), False, False),
        (helper.make_node("Concat", ["x", "x"], ["y"], axis=0), False, False),
        (helper.make_node("CumSum", ["x", "axis"], ["y"]), False, False),
    ],
)
def test_only_what_is_certain_is_claimed(
    node: onnx.NodeProto, by_sample: bool, in_place: bool
) -> None:
    axis = helper.make_node("Constant", [], ["axis"], value_int=0)
    (call,) = recorded(axis, node)
    run = onnx_run(call)
    assert run is not None
    (found,) = dependence(run)
    assert (found.by_sample, found.in_place) == (by_sample, in_place)
