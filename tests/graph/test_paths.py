"""Depth, longest paths and reachability against networkx."""

import networkx as nx
from builders import GraphBuilder
from hypothesis import given
from random_graphs import graphs

from auditor.graph import Op
from auditor.graph.operators import KERNEL_OPS
from auditor.graph.paths import (
    before_kernels,
    calls_between,
    kernel_depth,
    longest_path,
    reaching_outputs,
    topological_depth,
    trunk,
)


def ways(graph, target):
    """All paths from a call without inputs to `target`, as ids."""
    sources = [call.id for call in graph.calls if not graph.predecessors(call.id)]
    digraph = nx.DiGraph(graph.digraph)
    return [
        [*way]
        for source in sources
        for way in (
            [[source]] if source == target else nx.all_simple_paths(digraph, source, target)
        )
    ]


@given(graphs(most=10))
def test_depths_are_those_of_the_longest_ways(graph):
    edges, kernels = topological_depth(graph), kernel_depth(graph)
    for call in graph.calls:
        found = ways(graph, call.id)
        assert edges[call.id] == max(len(way) - 1 for way in found)
        assert kernels[call.id] == max(
            sum(graph.by_id[step].op in KERNEL_OPS for step in way) for way in found
        )


@given(graphs(most=10))
def test_longest_path_is_a_way_from_input_to_output_and_none_is_longer(graph):
    path = [call.id for call in longest_path(graph)]
    inputs = {call.id for call in graph.calls if call.op is Op.INPUT}
    found = [way for end in graph.output_calls for way in ways(graph, end.id) if way[0] in inputs]
    assert bool(path) == bool(found)
    if path:
        assert path in found
        assert len(path) == max(map(len, found))


@given(graphs())
def test_reachability_is_that_of_networkx(graph):
    digraph = graph.digraph
    outputs = {call_id for call_id, _ in graph.outputs}
    inputs = {call.id for call in graph.calls if call.op is Op.INPUT}
    toward = outputs.union(*(nx.ancestors(digraph, end) for end in outputs))
    onward = inputs.union(*(nx.descendants(digraph, entry) for entry in inputs))
    assert reaching_outputs(graph) == toward
    assert [call.id for call in trunk(graph)] == [
        call.id for call in graph.calls if call.id in toward and call.id in onward
    ]
    assert before_kernels(graph) == {
        call.id
        for call in graph.calls
        if any(graph.by_id[i].op in KERNEL_OPS for i in nx.descendants(digraph, call.id))
    }


@given(graphs())
def test_between_a_dominator_and_a_call_lies_what_both_reach(graph):
    digraph, tree = graph.digraph, graph.dominators
    inside = {call.id for call in graph.calls if call.id in tree}
    for end in inside:
        above = nx.ancestors(digraph, end) & inside
        assert calls_between(graph, None, end) == above
        for entry in above:
            if tree.dominates(entry, end):
                both = nx.descendants(digraph, entry) & above
                assert calls_between(graph, entry, end) == both


def test_no_path_from_a_constant_counts_as_one_from_an_input():
    build = GraphBuilder(values=False)
    build.input((4,))
    constant = build.add(Op.CONSTANT, shape=(None, 4))
    assert longest_path(build.graph(build.dense(constant, 4))) == ()
