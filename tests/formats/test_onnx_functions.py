"""Local functions, expanded where they are called."""

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_models import Maker, value

from auditor.formats.limits import Limits
from auditor.formats.onnx_decoder import Decoder
from auditor.formats.onnx_file import read_onnx_proto
from auditor.formats.onnx_functions import expand_functions
from auditor.formats.onnx_model import OnnxNode
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op

OPSET = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]


def read(model: onnx.ModelProto) -> LayerGraph:
    return read_onnx_proto(model, Limits()).graph


def dense_function() -> onnx.FunctionProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    return helper.make_function("my", "Dense", ["x", "w", "b"], ["y"], nodes, OPSET)


def test_a_layer_in_a_function_is_that_layer() -> None:
    maker = Maker(functions=[dense_function()], domains=("my",))
    first = maker.weight("w1", 4, 8), maker.weight("b1", 8)
    second = maker.weight("w2", 8, 2), maker.weight("b2", 2)
    h = maker.node("Dense", "x", *first, name="one", domain="my")
    y = maker.node("Dense", h, *second, name="two", domain="my")
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    assert [(call.id, call.op, call.activation) for call in graph.calls[1:]] == [
        ("one", Op.DENSE, "relu"),
        ("two", Op.DENSE, "relu"),
    ]
    assert graph.calls[2].out_shape == ("n", 2)
    assert graph.parameters == 4 * 8 + 8 + 8 * 2 + 2


def test_attributes_of_the_call_defaults_and_omitted_inputs() -> None:
    leaky = helper.make_node("LeakyRelu", ["x"], ["h"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=1))
    clip = helper.make_node("Clip", ["h", "low"], ["y"])
    function = helper.make_function(
        "my",
        "Steep",
        ["x", "low"],
        ["y"],
        [leaky, clip],
        OPSET,
        attribute_protos=[helper.make_attribute("slope", 0.125)],
    )
    maker = Maker(functions=[function], domains=("my",))
    h = maker.node("Steep", "x", maker.constant(0.0), name="given", domain="my", slope=0.5)
    y = maker.node("Steep", h, name="default", domain="my")
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    slopes = [call.config["alpha"] for call in graph.calls if call.kind == "LeakyRelu"]
    assert slopes == [0.5, 0.125]
    assert [call.activation for call in graph.calls if call.kind == "Clip"] == ["relu", None]


def test_functions_in_functions_and_names_that_clash() -> None:
    twice = helper.make_function(
        "my",
        "Twice",
        ["x", "w", "b"],
        ["y"],
        [
            helper.make_node("Dense", ["x", "w", "b"], ["m"], domain="my"),
            helper.make_node("Dense", ["m", "w", "b"], ["y"], domain="my"),
        ],
        OPSET,
    )
    maker = Maker(functions=[dense_function(), twice], domains=("my",))
    weights = maker.weight("w", 4, 4), maker.weight("b", 4)
    h = maker.node("Twice", "x", *weights, domain="my", outputs=["m"])
    y = maker.node("Twice", h, *weights, domain="my", outputs=["s"])
    model = maker.model([value("x", ["n", 4])], [y])
    graph = read(model)
    assert [call.op for call in graph.calls] == [Op.INPUT, *[Op.DENSE] * 4]
    assert len({call.layer for call in graph.calls[1:]}) == 1
    assert graph.parameters == 20


def test_an_output_that_is_an_input_goes_through() -> None:
    both = helper.make_function(
        "my", "Both", ["x"], ["x", "y"], [helper.make_node("Relu", ["x"], ["y"])], OPSET
    )
    maker = Maker(functions=[both], domains=("my",))
    maker.node("Both", "x", outputs=["same", "other"], domain="my")
    y = maker.node("Add", "same", "other", name="sum")
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    taken = {call.op for call in graph.predecessors("sum")}
    assert taken - {Op.IDENTITY} <= {Op.INPUT, Op.ACTIVATION}
    assert Op.ACTIVATION in taken


def test_a_graph_within_a_function_captures_its_values() -> None:
    then = helper.make_graph(
        [helper.make_node("Mul", ["x", "m"], ["t"])], "then", [], [value("t", None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["m"], ["e"])], "else", [], [value("e", None)]
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["m"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    function = helper.make_function("my", "Choose", ["c", "x"], ["y"], nodes, OPSET)
    maker = Maker(functions=[function], domains=("my",))
    y = maker.node("Choose", "choice", "data", name="pick", domain="my")
    inputs = [value("choice", [], TensorProto.BOOL), value("data", ["n", 4])]
    graph = read(maker.model(inputs, [y]))
    (control,) = (call for call in graph.calls if call.op is Op.CONTROL)
    kinds = [call.kind for call in graph.predecessors(control.id)]
    assert kinds[0] == "Input"  # the condition
    (product,) = (call for call in graph.predecessors(control.id) if call.kind == "Mul")
    assert [call.kind for call in graph.predecessors(product.id)] == ["Input", "Relu"]


def test_expansion_computes_the_same() -> None:
    """The expanded nodes, run by ONNX's reference, against the model with its functions."""
    twice = helper.make_function(
        "my",
        "Twice",
        ["x", "w", "b"],
        ["y", "m"],
        [
            helper.make_node("Dense", ["x", "w", "b"], ["m"], domain="my"),
            helper.make_node("Dense", ["m", "w", "b"], ["y"], domain="my"),
        ],
        OPSET,
    )
    maker = Maker(functions=[dense_function(), twice], domains=("my",))
    weights = maker.weight("w", 4, 4), maker.weight("b", 4)
    maker.node("Twice", "x", *weights, domain="my", outputs=["m", "y"])
    model = maker.model([value("x", [3, 4])], [value("y", [3, 4]), value("m", [3, 4])])
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    wanted = ReferenceEvaluator(model).run(None, {"x": x})

    expanded = expand_functions(Decoder(source="").model(model), Limits(), "")
    del model.graph.node[:]
    del model.functions[:]
    model.graph.node.extend(proto(node) for node in expanded.graph.nodes)
    for ours, theirs in zip(ReferenceEvaluator(model).run(None, {"x": x}), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def proto(node: OnnxNode) -> onnx.NodeProto:
    return helper.make_node(
        node.op_type, node.inputs, node.outputs, name=node.name, domain=node.domain
    )
