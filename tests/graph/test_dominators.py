"""Dominators against networkx and against what removing a call cuts off."""

import networkx as nx
from builders import GraphBuilder
from hypothesis import given
from random_graphs import graphs

from auditor.graph import Edge, InputSpec, LayerCall, LayerGraph, Op
from auditor.graph.bypass import bypassed


def reached(graph, removed=()):
    """Calls the inputs reach without the calls removed, by networkx."""
    view = nx.restricted_view(graph.digraph, removed, [])
    inputs = [call.id for call in graph.calls if call.op is Op.INPUT and call.id not in removed]
    return set(inputs).union(*(nx.descendants(view, entry) for entry in inputs))


@given(graphs())
def test_a_call_dominates_what_is_cut_off_without_it(graph):
    tree = graph.dominators
    everything = reached(graph)
    assert {call.id for call in graph.calls if call.id in tree} == everything
    for above in everything:
        cut = everything - reached(graph, (above,))
        assert {below for below in everything if tree.dominates(above, below)} == cut


@given(graphs())
def test_immediate_dominators_are_those_of_networkx(graph):
    root = object()
    digraph = nx.DiGraph(graph.digraph)
    digraph.add_edges_from((root, call.id) for call in graph.calls if call.op is Op.INPUT)
    expected = nx.immediate_dominators(digraph, root)
    assert graph.dominators.parents == {
        call_id: None if above is root else above
        for call_id, above in expected.items()
        if call_id is not root
    }


@given(graphs())
def test_depth_counts_dominators(graph):
    tree = graph.dominators
    for call in graph.calls:
        if call.id in tree:
            dominators = [other for other in graph.calls if tree.dominates(other.id, call.id)]
            assert tree.depth(call.id) == len(dominators)


@given(graphs(most=10))
def test_bypassed_is_that_outputs_are_still_reached(graph):
    outputs = {call.id for call in graph.output_calls} & reached(graph)
    ids = [call.id for call in graph.calls]
    for removed in [(one,) for one in ids] + list(zip(ids, ids[3:], strict=False)):
        assert bypassed(graph, removed) == (outputs <= reached(graph, removed))


def test_what_no_input_reaches_is_in_no_tree():
    build = GraphBuilder(values=False)
    x = build.input((4,))
    constant = build.add(Op.CONSTANT, shape=(None, 4))
    added = build.add(Op.ADD, x, constant)
    tree = build.graph(added).dominators
    assert constant not in tree
    assert tree.parent(added) == x
    assert not tree.dominates(constant, added)


def test_inputs_together_have_the_root_above_them():
    build = GraphBuilder(values=False)
    merged = build.add(Op.ADD, build.input((4,)), build.input((4,)))
    tree = build.graph(merged).dominators
    assert tree.parent(merged) is None
    assert tree.dominates(None, merged)


def test_merges_of_long_branches_do_not_cost_their_length_each_time():
    """20,000 merges over one chain of 20,000: climbing it each time would be 4·10⁸ steps."""
    size = 20_000
    names = ["in", *(f"c{i}" for i in range(size)), *(f"m{i}" for i in range(size))]
    edges = [Edge(source=names[i], target=names[i + 1]) for i in range(size)]
    for i in range(size):
        edges.append(Edge(source=names[size], target=f"m{i}"))
        edges.append(Edge(source=f"c{i // 2}", target=f"m{i}", target_slot=1))
    graph = LayerGraph(
        name="comb",
        format="keras",
        writer="",
        calls=tuple(
            LayerCall(
                id=name,
                name=name,
                layer=name,
                kind="",
                op=Op.INPUT if name == "in" else Op.ADD if name[0] == "m" else Op.DENSE,
            )
            for name in names
        ),
        edges=tuple(edges),
        inputs=(InputSpec(name="in", call="in", shape=(None, 1), dtype="float32"),),
        outputs=((names[-1], 0),),
    )
    tree = graph.dominators
    assert all(tree.parent(f"m{i}") == f"c{i // 2}" for i in range(size))
