"""What is said of a model's cost, and what is not."""

import pytest
from builders import GraphBuilder

from auditor.graph import Op
from auditor.graph.cost import model_cost
from auditor.reports.cost_view import cost_view, sentence


def view(build, out):
    graph = build.graph(out)
    return cost_view(graph, model_cost(graph))


def test_all_known():
    build = GraphBuilder(values=False)
    seen = view(build, build.dense(build.dense(build.input((1000,)), 2000, "relu"), 10))
    assert (
        sentence(seen)
        == "Depth 2 layers; 2.02 million multiply-adds, 11.8 KiB of activations a sample"
    )
    assert seen.depth.title.startswith("longest path from an input to an output: 3 calls")
    assert "2,020,000 multiply-adds and 4,010 element operations" in seen.multiply_adds.title


def test_an_opaque_call_makes_it_a_lower_bound():
    build = GraphBuilder(values=False)
    x = build.add(Op.OPAQUE, build.dense(build.input((10,)), 20), kind="Lambda")
    seen = view(build, build.dense(x, 5))
    assert seen.multiply_adds.value == "≥ 300"
    assert seen.multiply_adds.title.startswith("1 call is not counted: lambda: ")


def test_a_layer_of_unknown_size_makes_it_unknown():
    build = GraphBuilder(values=False)
    x = build.lstm(build.embedding(build.input((None,), "int32"), 50, 8), 4)
    seen = view(build, build.dense(x, 2))
    assert not seen.multiply_adds.known
    assert "lstm: the size of an input is not known" in seen.multiply_adds.title
    assert sentence(seen) == "Depth 3 layers"


def test_no_way_to_an_output_has_no_depth():
    build = GraphBuilder(values=False)
    build.input((4,))
    seen = view(build, build.add(Op.CONSTANT, shape=(None, 4)))
    assert not seen.depth.known
    assert sentence(seen) == "0 multiply-adds, 32 B of activations a sample"


@pytest.mark.parametrize("name", ["lambda\x1b[2J", "\u202egnp"])
def test_names_are_made_printable(name):
    build = GraphBuilder(values=False)
    x = build.add(Op.OPAQUE, build.dense(build.input((10,)), 20), name=name)
    assert view(build, x).multiply_adds.title.isprintable()
