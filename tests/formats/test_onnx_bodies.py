"""Graphs within nodes: their layers are layers of the model, under the node's path."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_models import Maker, dense, value

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.limits import Limits
from auditor.formats.onnx_bodies import lay_out_bodies
from auditor.formats.onnx_decoder import Decoder
from auditor.formats.onnx_file import read_onnx_proto
from auditor.graph.forecast import forecast
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op
from auditor.graph.paths import kernel_depth, trunk

CHOOSE = value("choose", [], TensorProto.BOOL)


def read(model: onnx.ModelProto, limits: Limits | None = None) -> LayerGraph:
    return read_onnx_proto(model, limits or Limits()).graph


def body(
    maker: Maker,
    outputs: Sequence[str | onnx.ValueInfoProto],
    inputs: Sequence[onnx.ValueInfoProto] = (),
    name: str = "body",
) -> onnx.GraphProto:
    declared = [value(o, None) if isinstance(o, str) else o for o in outputs]
    return helper.make_graph(maker.nodes, name, inputs, declared, maker.tensors)


def of_kind(graph: LayerGraph, kind: str) -> Any:
    (call,) = (call for call in graph.calls if call.kind == kind)
    return call


def choice(then_width: int = 8) -> onnx.ModelProto:
    """Two dense layers in one branch, one in the other, whose kernel is the model's."""
    inner, other, maker = Maker(seed=1), Maker(seed=2), Maker()
    h = inner.node("Relu", dense(inner, "x", "fc1", 4, then_width), name="/Relu")
    then = body(inner, [dense(inner, h, "fc2", then_width, 4)])
    short = body(other, [other.node("MatMul", "x", "outer", name="/short/MatMul")])
    maker.weight("outer", 4, 4)
    y = maker.node("If", "choose", name="pick", then_branch=then, else_branch=short)
    return maker.model([CHOOSE, value("x", ["n", 4])], [y])


def test_layers_of_a_branch_are_layers_of_the_model() -> None:
    graph = read(choice())
    assert {call.id for call in graph.calls} == {
        "choose", "x", "pick/then/fc1", "pick/then/fc2", "pick/else/short", "pick",
    }  # fmt: skip
    first, second, short = (
        graph.by_id[f"pick/{n}"] for n in ("then/fc1", "then/fc2", "else/short")
    )
    assert [call.op for call in (first, second, short)] == [Op.DENSE] * 3
    assert first.activation == "relu"
    assert [weight.shape for weight in first.weights] == [(4, 8), (8,)]
    assert first.path == ("pick", "then", "fc1")
    assert graph.parameters == 4 * 8 + 8 + 8 * 4 + 4 + 4 * 4
    assert graph.trainable_parameters == graph.parameters


def test_edges_come_from_around_and_end_in_the_node() -> None:
    graph = read(choice())
    pick = graph.by_id["pick"]
    assert [p.id for p in graph.predecessors("pick/then/fc1")] == ["x"]
    assert [p.id for p in graph.predecessors("pick/else/short")] == ["x"]
    assert {p.id for p in graph.predecessors("pick")} == {
        "choose", "pick/then/fc2", "pick/else/short",
    }  # fmt: skip
    assert graph.outputs == (("pick", 0),)
    assert pick.op is Op.CONTROL
    assert pick.weights == ()
    assert pick.out_shape == ("n", 4)
    assert pick.note == "one of its branches runs, as its condition says"
    assert graph.notes == (f"pick: {pick.note}",)
    assert {call.id for call in trunk(graph)} == {call.id for call in graph.calls}
    assert kernel_depth(graph)["pick"] == 2


def test_a_layer_used_in_both_branches_is_one_layer() -> None:
    inner, other, maker = Maker(), Maker(), Maker()
    maker.weight("w", 4, 4)
    then = body(inner, [inner.node("Relu", inner.node("MatMul", "x", "w"))])
    same = body(other, [other.node("Relu", other.node("MatMul", "x", "w"))])
    y = maker.node("If", "choose", then_branch=then, else_branch=same)
    graph = read(maker.model([CHOOSE, value("x", ["n", 4])], [y]))
    assert graph.parameters == 16
    used = [call for call in graph.calls if call.op is Op.DENSE]
    assert len(used) == 2
    assert used[0].layer == used[1].layer


