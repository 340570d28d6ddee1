"""Whole ONNX models as layer graphs: what a human would call their layers."""

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import Maker, cnn, dense, lstm, mlp, transformer_block, value

from auditor.formats.limits import Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.onnx_file import read_onnx, read_onnx_proto
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op
from auditor.graph.paths import kernel_depth, trunk


def read(model: onnx.ModelProto) -> LayerGraph:
    return read_onnx_proto(model, Limits()).graph


def saved(model: onnx.ModelProto, folder: Path) -> ModelFile:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return read_onnx(path, Limits())


def brief(graph: LayerGraph) -> list[tuple[str, Op, str | None]]:
    return [(call.id, call.op, call.activation) for call in graph.calls]


def only(graph: LayerGraph, op: Op) -> LayerCall:
    (call,) = (call for call in graph.calls if call.op is op)
    return call


def test_mlp_is_two_dense_layers() -> None:
    graph = read(mlp())
    assert brief(graph) == [
        ("x", Op.INPUT, None),
        ("fc1", Op.DENSE, "relu"),
        ("fc2", Op.DENSE, "softmax"),
    ]
    first, second = graph.calls[1:]
    assert first.nodes == ("/fc1/MatMul", "/fc1/Add", "/act1/Relu")
    assert (first.in_shapes, first.out_shapes) == ((("n", 4),), (("n", 8),))
    assert second.out_shape == ("n", 3)
    assert graph.outputs == (("fc2", 0),)
    assert graph.inputs[0].shape == ("n", 4)
    assert graph.inputs[0].dtype == "float32"
    assert graph.format == "onnx"
    assert graph.writer == "maker 1.0, opset 17"
    assert graph.compile is None
    assert graph.notes == ()
    assert graph.parameters == graph.trainable_parameters == 4 * 8 + 8 + 8 * 3 + 3


def test_dense_kernels_are_in_by_out() -> None:
    kernel = read(mlp()).calls[1].weight("kernel")
    assert kernel is not None
    assert kernel.shape == (4, 8)
    assert (kernel.fan_in, kernel.fan_out, kernel.unit_axes) == (4, 8, (1,))


def test_cnn() -> None:
    graph = read(cnn())
    assert brief(graph) == [
        ("x", Op.INPUT, None),
        ("conv", Op.CONV, None),
        ("bn", Op.BATCH_NORM, None),
        ("relu", Op.ACTIVATION, "relu"),
        ("dw", Op.DEPTHWISE_CONV, None),
        ("pool", Op.MAX_POOL, None),
        ("Flatten", Op.FLATTEN, None),
        ("fc", Op.DENSE, None),
    ]
    shapes = [call.out_shape for call in graph.calls]
    assert shapes == [
        ("n", 3, 15, 15),
        *[("n", 8, 15, 15)] * 3,
        ("n", 8, 7, 7),
        ("n", 8, 3, 3),
        ("n", 72),
        ("n", 10),
    ]
    conv = only(graph, Op.CONV).weights[0]
    assert (conv.fan_in, conv.fan_out, conv.unit_axes) == (27, 72, (0,))
    depthwise = only(graph, Op.DEPTHWISE_CONV).weights[0]
    assert depthwise.role == "depthwise_kernel"
    assert (depthwise.fan_in, depthwise.fan_out, depthwise.unit_axes) == (9, 9, (0,))
    gemm = only(graph, Op.DENSE).weights[0]
    assert (gemm.shape, gemm.fan_in, gemm.fan_out, gemm.unit_axes) == ((10, 72), 72, 10, (0,))


def test_batch_norm_statistics_are_not_trained() -> None:
    norm = only(read(cnn()), Op.BATCH_NORM)
    trained = {weight.role: weight.trainable for weight in norm.weights}
    assert trained == {
        "gamma": True,
        "beta": True,
        "moving_mean": False,
        "moving_variance": False,
    }
    assert norm.config["epsilon"] == pytest.approx(1e-5)  # the default, which the file leaves out


