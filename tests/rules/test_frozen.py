"""Frozen layers: no gradient is needed there, so none is judged; their signal still counts."""

from builders import GraphBuilder, normal
from measured import probe

from auditor.finding import Severity
from auditor.graph.forecast import forecast
from auditor.graph.scale_spans import scale_spans
from auditor.measurement import CallMeasurement


def stack(activation: str, *, trainable: bool, normalized: bool, depth: int = 12, **dense):
    build = GraphBuilder()
    call = build.input((128,))
    for _ in range(depth):
        call = build.dense(call, 128, activation, trainable=trainable, **dense)
    if normalized:
        call = build.batch_norm(call)
    return build.graph(build.dense(call, 10, "softmax"), loss="sparse_categorical_crossentropy")


def test_saturating_stack_is_named_only_where_it_is_trained(findings) -> None:
    frozen = stack("sigmoid", trainable=False, normalized=True)
    assert findings("GEB201", frozen) == ()
    ((finding),) = findings("GEB201", stack("sigmoid", trainable=True, normalized=True))
    assert len(finding.layers) == 12


def test_only_the_trained_part_of_a_run_counts(findings) -> None:
    build = GraphBuilder()
    call = build.input((128,))
    for index in range(12):
        call = build.dense(call, 128, "sigmoid", trainable=index >= 9)
    graph = build.graph(build.dense(call, 10, "softmax"), loss="sparse_categorical_crossentropy")
    assert findings("GEB201", graph) == ()


def test_scale_of_frozen_layers_behind_a_normalization_is_nobodys_matter(findings) -> None:
    wide = {"kernel": normal(0.4), "activation": "relu"}
    assert findings("GEB302", stack(**wide, trainable=False, normalized=True)) == ()
    assert findings("GEB302", stack(**wide, trainable=True, normalized=True)) != ()


def test_frozen_signal_that_arrives_exploded_is_a_warning(findings) -> None:
    wide = {"kernel": normal(0.4), "activation": "relu"}
    (frozen,) = findings("GEB302", stack(**wide, trainable=False, normalized=False))
    (trained,) = findings("GEB302", stack(**wide, trainable=True, normalized=False))
    assert frozen.severity is Severity.WARNING
    assert "frozen" in frozen.message
    assert trained.severity is Severity.ERROR


def test_spans_are_parted_where_training_begins() -> None:
    build = GraphBuilder()
    call = build.input((64,))
    for index in range(6):
        call = build.dense(call, 64, "relu", kernel="he_normal", trainable=index >= 4)
    graph = build.graph(build.dense(call, 10, "softmax"), loss="sparse_categorical_crossentropy")
    frozen, learned = scale_spans(graph, forecast(graph))
    assert (len(frozen.layers), frozen.frozen) == (4, True)
    assert (len(learned.layers), learned.frozen) == (3, False)


def test_dead_frozen_layer_is_a_warning(findings) -> None:
    for trainable, severity in ((False, Severity.WARNING), (True, Severity.ERROR)):
        graph = stack("relu", trainable=trainable, normalized=False, depth=2)
        dead = probe(calls={"dense": CallMeasurement(dead_share=1.0)})
        (finding,) = findings("GEB205", graph, dead)
        assert finding.severity is severity
        assert ("frozen" in finding.message) is not trainable


def test_dead_features_of_a_frozen_layer_are_as_they_were_trained(findings) -> None:
    graph = stack("relu", trainable=False, normalized=False, depth=2)
    assert findings("GEB205", graph, probe(calls={"dense": CallMeasurement(dead_share=0.9)})) == ()