def test_names_in_bodies_are_their_own() -> None:
    """Both branches define "h" and "w", which outside mean something else."""
    branches = []
    for seed, width in ((1, 4), (2, 6)):
        inner = Maker(seed=seed)
        inner.node("MatMul", "x", inner.weight("w", 4, width), outputs=["h"])
        branches.append(body(inner, [inner.node("ReduceSum", "h", outputs=["s"], keepdims=0)]))
    maker = Maker()
    h = maker.node("MatMul", "x", maker.weight("w", 4, 3), outputs=["h"])
    maker.node("If", "choose", outputs=["s"], then_branch=branches[0], else_branch=branches[1])
    y = maker.node("Add", h, "s")
    graph = read(maker.model([CHOOSE, value("x", ["n", 4])], [y]))
    shapes = sorted(w.shape for call in graph.layers() for w in call.weights)
    assert shapes == [(4, 3), (4, 4), (4, 6)]
    names = [w.name for call in graph.layers() for w in call.weights]
    assert len(set(names)) == 3
    assert "w" in names
    assert of_kind(graph, "If").out_shape == ()


def test_branches_within_branches() -> None:
    innermost, between, other, maker = (Maker(seed=seed) for seed in range(4))
    deep = body(innermost, [dense(innermost, "h", "deep", 4, 4)])
    same = body(Maker(nodes=[helper.make_node("Neg", ["h"], ["e"])]), ["e"])
    between.node("Tanh", "x", outputs=["h"], name="/Tanh")
    inside = between.node("If", "choose", name="/If", then_branch=deep, else_branch=same)
    then = body(between, [inside])
    plain = body(other, [other.node("Neg", "x", name="/Neg")])
    y = maker.node("If", "choose", name="/model/If", then_branch=then, else_branch=plain)
    graph = read(maker.model([CHOOSE, value("x", ["n", 4])], [y]))
    layer = graph.by_id["If/then/If/then/deep"]
    assert layer.op is Op.DENSE
    assert [p.kind for p in graph.predecessors(layer.id)] == ["Tanh"]
    joins = [call.id for call in graph.calls if call.op is Op.CONTROL]
    assert joins == ["If/then/If", "If"]


def test_names_that_say_where_they_are_say_it_once() -> None:
    """As spox names what it puts into a branch, and torch what stands beside the node."""
    inner, other, maker = Maker(), Maker(), Maker()
    inner.node("MatMul", "x", inner.weight("w", 4, 4), outputs=["m"],
               name="If_0_then_branch__Inline_0__/enc/proj/MatMul")  # fmt: skip
    inner.node("Cos", "m", outputs=["t"], name="If_0_then_branch__Inline_0__/enc/Cos")
    other.node("Cos", "x", outputs=["e"], name="If_0_else_branch__Inline_0__/enc/Cos")
    y = maker.node(
        "If", "choose", name="If_0", then_branch=body(inner, ["t"]), else_branch=body(other, ["e"])
    )
    graph = read(maker.model([CHOOSE, value("x", ["n", 4])], [y]))
    assert "If_0/then/enc/proj" in graph.by_id
    assert not any("Inline" in call.id for call in graph.calls)


@pytest.mark.parametrize("condition", [True, False])
def test_a_condition_known_while_reading_tells_the_shape(condition: bool) -> None:
    wide, narrow, maker = Maker(), Maker(), Maker()
    then = body(wide, [wide.node("Concat", "x", "x", axis=1)])
    other = body(narrow, [narrow.node("Neg", "x")])
    known = maker.tensor("known", condition, "bool")
    y = maker.node("If", known, name="pick", then_branch=then, else_branch=other)
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    assert graph.by_id["pick"].out_shape == ("n", 8 if condition else 4)


def test_branches_of_unlike_shape_leave_it_open() -> None:
    wide, narrow, maker = Maker(), Maker(), Maker()
    then = body(wide, [wide.node("Concat", "x", "x", axis=1)])
    other = body(narrow, [narrow.node("Neg", "x")])
    y = maker.node("If", "choose", name="pick", then_branch=then, else_branch=other)
    graph = read(maker.model([CHOOSE, value("x", ["n", 4])], [y]))
    assert graph.by_id["pick"].out_shape == ("n", None)


