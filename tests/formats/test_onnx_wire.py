"""The skeleton of a file: everything but large tensor values, and where those are."""

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Maker, transformer_block, value

from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.onnx_symbols import product, quotient
from auditor.formats.onnx_wire import (
    BLOCK,
    MalformedWire,
    NestedWire,
    Span,
    TooMuchWire,
    WirePath,
    skeleton,
)


def walk(
    data: bytes, limits: Limits = DEFAULT_LIMITS, **small: int
) -> tuple[bytes, Mapping[WirePath, Span]]:
    def read_at(offset: int, length: int) -> bytes:
        assert length <= max(BLOCK, len(data))
        return data[offset : offset + length]

    return skeleton(read_at, len(data), limits, **small)


def deep_model() -> onnx.ModelProto:
    """Large tensors as initializer, in a Constant, in a graph within a node and in a function."""
    inner = Maker(seed=1)
    made = inner.node("MatMul", "x", inner.weight("inner", 64, 64), outputs=["t"])
    then = helper.make_graph(inner.nodes, "then", [], [value(made, None)], inner.tensors)
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["e"])], "else", [], [value("e", None)]
    )
    body = Maker(seed=2)
    body.node(
        "Constant", outputs=["c"], value=onnx.numpy_helper.from_array(body.random.random(500))
    )
    body.node("Relu", "x", outputs=["y"])
    function = helper.make_function(
        "my", "F", ["x"], ["y", "c"], body.nodes, [helper.make_opsetid("", 17)]
    )
    maker = Maker(functions=[function], domains=("my",))
    h = maker.node("If", "choose", then_branch=then, else_branch=other)
    h = maker.node("MatMul", h, maker.weight("outer", 64, 64))
    h = maker.node("Add", h, maker.constant(maker.random.random((64, 64))))
    y = maker.node("F", h, domain="my")
    return maker.model([value("choose", [], TensorProto.BOOL), value("x", [64, 64])], [y])


def test_what_is_left_out_is_where_it_is_said_to_be() -> None:
    model = deep_model()
    data = model.SerializeToString()
    small, spans = walk(data)
    assert len(small) < 3000 < 4 * 64 * 64 * 3 < len(data)
    wanted = {
        (7, 0, 5, 0): model.graph.initializer[0],
        (7, 0, 1, 0, 5, 1, 6, 0, 5, 0): model.graph.node[0].attribute[1].g.initializer[0],
        (7, 0, 1, 2, 5, 0, 5, 0): model.graph.node[2].attribute[0].t,
        (25, 0, 7, 0, 5, 0, 5, 0): model.functions[0].node[0].attribute[0].t,
    }
    assert set(spans) == set(wanted)
    for path, tensor in wanted.items():
        span = spans[path]
        assert onnx.TensorProto.FromString(data[span.offset : span.offset + span.length]) == tensor
        assert span.values == span.raw == len(tensor.raw_data)
        assert data[span.raw_offset : span.raw_offset + span.raw] == tensor.raw_data


def test_the_rest_is_as_it_was() -> None:
    model = deep_model()
    small, _ = walk(model.SerializeToString())
    for tensor in (
        model.graph.initializer[0],
        model.graph.node[0].attribute[1].g.initializer[0],
        model.graph.node[2].attribute[0].t,
        model.functions[0].node[0].attribute[0].t,
    ):
        tensor.ClearField("raw_data")
    assert onnx.ModelProto.FromString(small) == model


def test_a_model_without_large_tensors_is_untouched() -> None:
    data = transformer_block(4).SerializeToString()
    assert walk(data) == (data, {})


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a\x05ab",  # a graph that ends early
        b"\x3a",  # no length
        b"\x08" + b"\xff" * 11,  # a number without end
        b"\x0b\x0c",  # groups, which ONNX never had
        b"\x00\x00",  # field 0
        b"\x3a\x00\x3a\x00",  # two graphs, which protobuf would merge
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(MalformedWire):
        walk(data)


