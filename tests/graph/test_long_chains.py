"""Analyses of a graph far longer than Python may recurse, and too long for quadratic time."""

from itertools import pairwise

import pytest

from auditor.graph import Edge, InputSpec, LayerCall, LayerGraph, Op, Weight
from auditor.graph import paths as p
from auditor.graph.cost import model_cost
from auditor.graph.normalization_spans import normalization_spans
from auditor.graph.operator_runs import operator_runs
from auditor.graph.residual_blocks import blocks
from auditor.graph.trainable_reach import trainable_reach

SIZE = 20_000
KERNEL = Weight(
    name="kernel", role="kernel", shape=(8, 8), dtype="float32", fan_in=8, unit_axes=(1,)
)


def call(name, op):
    weights = (KERNEL,) if op is Op.DENSE else ()
    shape = (None, 8)
    return LayerCall(
        id=name,
        name=name,
        layer=name,
        kind=op.value,
        op=op,
        in_shapes=(shape,) if op is not Op.INPUT else (),
        out_shapes=(shape,),
        weights=weights,
    )


def graph(calls, edges):
    return LayerGraph(
        name="long",
        format="keras",
        writer="",
        calls=tuple(calls),
        edges=tuple(edges),
        inputs=(InputSpec(name="in", call="in", shape=(None, 8), dtype="float32"),),
        outputs=((calls[-1].id, 0),),
    )


@pytest.fixture(scope="module")
def chain():
    calls = [call("in", Op.INPUT), *(call(f"d{i}", Op.DENSE) for i in range(SIZE))]
    return graph(
        calls,
        [Edge(source=a.id, target=b.id) for a, b in pairwise(calls)],
    )


@pytest.fixture(scope="module")
def nest():
    """Skips within skips: one from every dense call of the way in to a sum of the way out."""
    half = SIZE // 2
    way_in = [call("in", Op.INPUT), *(call(f"d{i}", Op.DENSE) for i in range(half))]
    way_out = [call(f"a{i}", Op.ADD) for i in range(half)]
    calls = way_in + way_out
    edges = [Edge(source=a.id, target=b.id) for a, b in pairwise(calls)]
    edges += [
        Edge(source=way_in[half - 1 - i].id, target=added.id, target_slot=1)
        for i, added in enumerate(way_out)
    ]
    return graph(calls, edges)


def test_depth_and_paths(chain):
    assert p.topological_depth(chain)[f"d{SIZE - 1}"] == SIZE
    assert p.kernel_depth(chain)[f"d{SIZE - 1}"] == SIZE
    assert len(p.longest_path(chain)) == len(p.trunk(chain)) == SIZE + 1
    assert len(p.before_kernels(chain)) == SIZE
    assert len(p.calls_between(chain, "in", f"d{SIZE - 1}")) == SIZE - 1


def test_runs_spans_reach_and_cost(chain):
    assert [len(run.layers) for run in operator_runs(chain)] == [SIZE]
    assert [span.kernels for span in normalization_spans(chain)] == [SIZE]
    assert len(trainable_reach(chain).trained) == SIZE
    assert model_cost(chain).multiply_adds == 64 * SIZE
    assert blocks(chain) == ()


def test_nested_blocks(nest):
    found = blocks(nest)
    assert len(found) == SIZE // 2
    assert found[-1].within is None
    assert [block.within for block in found[:-1]] == [block.merge.id for block in found[1:]]
    assert {len(block.calls) for block in found[1:]} == {2}
    assert found[-1].kernels == SIZE // 2