def loop(trips: int = 5) -> onnx.ModelProto:
    """h ← tanh(h·w + x) for a number of times, every h stacked."""
    inner, maker = Maker(seed=1), Maker()
    inner.node("Identity", "go", outputs=["still"])
    h = inner.node("MatMul", "h", inner.weight("w", 4, 4), name="/step/MatMul")
    h = inner.node("Tanh", inner.node("Add", h, "x", name="/Add"), name="/Tanh")
    inputs = [
        value("i", [], TensorProto.INT64),
        value("go", [], TensorProto.BOOL),
        value("h", ["n", 4]),
    ]
    made = body(inner, ["still", h, inner.node("Identity", h)], inputs)
    count = maker.tensor("count", trips, "int64")
    start = maker.tensor("start", np.zeros((1, 4)), "float32")
    maker.node("Loop", count, "", start, name="repeat", outputs=["last", "all"], body=made)
    return maker.model([value("x", ["n", 4])], ["last", "all"])


def test_a_loop_stands_once_and_says_that_it_repeats() -> None:
    graph = read(loop())
    call = graph.by_id["repeat"]
    assert call.op is Op.CONTROL
    assert call.note.startswith("its body repeats")
    assert call.config["M"] == 5
    step = graph.by_id["repeat/body/step"]
    assert (step.op, step.weights[0].shape) == (Op.DENSE, (4, 4))
    (state,) = graph.predecessors(step.id)
    assert (state.kind, state.op, state.id) == ("LoopState", Op.CONTROL, "repeat/body/h")
    assert "later repetitions" in state.note
    assert not any(c.kind == "LoopCount" for c in graph.calls)  # the body does not use it
    assert len(call.out_shapes) == 2
    assert call.out_shapes[1] is None or call.out_shapes[1][0] is None
    assert graph.parameters == 16 + 4  # the start is the loop's


def test_a_recurrence_is_not_forecast_as_if_it_were_understood() -> None:
    """The state is not covered, so nothing is said of what comes after it."""
    seen = forecast(read(loop()))
    assert seen is not None
    assert seen.growth_rate is None
    assert "repeat/body/step" not in seen.calls


def test_loop_count_and_condition() -> None:
    inner, maker = Maker(), Maker()
    inner.node("Cast", "i", outputs=["f"], to=TensorProto.FLOAT)
    inner.node("Add", "f", "x", outputs=["y"])
    inner.node("Not", "go", outputs=["stop"])
    inputs = [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL)]
    made = body(inner, ["stop", "y"], inputs)
    y = maker.node("Loop", "", "choose", name="repeat", body=made)
    graph = read(maker.model([CHOOSE, value("x", [3])], [y]))
    count, going = of_kind(graph, "LoopCount"), of_kind(graph, "LoopCondition")
    assert (count.dtype, count.out_shape) == ("int64", ())
    assert [p.id for p in graph.predecessors(going.id)] == ["choose"]
    assert graph.by_id["repeat"].out_shape == (None, 3)


def scan(opset: int) -> onnx.ModelProto:
    """A running sum through a dense layer, over axis 0; opset 8 has the batch in front."""
    inner, maker = Maker(opset=opset), Maker(opset=opset)
    added = inner.node("Add", "s", "e", name="/Add")
    out = inner.node("MatMul", added, inner.weight("w", 4, 6), name="/step/MatMul")
    inputs = [value("s", None), value("e", None)]
    made = body(inner, [added, out], inputs)
    names = ("", "s0", "xs") if opset == 8 else ("s0", "xs")
    maker.node("Scan", *names, name="scan", outputs=["end", "ys"], body=made, num_scan_inputs=1)
    front: list[int | str] = ["b"] if opset == 8 else []
    return maker.model([value("s0", [*front, 4]), value("xs", [*front, 7, 4])], ["end", "ys"])


