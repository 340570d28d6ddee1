"""Blocks of random graphs against brute force, and of architectures people know."""

from collections import Counter

import networkx as nx
import pytest
from builders import GraphBuilder
from hypothesis import given
from random_graphs import graphs

from auditor.formats.read import read_model
from auditor.graph import Op
from auditor.graph.operators import KERNEL_OPS
from auditor.graph.paths import calls_between
from auditor.graph.residual_blocks import (
    BlockKind,
    BranchKind,
    NormPlacement,
    blocks,
    residual_blocks,
)


@given(graphs())
def test_owners_are_the_first_blocks_that_a_call_lies_inside(graph):
    found = blocks(graph)
    owners = {}
    for block in found:
        entry = None if block.entry is None else block.entry.id
        for call_id in calls_between(graph, entry, block.merge.id):
            owners.setdefault(call_id, block.merge.id)
    assert {call.id: block.merge.id for block in found for call in block.calls} == owners
    assert {block.merge.id: block.within for block in found} == {
        block.merge.id: owners.get(block.merge.id) for block in found
    }


@given(graphs())
def test_branches_are_what_their_ways_are_made_of(graph):
    digraph = nx.DiGraph(graph.digraph)
    for block in blocks(graph):
        assert [branch.end.id for branch in block.branches] == [
            source.id
            for source in graph.predecessors(block.merge.id)
            if source.id in graph.dominators
        ]
        if block.entry is None:
            continue
        entry = block.entry.id
        for branch in block.branches:
            end = branch.end.id
            ways = [[end]] if end == entry else list(nx.all_simple_paths(digraph, entry, end))
            inner = [[graph.by_id[step] for step in way[1:]] for way in ways]
            assert branch.kernels == max(sum(c.op in KERNEL_OPS for c in way) for way in inner)
            passing = (Op.IDENTITY, Op.DROPOUT)
            same = len(inner) == 1 and all(call.op in passing for call in inner[0])
            assert (branch.kind is BranchKind.IDENTITY) == same


def kinds(graph):
    return Counter(block.kind.value for block in blocks(graph))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ResNet50", {"residual": 16}),
        ("VGG16", {}),
        ("DenseNet121", {"concatenated": 58}),
        ("unet", {"concatenated": 3}),
        ("EfficientNetB0", {"gated": 16, "residual": 9}),
        ("MobileNetV3Small", {"gated": 9, "residual": 6}),
        ("transformer_encoder", {"residual": 8}),
        ("autoencoder", {}),
        ("siamese", {"branched": 1}),
    ],
)
def test_known_architectures(saved, name, expected):
    assert kinds(read_model(saved(name)).graph) == expected


def test_resnet_has_a_projection_at_each_stage_and_identities_between(saved):
    found = residual_blocks(read_model(saved("ResNet50")).graph)
    shortcuts = [block.shortcut.kind.value[0] for block in found]
    assert "".join(shortcuts) == "piipiiipiiiiipii"
    assert all(block.kernels == 3 for block in found)
    assert all(len(block.calls) == (10 if block.shortcut.kernels else 8) for block in found)
    assert {block.normalization for block in found} == {NormPlacement.INSIDE}


def test_gates_lie_within_the_residual_blocks_of_efficientnet(saved):
    found = blocks(read_model(saved("EfficientNetB0")).graph)
    residual = {block.merge.id for block in found if block.kind is BlockKind.RESIDUAL}
    gates = [block for block in found if block.kind is BlockKind.GATED]
    assert sum(gate.within in residual for gate in gates) == 9


def test_skips_of_a_unet_nest(saved):
    found = blocks(read_model(saved("unet")).graph)
    assert [block.within for block in found] == [found[1].merge.id, found[2].merge.id, None]
    assert [block.kernels for block in found] == [3, 8, 13]


def transformer(placement):
    build = GraphBuilder(values=False)
    x = build.dense(build.input((8,)), 8)
    for _ in range(3):
        before = build.normalization(Op.LAYER_NORM, x) if placement == "before" else x
        inner = build.dense(build.dense(before, 32, "gelu"), 8)
        x = build.add(Op.ADD, x, build.dropout(inner, 0.1))
        if placement == "after":
            x = build.normalization(Op.LAYER_NORM, x)
    return build.graph(build.dense(x, 2))


@pytest.mark.parametrize("placement", ["before", "after", "none"])
def test_where_a_transformer_normalizes(placement):
    found = residual_blocks(transformer(placement))
    assert [block.normalization.value for block in found] == [placement] * 3


def test_pre_norm_encoder_layers_have_two_blocks_each(saved):
    found = residual_blocks(read_model(saved("transformer_encoder")).graph)
    assert len(found) == 2 * 4
    assert {block.normalization for block in found} == {NormPlacement.BEFORE}
    assert all(block.shortcut.kind is BranchKind.IDENTITY for block in found)


def test_inception_has_branches_without_a_shortcut():
    build = GraphBuilder(values=False)
    x = build.conv(build.input((8, 8, 3)), 8, activation="relu")
    towers = [
        build.conv(x, 8, 1, "relu"),
        build.conv(build.conv(x, 8, 1, "relu"), 8, 3, "relu"),
        build.conv(build.max_pool(x, 1), 8, 1, "relu"),
    ]
    merged = build.add(Op.CONCATENATE, *towers, shape=(None, 8, 8, 24))
    (block,) = blocks(build.graph(build.global_average(merged)))
    assert block.kind is BlockKind.BRANCHED
    assert block.shortcut is None
    assert block.entry.id == x
    assert [branch.kernels for branch in block.branches] == [1, 2, 1]


def test_x_plus_x_and_a_sum_of_inputs_are_no_blocks():
    build = GraphBuilder(values=False)
    x = build.add(Op.ADD, build.input((4,)), build.input((4,)))
    x = build.add(Op.ADD, x, x)
    y = build.add(Op.ADD, x, build.dropout(x, 0.1))
    assert blocks(build.graph(y)) == ()


def test_a_constant_beside_the_branch_is_no_branch():
    build = GraphBuilder(values=False)
    x = build.dense(build.input((4,)), 4)
    shifted = build.add(Op.ADD, build.dense(x, 4, "relu"), build.add(Op.CONSTANT, shape=(None, 4)))
    merged = build.add(Op.ADD, x, shifted)
    (block,) = blocks(build.graph(merged))
    assert (block.kind, block.merge.id, block.entry.id) == (BlockKind.RESIDUAL, merged, x)
