"""GEB402: dropout on the raw input, on the prediction, or at a rate that leaves little."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder

from auditor.finding import Confidence, Severity
from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple]


def classifier(*, inputs: float = 0.0, hidden: float = 0.3, outputs: float = 0.0) -> LayerGraph:
    """A small CNN with dropout of these rates at three places."""
    build = GraphBuilder()
    x = build.input((16, 16, 3))
    if inputs:
        x = build.dropout(x, inputs)
    x = build.global_average(build.conv(x, 16, 3, "relu", kernel="he_normal"))
    x = build.dense(build.dropout(x, hidden), 10, "softmax")
    if outputs:
        x = build.dropout(x, outputs)
    return build.graph(x, loss="categorical_crossentropy")


def test_dropout_before_the_output_layer_is_where_it_belongs(findings: Judge) -> None:
    assert findings("GEB402", classifier()) == ()


def test_on_the_raw_image(findings: Judge) -> None:
    (found,) = findings("GEB402", classifier(inputs=0.25))
    assert found.layers == ("dropout",)
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert "25%" in found.message


def test_the_classic_input_rate_is_borne(findings: Judge) -> None:
    assert findings("GEB402", classifier(inputs=0.2)) == ()
    assert len(findings("GEB402", classifier(inputs=0.2), **{"input-rate": 0.1})) == 1


def test_on_the_prediction(findings: Judge) -> None:
    (found,) = findings("GEB402", classifier(outputs=0.5))
    assert found.layers == ("dropout_1",)
    assert "no layer with weights after" in found.message


def test_between_logits_and_softmax(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dropout(build.dense(build.input((8,)), 4), 0.1)
    graph = build.graph(build.activation(x, "softmax"), loss="categorical_crossentropy")
    assert findings("GEB402", graph)[0].layers == ("dropout",)


def test_fingerprints_tell_the_findings_apart(findings: Judge) -> None:
    found = findings("GEB402", classifier(inputs=0.8, hidden=0.8, outputs=0.8))
    assert [finding.layers for finding in found] == [("dropout",), ("dropout_1",), ("dropout_2",)]
    assert len({finding.fingerprint for finding in found}) == 3


@pytest.mark.parametrize(("rate", "count"), [(0.69, 0), (0.7, 1), (0.95, 1), (1.0, 1)])
def test_excessive_rate(findings: Judge, rate: float, count: int) -> None:
    assert len(findings("GEB402", classifier(hidden=rate))) == count


def test_denoising_autoencoder_masks_its_input_on_purpose(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dropout(build.input((784,)), 0.5)
    x = build.dense(build.dense(x, 128, "relu"), 784, "sigmoid")
    (found,) = findings("GEB402", build.graph(x, loss="binary_crossentropy"))
    assert found.severity is Severity.INFO


def test_flat_input_may_be_extracted_features(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.dropout(build.input((2048,)), 0.5), 10, "softmax")
    (found,) = findings("GEB402", build.graph(x, loss="categorical_crossentropy"))
    assert found.confidence is Confidence.LOW


def test_an_uncompiled_encoder_may_end_in_dropout(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dropout(build.dense(build.input((16,)), 32, "tanh"), 0.1)
    assert findings("GEB402", build.graph(x)) == ()


def test_dropout_on_embeddings_is_not_on_the_input(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dropout(build.embedding(build.input((20,), "int32"), 100, 16), 0.4)
    x = build.dense(build.lstm(x, 8), 1, "sigmoid")
    assert findings("GEB402", build.graph(x, loss="binary_crossentropy")) == ()


def test_a_rate_that_is_no_number_is_no_rate(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.add(Op.DROPOUT, build.input((8, 8, 3)), kind="Dropout", config={"rate": "0.9"})
    assert findings("GEB402", build.graph(build.conv(x, 4), loss="mean_squared_error")) == ()