@pytest.mark.parametrize("opset", [8, 9, 17])
def test_scan(opset: int) -> None:
    graph = read(scan(opset))
    front = ("b",) if opset == 8 else ()
    assert of_kind(graph, "ScanState").out_shape == (4,)
    assert of_kind(graph, "ScanElement").out_shape == (4,)
    assert of_kind(graph, "ScanElement").op is Op.SLICE
    assert graph.by_id["scan"].out_shapes == ((*front, 4), (*front, 7, 6))
    assert [w.shape for w in graph.by_id["scan/body/step"].weights] == [(4, 6)]
    assert {p.id for p in graph.predecessors("scan")} >= {"s0", "xs", "scan/body/step"}


def test_scan_axes() -> None:
    inner, maker = Maker(), Maker()
    made = body(inner, [inner.node("Neg", "e")], [value("e", None)])
    y = maker.node("Scan", "xs", name="scan", body=made, num_scan_inputs=1, scan_input_axes=[1],
                   scan_output_axes=[-1])  # fmt: skip
    graph = read(maker.model([value("xs", [2, 7, 3])], [y]))
    assert of_kind(graph, "ScanElement").out_shape == (2, 3)
    assert graph.by_id["scan"].out_shape == (2, 3, 7)


def test_sequence_map() -> None:
    inner, maker = Maker(), Maker(opset=17)
    made = body(inner, [dense(inner, "e", "fc", 4, 2)], [value("e", None)])
    items = maker.node("SequenceConstruct", "x", "x")
    mapped = maker.node("SequenceMap", items, name="each", body=made)
    y = maker.node("ConcatFromSequence", mapped, axis=0)
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    (element,) = graph.predecessors("each/body/fc")
    assert (element.kind, element.op) == ("SequenceElement", Op.GATHER)
    assert graph.parameters == 10
    assert {call.id for call in trunk(graph)} >= {"each/body/fc", "each"}


def test_graphs_within_custom_operators() -> None:
    """What an unknown operator gives its graph is not known, but comes from what it takes."""
    inner, maker = Maker(), Maker(domains=("com.example",))
    made = body(inner, [dense(inner, "e", "fc", 4, 2)], [value("e", None)])
    y = maker.node("Apply", "x", name="odd", domain="com.example", subgraphs=[made])
    graph = read(maker.model([value("x", ["n", 4])], [y]))
    assert graph.parameters == 10
    (given,) = graph.predecessors("odd/subgraphs_0/fc")
    assert (given.kind, given.op) == ("BodyInputs", Op.OPAQUE)
    assert [p.id for p in graph.predecessors(given.id)] == ["x"]
    assert {call.id for call in trunk(graph)} == {call.id for call in graph.calls}


def test_a_function_with_branches_called_twice_has_its_weights_once() -> None:
    inner, other = Maker(seed=1), Maker(seed=2)
    then = body(inner, [inner.node("MatMul", "x", inner.weight("w", 4, 4))])
    same = body(other, [other.node("Neg", "x")])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=same)]
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("my", "Choose", ["c", "x"], ["y"], nodes, opsets)
    maker = Maker(functions=[function], domains=("my",))
    h = maker.node("Choose", "choose", "x", name="one", domain="my")
    y = maker.node("Choose", "choose", h, name="two", domain="my")
    graph = read(maker.model([CHOOSE, value("x", ["n", 4])], [y]))
    layers = [call for call in graph.calls if call.op is Op.DENSE]
    assert [call.layer for call in layers] == [layers[0].layer] * 2
    assert graph.parameters == 16


def test_constants_of_a_function_called_twice_are_counted_once() -> None:
    kernel = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=kernel),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("my", "Layer", ["x"], ["y"], nodes, opsets)
    maker = Maker(functions=[function], domains=("my",))
    y = maker.node("Layer", maker.node("Layer", "x", domain="my"), domain="my")
    assert read(maker.model([value("x", ["n", 4])], [y])).parameters == 16