def test_transformer_block() -> None:
    graph = read(transformer_block())
    assert brief(graph) == [
        ("x", Op.INPUT, None),
        ("norm1", Op.LAYER_NORM, None),
        ("attn/q", Op.DENSE, None),
        ("attn/k", Op.DENSE, None),
        ("attn/v", Op.DENSE, None),
        ("attn/Attention", Op.DOT_ATTENTION, None),
        ("attn/out", Op.DENSE, None),
        ("Add", Op.ADD, None),
        ("norm2", Op.LAYER_NORM, None),
        ("mlp/up", Op.DENSE, "gelu"),
        ("mlp/down", Op.DENSE, None),
        ("Add_1", Op.ADD, None),
    ]
    assert {call.out_shape for call in graph.calls if call.op is Op.ADD} == {("n", 5, 8)}
    assert only(graph, Op.DOT_ATTENTION).config["scale"] == pytest.approx(8**-0.5)
    norm = graph.by_id["norm1"]
    assert [weight.role for weight in norm.weights] == ["gamma", "beta"]
    assert norm.config["epsilon"] == pytest.approx(1e-5)
    assert [call.id for call in graph.predecessors("Add_1")] == ["Add", "mlp/down"]
    assert kernel_depth(graph)["Add_1"] == 4


def test_lstm() -> None:
    graph = read(lstm())
    call = only(graph, Op.LSTM)
    assert call.activation == "tanh"
    assert call.config["units"] == 4
    assert call.config["direction"] == "bidirectional"
    # The last state goes on as (batch, directions · units), which belongs to the layer.
    assert call.out_shapes == ((7, 2, "n", 4), ("n", 8), (2, "n", 4))
    kernel, recurrent, bias = call.weights
    assert [w.role for w in call.weights] == ["kernel", "recurrent_kernel", "bias"]
    assert (kernel.fan_in, kernel.unit_axes) == (3, (0, 1))
    assert (recurrent.fan_in, recurrent.unit_axes) == (4, (0, 1))
    assert bias.fan_in is None
    assert graph.edges[1].source_slot == 1  # the last state, not all of them
    head = only(graph, Op.DENSE)
    assert head.out_shape == ("n", 1)


def test_readers_from_file_are_lazy_small_and_picklable(tmp_path: Path) -> None:
    maker = Maker()
    y = dense(maker, "x", "fc", 64, 64)
    model = maker.model([value("x", [1, 64])], [y])
    graph = saved(model, tmp_path).graph
    for weight in graph.calls[1].weights:
        assert weight.read is not None
        frozen = pickle.dumps(weight.read)
        assert len(frozen) < 2000
        wanted = next(t for t in model.graph.initializer if t.name == weight.name)
        np.testing.assert_array_equal(pickle.loads(frozen)(), numpy_helper.to_array(wanted))  # noqa: S301


def test_a_file_and_its_proto_read_alike(tmp_path: Path) -> None:
    for model in (mlp(), cnn(), transformer_block(), lstm()):
        from_file, from_memory = saved(model, tmp_path).graph, read(model)
        assert brief(from_file) == brief(from_memory)
        assert from_file.edges == from_memory.edges
        for ours, theirs in zip(from_file.calls, from_memory.calls, strict=True):
            assert ours.config == theirs.config
            for a, b in zip(ours.weights, theirs.weights, strict=True):
                assert a.read is not None
                assert b.read is not None
                np.testing.assert_array_equal(a.read(), b.read())


def test_one_kernel_used_twice_is_one_layer() -> None:
    maker = Maker()
    weights = maker.weight("w", 4, 4), maker.weight("b", 4)
    h = maker.node("Gemm", "x", *weights, name="/fc/Gemm")
    y = maker.node("Gemm", h, *weights, name="/fc_1/Gemm")
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    assert [(call.id, call.layer) for call in graph.calls[1:]] == [("fc", "fc"), ("fc#2", "fc")]
    assert graph.parameters == 20


