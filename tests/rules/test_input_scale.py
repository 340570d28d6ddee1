"""GEB701: inputs as the first weights get them."""

import numpy as np
import pytest
from builders import GraphBuilder
from surveyed import surveyed

from auditor.finding import Severity
from auditor.graph import Op

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (200, 8, 8, 3)).astype("uint8")
TABLE = RNG.normal(0, 1, (200, 4))


def images(*, scale=None, norm=False, activation="relu", kernel="he_normal", trainable=True):
    build = GraphBuilder()
    call = build.input((8, 8, 3))
    if scale is not None:
        config = {"scale": scale, "offset": 0.0}
        call = build.add(Op.SCALE, call, kind="Rescaling", config=config)
    call = build.conv(call, 8, activation=None if norm else activation, kernel=kernel)
    if norm:
        call = build.activation(build.batch_norm(call), "relu")
    if not trainable:
        from dataclasses import replace

        build.calls = [replace(c, trainable=c.op is not Op.CONV) for c in build.calls]
    call = build.dense(build.global_average(call), 4, "softmax")
    return build.graph(call, loss="sparse_categorical_crossentropy")


def table(loss="mean_squared_error"):
    build = GraphBuilder()
    return build.graph(build.dense(build.dense(build.input((4,)), 8, "relu"), 1), loss=loss)


@pytest.fixture
def told(findings):
    def of(model, x, y=None, **options):
        return findings("GEB701", model, None, surveyed(model, x, y), **options)

    return of


def test_bytes_are_named_and_scaled_ones_are_not(told) -> None:
    (finding,) = told(images(), BYTES)
    assert finding.severity is Severity.WARNING
    assert finding.layers == ("conv2d",)
    assert "x / 255.0" in finding.remedy
    assert told(images(), BYTES / 255.0) == ()
    assert told(images(scale=1 / 255), BYTES) == ()


def test_scaled_twice(told) -> None:
    (finding,) = told(images(scale=1 / 255), BYTES / 255.0)
    assert "scaled already" in finding.message
    assert "inputlayer" not in finding.remedy


def test_normalization_takes_the_scale_out(told) -> None:
    assert told(images(norm=True), BYTES) == ()
    (twice,) = told(images(norm=True, scale=1 / 255), BYTES / 255.0)
    assert "scaled already" in twice.message, "its epsilon is larger than that variance"


def test_trained_and_frozen_weights_are_not_judged(told) -> None:
    trained = np.full((3, 3, 3, 8), 0.3, np.float32)
    assert told(images(kernel=trained), BYTES) == ()
    assert told(images(trainable=False), BYTES) == ()
    (twice,) = told(images(kernel=trained, scale=1 / 255), BYTES / 255.0)
    assert "scaled already" in twice.message


def test_embeddings_take_numbers_of_words(told) -> None:
    build = GraphBuilder()
    call = build.embedding(build.input((10,), "int32"), 5000, 8)
    call = build.dense(build.flatten(call), 1, "sigmoid")
    model = build.graph(call, loss="binary_crossentropy")
    assert told(model, RNG.integers(0, 5000, (200, 10))) == ()


@pytest.mark.parametrize("kind", ["adapted", "fresh"])
def test_normalization_layers_are_read(told, kind) -> None:
    mean, variance = (500.0, 1e4) if kind == "adapted" else (0.0, 1.0)
    build = GraphBuilder()
    call = build.add(
        Op.SCALE,
        build.input((4,)),
        kind="Normalization",
        config={"mean": [mean] * 4, "variance": [variance] * 4},
    )
    model = build.graph(build.dense(call, 1), loss="mean_squared_error")
    assert len(told(model, 500 + 100 * TABLE)) == (kind == "fresh")


def test_unequal_features(told) -> None:
    x = TABLE * np.array([0.01, 0.02, 0.02, 15.0])
    (finding,) = told(table(), x)
    assert "column 3" in finding.message
    assert told(table(), TABLE * np.array([0.1, 1, 5, 9])) == ()
    assert told(table(), x, unequal=1e5) == ()


@pytest.mark.parametrize(
    ("x", "options", "fires"),
    [
        (9.0 * TABLE, {}, False),
        (11.0 * TABLE, {}, True),
        (11.0 * TABLE, {"large": 50.0}, False),
        (0.01 * TABLE, {}, False),
        (1e-3 * TABLE, {}, True),
        (1e-3 * TABLE, {"small": 1e-4}, False),
        (np.zeros((200, 4)), {}, False),
        (np.eye(4)[np.arange(200) % 4], {}, False),
        (TABLE > 0, {}, False),
    ],
)
def test_bounds(told, x, options, fires) -> None:
    assert bool(told(table(), x, **options)) is fires


def test_hopeless_scales_are_an_error_where_the_targets_are_small(told) -> None:
    x = TABLE + np.array([1e9, 0, 0, 0])
    (finding,) = told(table(), x, TABLE[:, :1])
    assert finding.severity is Severity.ERROR
    (large,) = told(table(), x, 1e8 * TABLE[:, :1])
    assert large.severity is Severity.WARNING
    (uncompiled,) = told(table(loss=None), x, TABLE[:, :1])
    assert uncompiled.severity is Severity.WARNING
