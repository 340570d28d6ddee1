"""`to_keras`: what comes out, what it can be used for, and how it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from auditor.errors import UnreadableModel
from auditor.formats import read_model
from auditor.onnx_import import to_keras
from auditor.onnx_import.coverage import rewritten
from auditor.probe.taps import Taps

Array = np.ndarray[Any, Any]


def stored(name: str, *shape: int, seed: int = 0, scale: float = 0.3) -> onnx.TensorProto:
    values = np.random.default_rng(seed).normal(size=shape) * scale
    return numpy_helper.from_array(values.astype(np.float32), name)


def constant(name: str, values: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values)))


def proto(
    nodes: Sequence[onnx.NodeProto],
    tensors: Sequence[onnx.TensorProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    if inputs is None:
        inputs = [helper.make_tensor_value_info("x", T.FLOAT, ["N", 3, 8, 8])]
    declared = [onnx.ValueInfoProto(name=name) for name in outputs]
    for info in declared:
        info.type.tensor_type.elem_type = T.FLOAT
    graph = helper.make_graph(list(nodes), "main_graph", list(inputs), declared, list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def classifier() -> onnx.ModelProto:
    """As exporters write one: its flattening computes with shapes, its statistics are stored."""
    nodes = [
        helper.make_node(
            "Conv", ["x", "conv1.weight", "conv1.bias"], ["c"], "/block/conv1/Conv", pads=[1] * 4
        ),
        helper.make_node(
            "BatchNormalization",
            ["c", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"],
            ["n"],
            "/block/bn/BatchNormalization",
        ),
        helper.make_node("Relu", ["n"], ["r"], "/block/relu/Relu"),
        helper.make_node("Shape", ["r"], ["s"], "/Shape"),
        constant("zero", 0),
        helper.make_node("Gather", ["s", "zero"], ["b"], "/Gather"),
        constant("axes", [0]),
        helper.make_node("Unsqueeze", ["b", "axes"], ["b1"], "/Unsqueeze"),
        constant("rest", [-1]),
        helper.make_node("Concat", ["b1", "rest"], ["to"], "/Concat", axis=0),
        helper.make_node("Reshape", ["r", "to"], ["f"], "/Reshape"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["g"], "/fc/Gemm", transB=1),
        helper.make_node("Softmax", ["g"], ["y"], "/Softmax"),
    ]
    variance = numpy_helper.from_array(np.full(4, 1.5, np.float32), "bn.running_var")
    tensors = [
        stored("conv1.weight", 4, 3, 3, 3),
        stored("conv1.bias", 4),
        stored("bn.weight", 4, seed=1),
        stored("bn.bias", 4),
        stored("bn.running_mean", 4),
        variance,
        stored("fc.weight", 5, 256, scale=0.1),
        stored("fc.bias", 5),
    ]
    return proto(nodes, tensors)


def images(count: int = 6) -> Array:
    return np.random.default_rng(3).normal(size=(count, 3, 8, 8)).astype(np.float32)


def run(model: Any, *inputs: Array) -> Array:
    tensors = [keras.ops.convert_to_tensor(value) for value in inputs]
    return np.asarray(
        keras.ops.convert_to_numpy(model(tensors[0] if len(tensors) == 1 else tensors))
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(classifier(), tmp_path / "classifier.onnx")
    return tmp_path / "classifier.onnx"


def test_outputs_are_the_graphs(path: Path) -> None:
    (wanted,) = ReferenceEvaluator(str(path)).run(None, {"x": images()})
    # Sums of a few hundred float32 values, in another order.
    np.testing.assert_allclose(run(to_keras(path), images()), wanted, rtol=1e-5, atol=1e-6)


def test_a_proto_gives_what_its_file_gives(path: Path) -> None:
    np.testing.assert_array_equal(
        run(to_keras(onnx.load(path)), images()), run(to_keras(path), images())
    )


def test_weights_are_trainable_as_one_would_fine_tune_them(path: Path) -> None:
    model = to_keras(path)
    found = {weight.path: weight.trainable for weight in model.weights}
    frozen = {name for name, trainable in found.items() if not trainable}
    assert len(found) == 8
    assert {name.rpartition("/")[2] for name in frozen} == {"moving_mean", "moving_variance"}


def test_calls_are_seen_under_the_ids_of_the_static_graph(path: Path) -> None:
    graph = read_model(path).graph
    model = to_keras(path)
    seen: dict[str, tuple[int, ...]] = {}

    def note(call: str, layer: Any, outputs: Any) -> Any:
        seen[call] = tuple(outputs.shape)
        return outputs

    with Taps(model, note):
        run(model, images())
    computed = [call for call in graph.calls if call.nodes]
    assert list(seen) == [call.id for call in computed]
    for call in computed:
        assert seen[call.id][1:] == tuple(call.out_shapes[0] or ())[1:]


def test_calls_that_compute_with_their_own_shapes_stay_whole() -> None:
    path = Path(__file__).parents[1] / "data" / "onnx" / "torch_encoder_script.onnx"
    graph, model, seen = read_model(path).graph, to_keras(path), []
    with Taps(model, lambda call, layer, outputs: (seen.append(call), outputs)[1]):
        run(model, np.ones((2, 5), np.int64))
    assert seen == [call.id for call in graph.calls if call.nodes]


def test_open_batches_stay_open_in_shapes(path: Path) -> None:
    spec = to_keras(path).compute_output_spec(keras.KerasTensor((None, 3, 8, 8)))
    assert tuple(spec.shape) == (None, 5)


def test_it_is_fine_tuned_saved_and_loaded(path: Path, tmp_path: Path) -> None:
    model = to_keras(path)
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = run(model, images())
    model.fit(images(), np.arange(6) % 5, epochs=2, batch_size=4, verbose=0)
    tuned = run(model, images())
    assert np.abs(tuned - before).max() > 1e-4
    model.save(tmp_path / "tuned.keras")
    loaded = keras.saving.load_model(tmp_path / "tuned.keras")
    np.testing.assert_array_equal(run(loaded, images()), tuned)
    loaded.fit(images(), np.arange(6) % 5, epochs=1, verbose=0)
    assert np.abs(run(loaded, images()) - tuned).max() > 1e-5


def test_a_weight_may_be_computed_by_the_graph() -> None:
    nodes = [
        constant("shape", [4, 4]),
        helper.make_node(
            "ConstantOfShape",
            ["shape"],
            ["ones"],
            value=numpy_helper.from_array(np.array([0.5], np.float32)),
        ),
        helper.make_node("MatMul", ["x", "ones"], ["y"], "/dense/MatMul"),
    ]
    inputs = [helper.make_tensor_value_info("x", T.FLOAT, ["N", 4])]
    model = to_keras(proto(nodes, inputs=inputs))
    assert [tuple(weight.shape) for weight in model.trainable_weights] == [(4, 4)]
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(run(model, x), x @ np.full((4, 4), 0.5))


@pytest.mark.parametrize("flag", [True, False])
def test_the_branch_that_the_condition_asks_for_runs(flag: bool) -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node(kind, ["x"], [name])], name, [], [onnx.ValueInfoProto(name=name)]
        )
        for name, kind in (("then", "Neg"), ("other", "Exp"))
    }
    nodes = [
        helper.make_node(
            "If", ["flag"], ["y"], then_branch=branches["then"], else_branch=branches["other"]
        )
    ]
    inputs = [
        helper.make_tensor_value_info("x", T.FLOAT, [3]),
        helper.make_tensor_value_info("flag", T.BOOL, []),
    ]
    x = np.array([0.0, 1.0, 2.0], np.float32)
    found = run(to_keras(proto(nodes, inputs=inputs)), x, np.array(flag))
    np.testing.assert_allclose(found, -x if flag else np.exp(x), rtol=1e-6)


def loop(trips: int) -> onnx.ModelProto:
    """x doubled `trips` times."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["going"]),
            helper.make_node("Add", ["state", "state"], ["next"]),
        ],
        "body",
        [onnx.ValueInfoProto(name=name) for name in ("count", "go", "state")],
        [onnx.ValueInfoProto(name=name) for name in ("going", "next")],
    )
    nodes = [
        constant("trips", trips),
        helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body),
    ]
    return proto(nodes, inputs=[helper.make_tensor_value_info("x", T.FLOAT, [2])])