def test_equal_vectors_stored_once_are_not_one_layer() -> None:
    maker = Maker()
    ones, zeros = maker.tensor("one", np.ones(4, "f4")), maker.tensor("zero", np.zeros(4, "f4"))
    h = maker.node("LayerNormalization", "x", ones, zeros, name="/norm1/LayerNormalization")
    y = maker.node("LayerNormalization", h, ones, zeros, name="/norm2/LayerNormalization")
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    assert [call.layer for call in graph.calls[1:]] == ["norm1", "norm2"]


def test_arithmetic_on_shapes_is_no_call() -> None:
    """Shape → Gather → Concat → Reshape, with an unknown batch going through."""
    maker = Maker()
    shape = maker.node("Shape", "x")
    batch = maker.node("Gather", shape, maker.constant(0, "int64"), axis=0)
    batch = maker.node("Unsqueeze", batch, maker.constant([0], "int64"))
    target = maker.node("Concat", batch, maker.constant([12], "int64"), axis=0)
    flat = maker.node("Reshape", "x", target, name="flat")
    y = maker.node("Gemm", flat, maker.weight("w", 12, 2), name="fc")
    graph = read(maker.model([value("x", ["n", 3, 4])], [y]))
    assert brief(graph) == [
        ("x", Op.INPUT, None),
        ("flat", Op.FLATTEN, None),
        ("fc", Op.DENSE, None),
    ]
    assert graph.by_id["flat"].out_shape == ("n", 12)
    assert graph.by_id["flat"].config["shape"] == ["n", 12]
    assert [call.id for call in trunk(graph)] == ["x", "flat", "fc"]


def test_a_shape_that_is_an_output_stays() -> None:
    maker = Maker()
    y = maker.node("Cast", maker.node("Shape", "x", name="shape"), name="cast", to=1)
    graph = read(maker.model([value("x", ["n", 3])], [y]))
    assert [call.id for call in graph.calls] == ["x", "shape", "cast"]
    assert [(edge.source, edge.target) for edge in graph.edges] == [
        ("x", "shape"),
        ("shape", "cast"),
    ]
    assert graph.calls[-1].dtype == "float32"


def test_symbolic_dimensions() -> None:
    maker = Maker()
    h = maker.node("Transpose", "x", perm=[0, 2, 1], name="t")
    h = maker.node("Concat", h, h, axis=1, name="c")
    y = maker.node("ReduceMean", h, axes=[2], keepdims=0, name="m")
    graph = read(maker.model([value("x", ["n", "time", 6])], [y]))
    assert [call.out_shape for call in graph.calls[1:]] == [
        ("n", 6, "time"),
        ("n", 12, "time"),
        ("n", 12),
    ]


def test_an_input_used_twice_has_two_edges() -> None:
    maker = Maker()
    graph = read(maker.model([value("x", [2])], [maker.node("Add", "x", "x", name="sum")]))
    assert [(e.source, e.target, e.target_slot) for e in graph.edges] == [
        ("x", "sum", 0),
        ("x", "sum", 1),
    ]


def test_unsorted_nodes_are_sorted() -> None:
    model = transformer_block()
    ordered = read(model)
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph = read(model)
    assert set(brief(graph)) == set(brief(ordered))
    place = {call.id: index for index, call in enumerate(graph.calls)}
    assert all(place[edge.source] < place[edge.target] for edge in graph.edges)


def test_kernels_in_constant_nodes_count() -> None:
    """As exporters of PaddlePaddle write them."""
    maker = Maker()
    kernel = maker.constant(np.ones((4, 2)))
    y = maker.node("Add", maker.node("MatMul", "x", kernel), maker.constant(np.zeros(2)))
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    assert only(graph, Op.DENSE).trainable_parameters == 10


