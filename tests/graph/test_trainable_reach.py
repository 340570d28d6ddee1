"""Which weights an output can teach."""

import networkx as nx
import pytest
from builders import GraphBuilder
from hypothesis import given
from random_graphs import graphs

from auditor.formats.read import read_model
from auditor.graph import Op
from auditor.graph.trainable_reach import stops_gradient, trainable_reach


def ids(calls):
    return [call.id for call in calls]


@given(graphs())
def test_without_stops_weights_are_trained_where_an_output_depends_on_them(graph):
    digraph = graph.digraph
    outputs = {call_id for call_id, _ in graph.outputs}
    toward = outputs.union(*(nx.ancestors(digraph, end) for end in outputs))
    weighted = [call for call in graph.calls if call.trainable_parameters]
    found = trainable_reach(graph)
    assert ids(found.trained) == [call.id for call in weighted if call.id in toward]
    assert ids(found.unused) == [call.id for call in weighted if call.id not in toward]
    assert found.blocked == found.blocking == ()
    assert set(ids(found.fixed_outputs)) == {
        end
        for end in outputs
        if not any(c.id in nx.ancestors(digraph, end) | {end} for c in weighted)
    }


@pytest.mark.parametrize(
    ("op", "kind", "dtype"),
    [
        (Op.IDENTITY, "StopGradient", "float32"),
        (Op.ELEMENTWISE, "Round", "float32"),
        (Op.REDUCE, "Argmax", "int32"),
        (Op.COMPARE, "Greater", "bool"),
        (Op.CAST, "Cast", "int64"),
    ],
)
def test_what_stops_a_gradient_blocks_the_layers_before_it(op, kind, dtype):
    build = GraphBuilder(values=False)
    before = build.dense(build.input((4,)), 4)
    stop = build.add(op, before, kind=kind, dtype=dtype)
    cast = build.add(Op.CAST, stop, kind="Cast")
    after = build.dense(cast, 2)
    found = trainable_reach(build.graph(after))
    assert ids(found.trained) == [after]
    assert ids(found.blocked) == [before]
    assert ids(found.blocking) == [stop]
    assert found.fixed_outputs == ()


def test_a_way_around_a_stop_trains():
    build = GraphBuilder(values=False)
    x = build.dense(build.input((4,)), 4)
    stop = build.add(Op.IDENTITY, x, kind="StopGradient")
    merged = build.add(Op.ADD, x, stop)
    found = trainable_reach(build.graph(merged))
    assert ids(found.trained) == [x]
    assert found.blocked == found.blocking == ()


def test_no_gradient_passes_a_lookup_but_its_table_learns():
    build = GraphBuilder(values=False)
    scores = build.dense(build.input((4,)), 4)
    table = build.embedding(scores, 50, 8)
    found = trainable_reach(build.graph(table))
    assert ids(found.trained) == [table]
    assert ids(found.blocked) == [scores]
    assert ids(found.blocking) == [table]


def test_an_output_of_indices_teaches_nothing():
    build = GraphBuilder(values=False)
    logits = build.dense(build.input((4,)), 4)
    labels = build.add(Op.REDUCE, logits, kind="Argmax", dtype="int64")
    found = trainable_reach(build.graph(labels))
    assert ids(found.blocked) == [logits]
    assert ids(found.blocking) == ids(found.fixed_outputs) == [labels]


def test_a_frozen_model_has_outputs_that_nothing_teaches():
    build = GraphBuilder(values=False)
    out = build.dense(build.input((4,)), 2, trainable=False)
    found = trainable_reach(build.graph(out))
    assert found.trained == found.unused == ()
    assert ids(found.fixed_outputs) == [out]


@pytest.mark.parametrize("name", ["siamese", "lstm_classifier", "transformer_encoder", "unet"])
def test_healthy_models_are_trained_throughout(saved, name):
    graph = read_model(saved(name)).graph
    found = trainable_reach(graph)
    assert ids(found.trained) == [c.id for c in graph.layers() if c.trainable_parameters]
    assert found.blocked == found.unused == found.fixed_outputs == ()
    assert not any(stops_gradient(call) for call in graph.calls if call.trainable_parameters)