def test_loops_are_unrolled() -> None:
    x = np.array([1.0, 3.0], np.float32)
    np.testing.assert_array_equal(run(to_keras(loop(5)), x), x * 32)


def circle() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    return proto(nodes, outputs=["a"])


def single(kind: str, *inputs: str, domain: str = "", **attributes: Any) -> onnx.ModelProto:
    return proto([helper.make_node(kind, list(inputs), ["y"], domain=domain, **attributes)])


def sized(kind: str, sizes: Any, *inputs: str) -> onnx.ModelProto:
    return proto([constant("sizes", sizes), helper.make_node(kind, [*inputs, "sizes"], ["y"])])


HUGE = 2**40
HOSTILE = {
    "a circle": circle(),
    "a missing input": single("Relu", "nothing"),
    "an unknown operator": single("Sorcery", "x"),
    "an unknown domain": single("Relu", "x", domain="com.example"),
    "an attribute of another type": single("Softmax", "x", axis="last"),
    "shapes that do not fit": sized("Reshape", [7, 11], "x"),
    "too few inputs": single("Conv", "x"),
    "terabytes of constants": sized("ConstantOfShape", [HUGE]),
    "terabytes by Expand": sized("Expand", [HUGE, 1, 1, 1], "x"),
    "terabytes by Tile": sized("Tile", [HUGE, 1, 1, 1], "x"),
    "terabytes by Pad": sized("Pad", [0, 0, 0, HUGE, 0, 0, 0, HUGE], "x"),
    "a negative shape": sized("ConstantOfShape", [-4]),
    "loops without end": loop(2**62),
    "no nodes": proto([], outputs=["x"]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_cannot_run_is_refused_in_a_line(what: str) -> None:
    shape = (2,) if "loops" in what else (1, 3, 8, 8)
    with pytest.raises(UnreadableModel) as refused:
        run(to_keras(HOSTILE[what]), np.ones(shape, np.float32))
    assert "\n" not in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


def test_a_missing_external_file_is_told(tmp_path: Path) -> None:
    onnx.save(
        classifier(),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    (tmp_path / "m.data").unlink()
    with pytest.raises(UnreadableModel, match=r"m\.data.* is missing"):
        to_keras(tmp_path / "m.onnx")


def test_the_coverage_page_is_the_tables() -> None:
    page = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
    assert page == rewritten(page), "run python -m auditor.onnx_import.coverage docs/onnx.md"
