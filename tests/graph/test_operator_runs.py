"""Runs of like layers."""

from builders import GraphBuilder
from hypothesis import given
from random_graphs import graphs

from auditor.formats.read import read_model
from auditor.graph import Op
from auditor.graph.operator_runs import operator_runs
from auditor.graph.operators import KERNEL_OPS


def lengths(graph):
    return [(run.op, run.activation, len(run.layers)) for run in operator_runs(graph)]


def test_vgg_is_blocks_of_convolutions_and_a_head(saved):
    conv = (Op.CONV, "relu")
    assert lengths(read_model(saved("VGG16")).graph) == [
        *((*conv, count) for count in (2, 2, 3, 3, 3)),
        (Op.DENSE, "relu", 2),
    ]


def test_a_fused_activation_and_one_behind_are_alike():
    build = GraphBuilder(values=False)
    x = build.dense(build.input((8,)), 8, "relu")
    x = build.activation(build.dense(x, 16), "relu")
    x = build.dropout(build.dense(x, 4, "relu"), 0.5)
    (run,) = operator_runs(build.graph(build.dense(x, 2)))
    assert [len(layer) for layer in run.layers] == [1, 2, 2]
    assert (run.activation, run.normalization) == ("relu", None)


def test_another_activation_normalization_or_operator_ends_a_run():
    build = GraphBuilder(values=False)
    x = build.input((8,))
    for activation in ("relu", "relu", "tanh"):
        x = build.dense(x, 8, activation)
    for _ in range(2):
        x = build.activation(build.batch_norm(build.dense(x, 8)), "tanh")
    found = operator_runs(build.graph(build.add(Op.RESHAPE, x, shape=(None, 8))))
    assert [(run.activation, run.normalization, len(run.layers)) for run in found] == [
        ("relu", None, 2),
        ("tanh", Op.BATCH_NORM, 2),
    ]


def test_what_stands_between_ends_a_run():
    build = GraphBuilder(values=False)
    x = build.conv(build.input((8, 8, 3)), 4, activation="relu")
    x = build.conv(build.max_pool(x), 4, activation="relu")
    left = build.conv(x, 4, activation="relu")
    merged = build.add(Op.ADD, left, x)
    assert operator_runs(build.graph(merged)) == ()


@given(graphs())
def test_runs_are_disjoint_maximal_and_of_one_kind(graph):
    found = operator_runs(graph)
    calls = [call.id for run in found for call in run.calls]
    assert len(calls) == len(set(calls))
    for run in found:
        assert len(run.layers) > 1
        assert {layer[0].op for layer in run.layers} == {run.op} <= KERNEL_OPS
        for before, after in zip(run.calls, run.calls[1:], strict=False):
            assert graph.successors(before.id) == (after,)
            assert graph.predecessors(after.id) == (before,)