def test_sparse_tensors_are_left_out_too() -> None:
    values = onnx.numpy_helper.from_array(np.arange(1, 501, dtype=np.float32), "w")
    indices = onnx.numpy_helper.from_array(np.arange(500, dtype=np.int64))
    sparse = helper.make_sparse_tensor(values, indices, [1000])
    maker = Maker()
    model = maker.model([value("x", [1000])], [maker.node("Add", "x", "w")])
    model.graph.sparse_initializer.append(sparse)
    data = model.SerializeToString()
    small, spans = walk(data)
    assert len(small) < 300
    assert set(spans) == {(7, 0, 15, 0, 1, 0), (7, 0, 15, 0, 2, 0)}


def test_long_lists_are_left_out_and_told() -> None:
    """What a random forest of millions of thresholds has."""
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        nodes_values=[float(i) for i in range(50_000)],
        nodes_modes=["LEAF"] * 50_000,
        n_targets=1,
    )
    maker = Maker(nodes=[node], domains=("ai.onnx.ml",))
    model = maker.model([value("x", ["n", 4])], ["y"])
    small, _ = walk(model.SerializeToString())
    assert len(small) < 1000
    kept = {a.name: a for a in onnx.ModelProto.FromString(small).graph.node[0].attribute}
    assert kept["nodes_values"].s.startswith(b"<a list of ")
    assert kept["nodes_modes"].s.startswith(b"<a list of ")
    assert kept["n_targets"].i == 1


def test_training_info_is_not_looked_at() -> None:
    model = transformer_block(4)
    wanted = model.SerializeToString()
    model.training_info.add().algorithm.CopyFrom(model.graph)
    assert walk(model.SerializeToString())[0] == wanted


def test_limits_are_told() -> None:
    data = transformer_block(4).SerializeToString()
    with pytest.raises(TooMuchWire, match="more than the 20 nodes allowed"):
        walk(data, Limits(calls=20))
    with pytest.raises(TooMuchWire, match="more than the 2000 bytes allowed"):
        walk(data, Limits(json_bytes=2000))


def test_empty_messages_count_more_than_their_bytes() -> None:
    """Ten million empty tensor types: twenty megabytes that would parse into gigabytes."""
    graph = b"\x6a\x00" * 10_000_000
    size = len(graph)
    head = b"\x3a" + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80,
                            size >> 21])  # fmt: skip
    with pytest.raises(TooMuchWire, match="bytes allowed"):
        walk(head + graph)


def nested(depth: int) -> onnx.ModelProto:
    """A graph in a node in a graph …, `depth` of them within the model's own."""
    graph = onnx.GraphProto(name="innermost")
    for _ in range(depth):
        node = onnx.NodeProto(op_type="If")
        node.attribute.add(name="g", type=onnx.AttributeProto.GRAPH).g.CopyFrom(graph)
        graph = onnx.GraphProto(node=[node])
    return onnx.ModelProto(ir_version=8, graph=graph)


def test_graphs_nested_too_deep() -> None:
    walk(nested(32).SerializeToString(), small=0)
    data = nested(33).SerializeToString()
    walk(data)  # too small to be looked into, so protobuf has the word
    with pytest.raises(NestedWire, match="more than 32 deep"):
        walk(data, small=0)


def test_products_of_named_dimensions() -> None:
    assert product(["n", 4, 3]) == "12*n"
    assert product(["n", "heads", 2]) == product([2, "heads", "n"]) == "2*heads*n"
    assert product(["4*n", 3]) == "12*n"
    assert product([2, 3]) == 6
    assert product([None, 3]) is None
    assert product([1.5, 3]) is None  # type: ignore[list-item]
    assert product(["n", 0]) == 0
    assert quotient(["12*n"], [4]) == "3*n"
    assert quotient(["n", 12], ["n"]) == 12
    assert quotient(["4*n"], [4]) == "n"
    assert quotient(["n"], [4]) is None
    assert quotient([12], ["n"]) is None
    assert quotient([12], [0]) is None
    assert quotient(["n+1", 2], [2]) == "n+1"
