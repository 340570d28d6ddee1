"""J v of recurrences and loops: the adjoint of Jᵀ u, and what differences say, on each backend.

The probe pushes a tangent through every call. TensorFlow does that by two reverse passes, for which
whatever a loop is made of has to have a derivative of its derivative.
"""

from __future__ import annotations

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.onnx_import import to_keras
from auditor.probe.backends import load_backend

STEPS, BATCH, INPUTS, UNITS = 4, 2, 3, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
OPSET = [helper.make_opsetid("", 21)]


def recurrence(kind: str, direction: str, *, lengths: bool) -> onnx.ModelProto:
    """A model of one recurrent node: (T, N, I) → (T, D, N, H)."""
    count = 2 if direction == "bidirectional" else 1
    rng = np.random.default_rng(3)
    shapes = {
        "w": (count, GATES[kind] * UNITS, INPUTS),
        "r": (count, GATES[kind] * UNITS, UNITS),
        "b": (count, 2 * GATES[kind] * UNITS),
    }
    stored = [
        numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    inputs = ["x", "w", "r", "b"]
    if lengths:
        stored.append(numpy_helper.from_array(np.array([STEPS, 2], np.int32), "lengths"))
        inputs.append("lengths")
    node = helper.make_node(kind, inputs, ["y"], direction=direction, hidden_size=UNITS)
    return model([node], stored, [STEPS, count, BATCH, UNITS])


def scan() -> onnx.ModelProto:
    """A running state s ← tanh(s + x), given out at each step, by Scan."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "now"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["new"]),
            helper.make_node("Identity", ["new"], ["out"]),
        ],
        "body",
        [floats("s", [BATCH, INPUTS]), floats("now", [BATCH, INPUTS])],
        [floats("new", [BATCH, INPUTS]), floats("out", [BATCH, INPUTS])],
    )
    start = numpy_helper.from_array(np.zeros((BATCH, INPUTS), np.float32), "start")
    node = helper.make_node("Scan", ["start", "x"], ["last", "y"], body=body, num_scan_inputs=1)
    return model([node], [start], [STEPS, BATCH, INPUTS])


def loop() -> onnx.ModelProto:
    """s ← tanh(s) · s + s, three times, by Loop."""
    body = helper.make_graph(
        [
            helper.make_node("Tanh", ["s"], ["t"]),
            helper.make_node("Mul", ["t", "s"], ["p"]),
            helper.make_node("Add", ["p", "s"], ["new"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            floats("s", [STEPS, BATCH, INPUTS]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            floats("new", [STEPS, BATCH, INPUTS]),
        ],
    )
    stored = [
        numpy_helper.from_array(np.asarray(3, np.int64), "trips"),
        numpy_helper.from_array(np.asarray(True), "yes"),
    ]
    node = helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body)
    return model([node], stored, [STEPS, BATCH, INPUTS])


def floats(name: str, shape: list[int]) -> onnx.ValueInfoProto:
    """A float32 value's declaration."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(
    nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto], shape: list[int]
) -> onnx.ModelProto:
    """A model from x (T, N, I) to y of this shape."""
    graph = helper.make_graph(
        nodes, "g", [floats("x", [STEPS, BATCH, INPUTS])], [floats("y", shape)], stored
    )
    return helper.make_model(graph, opset_imports=OPSET, ir_version=9)


MODELS = {
    **{
        f"{kind} {direction}{' with lengths' * lengths}": (kind, direction, lengths)
        for kind in GATES
        for direction, lengths in (("forward", False), ("bidirectional", True))
    },
    "Scan": scan,
    "Loop": loop,
}


@pytest.mark.parametrize("name", MODELS)
def test_pushed_and_pulled_tangents_are_adjoint(name: str) -> None:
    made = MODELS[name]
    proto = made() if callable(made) else recurrence(made[0], made[1], lengths=made[2])
    network = to_keras(proto)
    backend = load_backend(keras.backend.backend())
    rng = np.random.default_rng(7)
    x, v = (rng.normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32) for _ in range(2))

    def function(primals):  # type: ignore[no-untyped-def]
        return (network(primals[0]),)

    def outputs(at):  # type: ignore[no-untyped-def]
        return np.asarray(keras.ops.convert_to_numpy(network(keras.ops.convert_to_tensor(at))))

    primals = (keras.ops.convert_to_tensor(x),)
    (pushed,) = backend.jvp(function, primals, (keras.ops.convert_to_tensor(v),))
    pushed = np.asarray(keras.ops.convert_to_numpy(pushed))
    u = rng.normal(size=pushed.shape).astype(np.float32)
    (pulled,) = backend.vjp(function, primals, (keras.ops.convert_to_tensor(u),))
    pulled = np.asarray(keras.ops.convert_to_numpy(pulled))
    # float32 sums of some hundred products
    np.testing.assert_allclose((pushed * u).sum(), (v * pulled).sum(), rtol=1e-4, atol=1e-4)
    # A step that balances the rounding of float32 against curvature.
    step = 1e-2
    differences = (outputs(x + step * v) - outputs(x - step * v)) / (2 * step)
    assert np.abs(differences).max() > 0.01
    np.testing.assert_allclose(pushed, differences, rtol=1e-2, atol=2e-3)