@pytest.mark.parametrize("choose", [True, False])
def test_a_branch_laid_out_computes_the_same(choose: bool) -> None:
    """The flat nodes of the branch taken, run by ONNX's reference, against the whole model."""
    model = choice()
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": x, "choose": np.array(choose)})
    flat = lay_out_bodies(Decoder(source="").model(model), Limits(), "").graph
    (join,) = (node for node in flat.nodes if node.op_type == "If")
    (result,) = join.bodies["then_branch" if choose else "else_branch"]
    nodes = [
        helper.make_node(node.op_type, node.inputs, node.outputs)
        for node in flat.nodes
        if node is not join
    ]
    tensors = [
        onnx.numpy_helper.from_array(tensor.read(), name)
        for name, tensor in flat.tensors.items()
        if tensor.read is not None
    ]
    taken = helper.make_graph(nodes, "flat", [value("x", ["n", 4])], [value(result, None)], tensors)
    flat_model = helper.make_model(taken, opset_imports=model.opset_import)
    (found,) = ReferenceEvaluator(flat_model).run(None, {"x": x})
    np.testing.assert_array_equal(found, wanted)


def negation() -> onnx.GraphProto:
    return body(Maker(nodes=[helper.make_node("Neg", ["x"], ["e"])]), ["e"])


def nested(depth: int) -> onnx.ModelProto:
    """An If in an If …, each in the branch that is taken."""
    inside = negation()
    maker = Maker()
    for level in range(depth):
        last = level == depth - 1
        within = maker if last else Maker()
        y = within.node("If", "choose", outputs=[f"y{level}"], then_branch=inside,
                        else_branch=negation())  # fmt: skip
        inside = body(within, [y])
    return maker.model([CHOOSE, value("x", ["n", 4])], [y])


def test_depth_is_bounded() -> None:
    assert len([c for c in read(nested(20)).calls if c.kind == "If"]) == 20
    with pytest.raises(UnsafeModel, match="more than 8 deep") as caught:
        read(nested(9), Limits(nesting=8))
    assert [hazard.code for hazard in caught.value.hazards] == ["GEB909"]


def test_nodes_in_bodies_count() -> None:
    assert len(read(choice(), Limits(calls=20)).calls) == 6
    with pytest.raises(UnreadableModel, match=r"\d nodes, more than the 5 allowed"):
        read(choice(), Limits(calls=5))


def test_names_put_before_others_are_bounded() -> None:
    """Long names, many times over: bounded by what they would add up to."""
    inner, other, maker = Maker(), Maker(), Maker()
    h = "x"
    for index in range(500):
        h = inner.node("Neg", h, name=f"n{index}")
    long = "y" * 2000
    y = maker.node("If", "choose", name=long, then_branch=body(inner, [h]),
                   else_branch=body(other, [other.node("Neg", "x")]))  # fmt: skip
    model = maker.model([CHOOSE, value("x", ["n", 4])], [y])
    assert len(read(model).calls) == 504
    with pytest.raises(UnreadableModel, match="characters of names, more than the 100000 allowed"):
        read(model, Limits(json_bytes=100_000))


def test_damage_within_a_body_is_named() -> None:
    def chosen(*nodes: onnx.NodeProto) -> onnx.ModelProto:
        inner, maker = Maker(nodes=list(nodes)), Maker()
        y = maker.node("If", "choose", then_branch=body(inner, ["y"]), else_branch=negation())
        return maker.model([CHOOSE, value("x", ["n", 4])], [y])

    lost = helper.make_node("Add", ["x", "nowhere"], ["y"])
    with pytest.raises(UnreadableModel, match="takes 'nowhere', which nothing gives"):
        read(chosen(lost))
    twice = helper.make_node("Neg", ["x"], ["y"])
    with pytest.raises(UnreadableModel, match="is defined twice"):
        read(chosen(twice, twice))


def test_a_file_cannot_name_what_is_made_here() -> None:
    """A node that claims to be a loop's state is a custom operator like any other."""
    maker = Maker(domains=("\0body",))
    y = maker.node("LoopState", "x", name="forged", domain="\0body")
    file = read_onnx_proto(maker.model([value("x", ["n", 4])], [y]), Limits())
    assert file.graph.by_id["forged"].op is Op.OPAQUE
    assert [hazard.code for hazard in file.hazards] == ["GEB910"]


def test_bodies_are_no_hazard() -> None:
    for model in (choice(), loop(), scan(8), scan(17)):
        assert read_onnx_proto(model, Limits()).hazards == ()
