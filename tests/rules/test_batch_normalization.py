"""GEB401, GEB403 and GEB404: what stands around batch normalization, and how it is set."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from builders import GraphBuilder
from keras import layers

from auditor import audit
from auditor.finding import Severity
from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple]
INTEGERS = "sparse_categorical_crossentropy"


def norm(
    build: GraphBuilder,
    source: str,
    *,
    trainable: bool = True,
    statistics: tuple[float, float] | None = None,
    **config: Any,
) -> str:
    """A batch normalization, its running mean and variance these numbers."""
    shape = build.shape(source)
    assert shape is not None
    width = (shape[-1],)
    weights = [build.weight("gamma", width, "ones"), build.weight("beta", width, "zeros")]
    if statistics is not None:
        mean, variance = (np.full(width, value, np.float32) for value in statistics)
        weights += [
            build.weight("moving_mean", width, mean),
            build.weight("moving_variance", width, variance),
        ]
    return build.add(
        Op.BATCH_NORM,
        source,
        kind="BatchNormalization",
        weights=tuple(weights),
        trainable=trainable,
        config={"axis": -1, "momentum": 0.99, "epsilon": 1e-3, **config},
    )


def classifier(build: GraphBuilder, x: str) -> LayerGraph:
    return build.graph(build.dense(build.activation(x, "relu"), 5, "softmax"), loss=INTEGERS)


def dropped(*between: Op, rate: float = 0.5, kind: str = "Dropout", **norms: Any) -> LayerGraph:
    """Dropout, what stands between, and batch normalization."""
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 16, "relu")
    x = build.add(Op.DROPOUT, x, kind=kind, config={"rate": rate})
    for op in between:
        x = build.dense(x, 16) if op is Op.DENSE else build.add(op, x, activation="relu")
    return classifier(build, norm(build, x, **norms))


@pytest.mark.parametrize("between", [(), (Op.ACTIVATION,), (Op.RESHAPE, Op.IDENTITY)])
def test_dropout_before_batchnorm(findings: Judge, between: tuple[Op, ...]) -> None:
    (found,) = findings("GEB401", dropped(*between))
    assert found.layers == ("dropout", "batchnormalization")
    assert found.severity is Severity.WARNING
    assert "50%" in found.message


def test_dropout_behind_batchnorm(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dropout(norm(build, build.dense(build.input((16,)), 16)), 0.5)
    assert findings("GEB401", classifier(build, x)) == ()


@pytest.mark.parametrize(
    "graph",
    [
        dropped(Op.DENSE),  # blocks of dense, norm, activation and dropout in a row
        dropped(rate=0.05),
        dropped(kind="AlphaDropout"),
        dropped(trainable=False),
    ],
    ids=["layer between", "low rate", "alpha", "frozen"],
)
def test_dropout_that_shifts_nothing(findings: Judge, graph: LayerGraph) -> None:
    assert findings("GEB401", graph) == ()


def test_stochastic_depth_ends_in_a_sum(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 16)
    x = build.add(Op.ADD, x, build.dropout(build.dense(x, 16), 0.2))
    assert findings("GEB401", classifier(build, norm(build, x))) == ()


def test_rate_is_an_option(findings: Judge) -> None:
    assert findings("GEB401", dropped(rate=0.2), rate=0.3) == ()
    assert len(findings("GEB401", dropped(rate=0.05), rate=0.01)) == 1


def biased(op: Op = Op.BATCH_NORM, *, bias: str | None = "zeros", **norms: Any) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 8, bias=bias)
    x = norm(build, x, **norms) if op is Op.BATCH_NORM else build.normalization(op, x)
    return classifier(build, x)


def test_a_bias_under_batchnorm_is_told_for_information(findings: Judge) -> None:
    (found,) = findings("GEB403", biased())
    assert found.severity is Severity.INFO
    assert found.layers == ("dense",)
    assert "8 weights" in found.message


def test_one_finding_for_a_whole_model(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((8, 8, 3))
    for _ in range(12):
        x = build.activation(build.batch_norm(build.conv(x, 4)), "relu")
    (found,) = findings("GEB403", classifier(build, build.global_average(x)))
    assert len(found.layers) == 12


@pytest.mark.parametrize(
    "graph",
    [
        biased(bias=None),
        biased(trainable=False),
        biased(Op.LAYER_NORM),
        biased(Op.GROUP_NORM),
        biased(Op.RMS_NORM),
        replace(biased(), format="onnx"),
    ],
    ids=["none", "frozen", "layer norm", "group norm", "rms norm", "onnx"],
)
def test_a_bias_that_acts_or_costs_nothing(findings: Judge, graph: LayerGraph) -> None:
    assert findings("GEB403", graph) == ()


def test_an_activation_between_keeps_the_bias(findings: Judge) -> None:
    build = GraphBuilder()
    x = norm(build, build.dense(build.input((16,)), 8, "relu"))
    assert findings("GEB403", classifier(build, x)) == ()


@pytest.mark.parametrize(
    ("momentum", "count"),
    [(0.0, 1), (0.1, 1), (0.49, 1), (0.5, 0), (0.9, 0), (0.999, 0), (0.9997, 0), (1.0, 1)],
)
def test_momentum(findings: Judge, momentum: float, count: int) -> None:
    found = findings("GEB404", biased(momentum=momentum))
    assert len(found) == count
    assert all("momentum" in one.message for one in found)


def test_momenta_are_options(findings: Judge) -> None:
    graph = biased(momentum=0.9)
    assert len(findings("GEB404", graph, **{"lowest-momentum": 0.95})) == 1
    assert len(findings("GEB404", graph, **{"highest-momentum": 0.8})) == 1


@pytest.mark.parametrize(("epsilon", "count"), [(1e-5, 0), (1e-2, 0), (0.1, 1), (1.0, 1)])
def test_epsilon(findings: Judge, epsilon: float, count: int) -> None:
    assert len(findings("GEB404", biased(epsilon=epsilon))) == count


@pytest.mark.parametrize(
    ("format_", "axis", "count"),
    [
        ("channels_last", -1, 0),
        ("channels_last", [3], 0),
        ("channels_last", 1, 1),
        ("channels_first", 1, 0),
        ("channels_first", -1, 1),
    ],
)
def test_axis_of_the_channels(findings: Judge, format_: str, axis: object, count: int) -> None:
    build = GraphBuilder()
    x = build.conv(build.input((8, 8, 3)), 8)
    build.calls[-1] = replace(
        build.calls[-1], config={**build.calls[-1].config, "data_format": format_}
    )
    x = build.global_average(norm(build, x, axis=axis))
    assert len(findings("GEB404", classifier(build, x))) == count


@pytest.mark.parametrize("wrapped", ["norm", "convolution"])
def test_a_wrapper_has_an_axis_of_its_own(findings: Judge, wrapped: str) -> None:
    build = GraphBuilder()
    x = build.conv(build.input((8, 8, 3)), 8)
    inner = {**build.calls[-1].config, "data_format": "channels_first"}
    if wrapped == "convolution":
        inner = {"layer": {"class_name": "Conv2D", "config": inner}}
    build.calls[-1] = replace(build.calls[-1], config=inner)
    config: dict[str, Any] = {"axis": 2}
    if wrapped == "norm":
        config = {"layer": {"class_name": "BatchNormalization", "config": config}}
    x = build.global_average(norm(build, x, **config))
    assert findings("GEB404", classifier(build, x)) == ()


def fixed_batch(graph: LayerGraph, size: int | None) -> LayerGraph:
    inputs = tuple(replace(spec, shape=(size, *(spec.shape or ())[1:])) for spec in graph.inputs)
    return replace(graph, inputs=inputs)


def test_a_batch_of_one_leaves_nothing_of_a_vector(findings: Judge) -> None:
    (found,) = findings("GEB404", fixed_batch(biased(), 1))
    assert found.severity is Severity.ERROR
    assert findings("GEB404", fixed_batch(biased(), 16)) == ()
    assert findings("GEB404", biased()) == ()


def test_a_batch_of_one_image_is_normalized_by_itself(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.global_average(norm(build, build.conv(build.input((8, 8, 3)), 8)))
    (found,) = findings("GEB404", fixed_batch(classifier(build, x), 1))
    assert found.severity is Severity.WARNING


def test_an_inference_export_with_a_batch_of_one(findings: Judge) -> None:
    assert findings("GEB404", fixed_batch(replace(biased(), compile=None), 1)) == ()


def test_frozen_statistics(findings: Judge) -> None:
    (found,) = findings("GEB404", biased(trainable=False, statistics=(0.0, 1.0)))
    assert "frozen" in found.message
    # Fine-tuning: the statistics are those of pretraining.
    assert findings("GEB404", biased(trainable=False, statistics=(0.1, 0.7))) == ()
    assert findings("GEB404", biased(statistics=(0.0, 1.0))) == ()


def test_a_frozen_backbone_with_random_weights(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 8, trainable=False)
    x = norm(build, x, trainable=False, statistics=(0.0, 1.0))
    assert findings("GEB404", classifier(build, x)) == ()


def test_normalized_probabilities(findings: Judge) -> None:
    build = GraphBuilder()
    x = norm(build, build.dense(build.input((16,)), 5, "softmax"))
    (found,) = findings("GEB404", build.graph(x, loss=INTEGERS))
    assert found.layers == ("dense", "batchnormalization")


def test_a_projector_ends_in_batchnorm(findings: Judge) -> None:
    build = GraphBuilder()
    x = norm(build, build.dense(build.input((16,)), 8, bias=None))
    assert findings("GEB404", build.graph(x, loss="mean_squared_error")) == ()


def test_settings_that_are_no_numbers(findings: Judge) -> None:
    graph = biased(momentum="0.1", epsilon=None, axis="last")
    assert findings("GEB404", graph) == ()


def test_saved_by_keras(tmp_path: Any) -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3),
            layers.Dropout(0.4),
            layers.BatchNormalization(axis=1, momentum=0.01),
            layers.ReLU(),
            layers.TimeDistributed(layers.Dense(4)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", INTEGERS)
    model.save(tmp_path / "model.keras")
    found = audit(tmp_path / "model.keras", probe=False, select=("GEB401", "GEB403", "GEB404"))
    assert [finding.code for finding in found.findings] == ["GEB401", "GEB404", "GEB404"]