def test_quantized_and_half_kernels() -> None:
    maker = Maker()
    stored = maker.tensor("q", np.arange(-4, 4).reshape(4, 2), "int8")
    scale, zero = maker.tensor("s", np.float32(0.5)), maker.tensor("z", np.int8(1))
    kernel = maker.node("DequantizeLinear", stored, scale, zero)
    h = maker.node("MatMul", "x", kernel, name="quantized")
    half = maker.tensor("h", np.ones((2, 2)), "float16")
    y = maker.node("MatMul", h, maker.node("Cast", half, to=1), name="half")
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    weight = graph.by_id["quantized"].weights[0]
    assert weight.read is not None
    np.testing.assert_array_equal(weight.read(), (np.arange(-4, 4).reshape(4, 2) - 1) * 0.5)
    assert not weight.trainable
    assert graph.by_id["half"].weights[0].dtype == "float16"
    assert graph.by_id["half"].weights[0].trainable


def test_transposed_kernel_keeps_its_values() -> None:
    maker = Maker()
    stored = maker.weight("w", 3, 4)
    y = maker.node("MatMul", "x", maker.node("Transpose", stored, perm=[1, 0]), name="fc")
    model = maker.model([value("x", ["n", 4])], [y])
    (weight,) = read(model).by_id["fc"].weights
    assert weight.read is not None
    assert (weight.shape, weight.fan_in) == ((4, 3), 4)
    np.testing.assert_array_equal(
        weight.read(), numpy_helper.to_array(model.graph.initializer[0]).T
    )


def test_a_computed_kernel_is_named_and_not_read() -> None:
    maker = Maker()
    kernel = maker.node("Mul", maker.weight("v", 4, 2), maker.weight("g", 1, 2))
    graph = read(
        maker.model([value("x", ["n", 4])], [maker.node("MatMul", "x", kernel, name="fc")])
    )
    call = graph.by_id["fc"]
    assert call.op is Op.DENSE
    assert call.weights[0].shape == (4, 2)
    assert call.weights[0].read is None
    assert "computed from stored tensors" in call.note


def test_custom_operators_are_opaque_and_named() -> None:
    maker = Maker(domains=("com.example",))
    y = maker.node("Swizzle", "x", maker.weight("w", 4, 4), name="odd", domain="com.example", k=3)
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    call = graph.by_id["odd"]
    assert call.op is Op.OPAQUE
    assert call.config["k"] == 3
    assert call.parameters == 16
    assert call.note == "custom operator 'Swizzle' of domain 'com.example'"
    assert graph.notes == ("odd: seen from outside only: " + call.note,)


def test_nodes_without_names() -> None:
    maker = Maker()
    h = maker.node("Relu", maker.node("MatMul", "x", maker.weight("w", 4, 4)))
    y = maker.node("Cos", maker.node("Cos", h))
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    assert [call.id for call in graph.calls] == ["x", "MatMul_1", "Cos_1", "Cos_2"]


def test_node_names_do_not_break_paths() -> None:
    """What is no part of a path, or ends one, is replaced; two of one name stay two."""
    maker = Maker()
    h = maker.node("Cos", "x", name="a/../b#2\n")
    h = maker.node("Cos", h, name="a/../b#2\n")
    y = maker.node("Cos", h, name="x")
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    ids = [call.id for call in graph.calls]
    assert len(set(ids)) == len(ids)
    assert all("\n" not in call_id and "#" not in call_id for call_id in ids)


def test_graph_inputs_with_initializers_are_weights() -> None:
    """Files before IR version 4 list every initializer among the inputs."""
    model = mlp()
    model.graph.input.extend(
        [
            helper.make_tensor_value_info(t.name, t.data_type, t.dims)
            for t in model.graph.initializer
        ]
    )
    graph = read(model)
    assert [spec.name for spec in graph.inputs] == ["x"]
    assert graph.calls[1].op is Op.DENSE


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    import hashlib

    file = saved(mlp(), tmp_path)
    assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
    assert len(read_onnx_proto(mlp(), Limits()).sha256) == 64
