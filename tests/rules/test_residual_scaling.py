"""GEB307: residual sums that grow block by block."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder

from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple]


def residual(
    blocks: int,
    last: str = "he_normal",
    *,
    before: bool = False,
    scale: float = 1.0,
    values: bool = True,
    trainable: bool = True,
) -> LayerGraph:
    build = GraphBuilder(values=values)
    x = build.dense(build.input((64,)), 64, kernel="lecun_normal")
    for _ in range(blocks):
        y = build.normalization(Op.LAYER_NORM, x) if before else x
        y = build.dense(y, 64, "relu", kernel="he_normal", trainable=trainable)
        y = build.dense(y, 64, kernel=last, trainable=trainable)
        if scale != 1:
            y = build.add(Op.SCALE, y, kind="Rescaling", config={"scale": scale, "offset": 0.0})
        x = build.add(Op.ADD, x, y)
    return build.graph(build.dense(x, 10, "softmax"), loss="categorical_crossentropy")


@pytest.mark.parametrize("values", [True, False], ids=["weights", "architecture"])
def test_growth_and_its_mended_twins(findings: Judge, values: bool) -> None:
    (found,) = findings("GEB307", residual(24, values=values))
    assert "24 residual blocks" in found.message
    assert "zeros" in found.remedy
    assert findings("GEB307", residual(24, "zeros", values=values)) == ()
    assert findings("GEB307", residual(24, before=True, values=values)) == ()
    assert findings("GEB307", residual(24, scale=24**-0.5, values=values)) == ()


@pytest.mark.parametrize(("blocks", "count"), [(10, 0), (16, 1)])
def test_each_block_triples_the_variance(findings: Judge, blocks: int, count: int) -> None:
    """A thousandfold growth takes log 10⁶ / log 3 = 12.6 blocks."""
    assert len(findings("GEB307", residual(blocks))) == count


def test_growth_is_an_option(findings: Judge) -> None:
    assert len(findings("GEB307", residual(10), growth=10.0)) == 1


def test_frozen_branches_are_not_initialized_again(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((64,))
    for _ in range(24):
        y = build.dense(x, 64, "relu", kernel="he_normal", trainable=False)
        x = build.add(Op.ADD, x, build.dense(y, 64, kernel="he_normal", trainable=False))
    graph = build.graph(build.dense(x, 10, "softmax"), loss="categorical_crossentropy")
    assert findings("GEB307", graph) == ()


def test_folded_exports_have_no_law_to_hold_them_against(findings: Judge) -> None:
    build = GraphBuilder(format_="onnx")
    x = build.input((64,))
    for _ in range(24):
        draw = build.random.normal(0, 0.2, (2, 64, 64)).astype("float32")
        y = build.dense(x, 64, "relu", kernel=draw[0], bias=None)
        x = build.add(Op.ADD, x, build.dense(y, 64, kernel=draw[1], bias=None))
    assert findings("GEB307", build.graph(x)) == ()
