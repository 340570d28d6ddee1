"""The skeleton of a file: everything but large tensor values, and where those are."""

import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Maker, transformer_block, value

from auditor.formats.onnx_symbols import product, quotient
from auditor.formats.onnx_wire import MalformedWire, skeleton


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
    small, spans = skeleton(memoryview(data))
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


def test_the_rest_is_as_it_was() -> None:
    model = deep_model()
    small, _ = skeleton(memoryview(model.SerializeToString()))
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
    assert skeleton(memoryview(data)) == (data, {})


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
        skeleton(memoryview(data))


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
