"""Spans without normalization."""

from itertools import pairwise

import networkx as nx
from builders import GraphBuilder
from hypothesis import given
from random_graphs import graphs

from auditor.formats.read import read_model
from auditor.graph import Op
from auditor.graph.normalization_spans import normalization_spans
from auditor.graph.operators import KERNEL_OPS, NORMALIZATION_OPS


@given(graphs(most=10))
def test_one_longest_way_for_each_part_between_normalizations(graph):
    digraph = nx.DiGraph(graph.digraph)
    digraph.remove_nodes_from([c.id for c in graph.calls if c.op in NORMALIZATION_OPS])
    expected = []
    for part in nx.weakly_connected_components(digraph):
        inside = digraph.subgraph(part)
        ways = [
            [*way]
            for source in part
            for target in part
            for way in (
                [[source]] if source == target else nx.all_simple_paths(inside, source, target)
            )
        ]
        most = max(sum(graph.by_id[step].op in KERNEL_OPS for step in way) for way in ways)
        if most:
            expected.append((frozenset(part), most))
    found = normalization_spans(graph)
    for span in found:
        ids = [call.id for call in span.calls]
        assert all(digraph.has_edge(a, b) for a, b in pairwise(ids))
        assert span.kernels == sum(call.op in KERNEL_OPS for call in span.calls)
    assert len(found) == len(expected)
    assert {
        (next(part for part, _ in expected if span.calls[0].id in part), span.kernels)
        for span in found
    } == set(expected)


def test_a_plain_network_is_one_span(saved):
    (span,) = normalization_spans(read_model(saved("VGG16")).graph)
    assert (span.kernels, span.opened, span.closed) == (16, None, None)


def test_skips_make_no_span_longer(saved):
    found = normalization_spans(read_model(saved("ResNet50")).graph)
    assert {span.kernels for span in found} == {1}


def test_a_span_tells_what_opens_and_closes_it():
    build = GraphBuilder(values=False)
    before = build.normalization(Op.LAYER_NORM, build.input((8,)))
    x = build.activation(build.dense(before, 8), "relu")
    last = build.dense(x, 8)
    after = build.normalization(Op.LAYER_NORM, last)
    (span,) = normalization_spans(build.graph(after))
    assert [call.id for call in span.calls] == ["dense", x, last]
    assert (span.kernels, span.opened.id, span.closed.id) == (2, before, after)
