"""Crafted models that are small as files and large, or slow, once they are laid out."""

import time
from dataclasses import replace
from typing import Any

import pytest
from onnx import TensorProto, helper

from auditor.errors import UnsafeModel
from auditor.formats.keras_config import graph_from_config
from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.onnx_file import read_onnx_proto
from auditor.graph import layer_tail
from auditor.graph.forecast import forecast
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.merge_laws import concatenation, total
from auditor.graph.signal import STANDARD

Config = dict[str, Any]


def read(config: Config, **limits: int) -> LayerGraph:
    return graph_from_config(
        config, format="keras", writer="keras", limits=replace(DEFAULT_LIMITS, **limits)
    )


def refused(config: Config, **limits: int) -> str:
    with pytest.raises(UnsafeModel) as caught:
        read(config, **limits)
    assert [hazard.code for hazard in caught.value.hazards] == ["GEB905"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def layer(kind: str, name: str, *calls: list[list[Any]], **config: Any) -> Config:
    """A layer called once for each list of (source, call of it)."""
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, "trainable": True, **config},
        "inbound_nodes": [[[source, call, 0, {}] for source, call in call_] for call_ in calls],
    }


def functional(name: str, layers: list[Config], outputs: list[list[Any]]) -> Config:
    config = {
        "name": name,
        "layers": [layer("InputLayer", "x", batch_input_shape=[None, 4]), *layers],
        "input_layers": [["x", 0, 0]],
        "output_layers": outputs,
    }
    return {"class_name": "Functional", "name": name, "config": config}


def concatenated(width: int, calls: int) -> Config:
    """A nested model that gives its input `width` times to one call, called `calls` times."""
    join = layer("Concatenate", "join", [["x", 0]] * width)
    inner = functional("inner", [join], [["join", 0, 0]])
    inner["inbound_nodes"] = [[["x", 0, 0, {}]] for _ in range(calls)]
    return functional("outer", [inner], [["inner", call, 0] for call in range(calls)])


def test_edges_multiplied_by_calls_of_a_nested_model_are_counted() -> None:
    assert len(read(concatenated(20, 10), edges=1_000).edges) == 200
    assert "more than 150 tensors" in refused(concatenated(20, 10), edges=150)
    assert "more than 1,000,000 tensors" in refused(concatenated(2_000, 501))


@pytest.mark.parametrize("edited", ["name", "class_name", "module"])
def test_a_layers_name_has_a_length(edited: str) -> None:
    def model(length: int) -> Config:
        dense = layer("Dense", "d", [["x", 0]], units=4)
        if edited == "name":
            dense["name"] = dense["config"]["name"] = "n" * length
        else:
            dense[edited] = "n" * length
        return functional("m", [dense], [[dense["name"], 0, 0]])

    read(model(DEFAULT_LIMITS.name_length))
    assert "1,025 characters" in refused(model(DEFAULT_LIMITS.name_length + 1))


def test_a_models_name_has_a_length() -> None:
    dense = layer("Dense", "d", [["x", 0]], units=4)
    assert "20,000 characters" in refused(functional("n" * 20_000, [dense], [["d", 0, 0]]))


def test_names_that_multiply_by_nesting_are_counted() -> None:
    layers = [layer("Dense", f"d{index}", [["x", 0]], units=4) for index in range(50)]
    model = functional("m", layers, [[f"d{index}", 0, 0] for index in range(50)])
    for level in range(8):
        model["inbound_nodes"] = [[["x", 0, 0, {}]]]
        model["name"] = model["config"]["name"] = f"{level}" * 1_000
        model = functional("m", [model], [[model["name"], 0, 0]])
    assert len(read(model).calls) == 51
    # 50 ids and 50 paths of 8,000 characters: 800,000, and as much again in the edges' targets.
    assert "more than 600,000 characters" in refused(model, id_characters=600_000)


def onnx_graph(nodes: list[Any], output: str, limits: Limits = DEFAULT_LIMITS) -> LayerGraph:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("x", output)
    ]
    graph = helper.make_graph(nodes, "crafted", ends[:1], ends[1:])
    return read_onnx_proto(helper.make_model(graph), limits).graph


def test_inputs_of_onnx_nodes_are_counted() -> None:
    nodes = [helper.make_node("Sum", ["x"] * 60, [f"y{index}"]) for index in range(3)]
    assert len(onnx_graph(nodes, "y2").calls) > 1
    with pytest.raises(UnsafeModel, match="180 inputs, more than the 100 allowed") as caught:
        onnx_graph(nodes, "y2", replace(DEFAULT_LIMITS, edges=100))
    assert [hazard.code for hazard in caught.value.hazards] == ["GEB905"]


def test_a_chain_is_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls without a kernel none has a tail, and a tail is all the calls behind it."""
    size, steps = 500, 0
    follow = layer_tail.only_successor

    def counted(graph: LayerGraph, call: LayerCall) -> LayerCall | None:
        nonlocal steps
        steps += 1
        return follow(graph, call)

    names = ["x", *(f"t{index}" for index in range(size))]
    nodes = [helper.make_node("Relu", [names[i]], [names[i + 1]]) for i in range(size)]
    graph = onnx_graph(nodes, names[-1])
    monkeypatch.setattr(layer_tail, "only_successor", counted)
    assert forecast(graph) is not None
    assert steps <= 2 * size


@pytest.mark.parametrize("kind", ["Sum", "Concat"])
def test_a_wide_merge_takes_time_in_proportion(kind: str) -> None:
    """Eight times the inputs take eight times as long, not sixty-four, with room for noise."""

    def seconds(width: int) -> float:
        settings = {"axis": -1} if kind == "Concat" else {}
        node = helper.make_node(kind, ["x"] * width, ["y"], **settings)
        graph = onnx_graph([node], "y")
        (call,) = graph.output_calls
        law = total if kind == "Sum" else concatenation
        signals = (STANDARD,) * width
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            assert law(graph, call, signals) is not None
            best = min(best, time.process_time() - began)
        return best

    assert seconds(16_000) < 24 * seconds(2_000)
