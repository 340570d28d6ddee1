"""GEB107: positions that are gone before the convolutions are."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder

from auditor.finding import Severity
from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple]
SPARSE = "sparse_categorical_crossentropy"


def halving(size: int, *, times: int = 3, kernel: int = 3) -> LayerGraph:
    """`times` strides of two, then one more convolution."""
    build = GraphBuilder()
    x = build.input((size, size, 3))
    for _ in range(times):
        x = build.conv(x, 16, 3, "relu", strides=2)
    x = build.global_average(build.conv(x, 64, kernel, "relu"))
    return build.graph(build.dense(x, 10, "softmax"), loss=SPARSE)


def test_three_by_three_on_a_single_position(findings: Judge) -> None:
    (found,) = findings("GEB107", halving(8))
    assert found.severity is Severity.WARNING
    assert found.layers == ("conv2d_3",)
    assert "1×1" in found.message
    assert findings("GEB107", halving(32)) == ()


@pytest.mark.parametrize(("kernel", "count"), [(1, 0), (3, 0), (5, 1)])
def test_taps_are_counted_exactly(findings: Judge, kernel: int, count: int) -> None:
    """On two positions all taps of 3 are of use, and three of 5."""
    assert len(findings("GEB107", halving(16, kernel=kernel))) == count


def test_options(findings: Judge) -> None:
    graph = halving(16, kernel=5)
    assert findings("GEB107", graph, unused=0.7) == ()


def around(*, wide: bool) -> LayerGraph:
    """A level of 1×1 beside another, as in a feature pyramid."""
    build = GraphBuilder()
    filters = 64 if wide else 2
    x = build.conv(build.input((8, 8, 3)), 8, 3, "relu")
    deep = build.conv(build.max_pool(x, 8), filters, 3, "relu")
    outputs = [build.global_average(x), build.global_average(deep)]
    x = build.add(Op.CONCATENATE, *outputs, shape=(None, 8 + filters))
    return build.graph(build.dense(x, 100, "softmax"), loss=SPARSE)


def test_a_way_around_excuses_a_small_level(findings: Judge) -> None:
    assert findings("GEB107", around(wide=False)) == ()
    assert len(findings("GEB107", around(wide=True))) == 1


def test_the_image_is_averaged_before_it_is_seen(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.global_average(build.input((32, 32, 3)))
    (found,) = findings("GEB107", build.graph(build.dense(x, 10, "softmax"), loss=SPARSE))
    assert found.layers == ("globalaveragepooling2d",)


def test_a_stride_beyond_the_kernel_and_a_pointwise_shortcut(findings: Judge) -> None:
    def strided(kernel: int, strides: int) -> LayerGraph:
        build = GraphBuilder()
        x = build.conv(build.input((32, 32, 3)), 8, kernel, "relu", strides=strides)
        return build.graph(build.dense(build.flatten(x), 10, "softmax"), loss=SPARSE)

    assert len(findings("GEB107", strided(3, 4))) == 1
    assert findings("GEB107", strided(3, 3)) == findings("GEB107", strided(1, 2)) == ()


def test_nothing_left_is_an_error(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.add(Op.MAX_POOL, build.input((1, 1, 8)), kind="MaxPooling2D", shape=(None, 0, 0, 8))
    (found,) = findings("GEB107", build.graph(build.dense(build.flatten(x), 2), loss="mse"))
    assert found.severity is Severity.ERROR


def test_unknown_sizes_are_not_judged(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.add(
        Op.CONV,
        build.input((None, None, 3)),
        kind="Conv2D",
        shape=(None, None, None, 8),
        config={"kernel_size": [3, 3], "padding": "same"},
        weights=(build.weight("kernel", (3, 3, 3, 8), "glorot_uniform", (3,)),),
    )
    assert findings("GEB107", build.graph(x)) == ()
