"""GEB406: attention and deep parts without normalization."""

from collections.abc import Callable
from dataclasses import replace

from builders import GraphBuilder

from auditor.finding import Severity
from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple]


def transformer(blocks: int, norm: str = "", *, gain: bool = False) -> LayerGraph:
    """Blocks of attention and Dense on a residual stream, normalized "before", "after" or not."""
    build = GraphBuilder()
    x = build.embedding(build.input((24,), "int32"), 100, 16)

    def branch(x: str, inner: Callable[[str], str]) -> str:
        y = inner(build.normalization(Op.LAYER_NORM, x) if norm == "before" else x)
        if gain:
            y = build.add(Op.MULTIPLY, y, kind="Gain")
        x = build.add(Op.ADD, x, build.dropout(y, 0.1))
        return build.normalization(Op.LAYER_NORM, x) if norm == "after" else x

    for _ in range(blocks):
        x = branch(x, lambda y: build.add(Op.ATTENTION, y, y, kind="MultiHeadAttention"))
        x = branch(x, lambda y: build.dense(build.dense(y, 64, "gelu"), 16))
    head = build.dense(build.add(Op.REDUCE, x, shape=(None, 16)), 5, "softmax")
    return build.graph(head, loss="sparse_categorical_crossentropy")


def test_attention_on_a_bare_stream(findings: Judge) -> None:
    (found,) = findings("GEB406", transformer(3))
    assert found.severity is Severity.WARNING
    assert "3 residual blocks" in found.message


def test_both_places_of_the_norm_are_right(findings: Judge) -> None:
    assert findings("GEB406", transformer(3, "before")) == ()
    assert findings("GEB406", transformer(3, "after")) == ()


def test_a_learned_gain_stands_in(findings: Judge) -> None:
    assert findings("GEB406", transformer(3, gain=True)) == ()


def test_one_block_is_borne(findings: Judge) -> None:
    assert findings("GEB406", transformer(1)) == ()
    assert len(findings("GEB406", transformer(1), **{"attention-blocks": 1})) == 1


def dense_units(layers: int, *, first_norm: bool = True, activation: str = "relu") -> LayerGraph:
    """A normalization, then layers without any."""
    build = GraphBuilder()
    x = build.dense(build.input((32,)), 32)
    if first_norm:
        x = build.batch_norm(x)
    for _ in range(layers):
        x = build.dense(x, 32, activation, kernel="he_normal")
    return build.graph(build.dense(x, 5, "softmax"), loss="categorical_crossentropy")


def test_a_deep_part_is_told_for_information(findings: Judge) -> None:
    (found,) = findings("GEB406", dense_units(34))
    assert found.severity is Severity.INFO
    assert findings("GEB406", dense_units(22)) == ()
    assert len(findings("GEB406", dense_units(22), depth=20)) == 1


def test_self_normalizing_and_plain_stacks_are_others_business(findings: Judge) -> None:
    assert findings("GEB406", dense_units(34, activation="selu")) == ()
    assert findings("GEB406", dense_units(34, first_norm=False)) == ()


def test_a_graph_that_was_exported(findings: Judge) -> None:
    assert findings("GEB406", replace(transformer(3), format="onnx")) == ()
    assert findings("GEB406", replace(dense_units(34), format="onnx")) == ()
