"""GEB103: weights that no gradient reaches, and outputs that are frozen."""

from collections.abc import Callable

from builders import GraphBuilder

from auditor.finding import Severity
from auditor.graph import LayerGraph, LossSettings, Op

Judge = Callable[..., tuple]
SPARSE = "sparse_categorical_crossentropy"


def with_step(kind: str, op: Op = Op.ELEMENTWISE, loss: str | None = SPARSE) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 8, "relu")
    x = build.add(op, x, kind=kind)
    return build.graph(build.dense(x, 4, "softmax"), loss=loss)


def test_rounding_stops_the_gradient_and_sigmoid_does_not(findings: Judge) -> None:
    (found,) = findings("GEB103", with_step("Round"))
    assert found.severity is Severity.WARNING
    assert found.layers == ("dense", "round")
    assert findings("GEB103", with_step("Abs")) == ()


def test_a_gradient_stopped_by_name_is_meant(findings: Judge) -> None:
    (found,) = findings("GEB103", with_step("StopGradient"))
    assert found.severity is Severity.INFO


def test_an_uncompiled_model_is_not_trained(findings: Judge) -> None:
    assert findings("GEB103", with_step("Round", loss=None)) == ()


def two_heads(*outputs_with_loss: str) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 32, "relu")
    label = build.dense(x, 4, "softmax")
    box = build.dense(build.dense(x, 16, "relu"), 4)
    names = {"label": label, "box": box}
    losses = tuple(LossSettings(name="mse", output=names[name]) for name in outputs_with_loss)
    return build.graph(label, box, loss=losses)


def test_layers_of_an_output_without_a_loss(findings: Judge) -> None:
    (found,) = findings("GEB103", two_heads("label"))
    assert found.layers == ("dense_2", "dense_3")
    assert 'loss={"label"' in found.remedy
    assert findings("GEB103", two_heads("label", "box")) == ()


def test_losses_of_the_model_itself_are_not_in_the_file(findings: Judge) -> None:
    assert findings("GEB103", two_heads()) == ()


def test_features_shown_beside_the_prediction_are_trained_by_it(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((16,)), 32, "relu")
    y = build.dense(x, 4, "softmax")
    graph = build.graph(y, x, loss=(LossSettings(name=SPARSE, output=y),))
    assert findings("GEB103", graph) == ()


def classifier(*, body: bool = True, head: bool = True) -> LayerGraph:
    build = GraphBuilder()
    x = build.dense(build.input((64,)), 64, "relu", trainable=body)
    return build.graph(build.dense(x, 10, "softmax", trainable=head), loss=SPARSE)


def test_frozen_output_layer_of_random_values(findings: Judge) -> None:
    (found,) = findings("GEB103", classifier(head=False))
    assert found.severity is Severity.WARNING
    assert found.layers == ("dense_1",)
    assert findings("GEB103", classifier()) == ()


def test_random_features_are_for_information(findings: Judge) -> None:
    (found,) = findings("GEB103", classifier(body=False))
    assert found.severity is Severity.INFO
    assert "random initial values" in found.message


def test_all_frozen_is_another_rules_matter(findings: Judge) -> None:
    assert findings("GEB103", classifier(body=False, head=False)) == ()


def test_a_frozen_output_that_was_trained_is_kept(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((64,)), 64, "relu")
    x = build.dense(x, 10, "softmax", trainable=False, kernel=build.random.normal(0, 3, (64, 10)))
    assert findings("GEB103", build.graph(x, loss=SPARSE)) == ()


def test_what_no_output_depends_on_is_told(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((16,))
    build.dense(x, 8)
    (found,) = findings("GEB103", build.graph(build.dense(x, 4)))
    assert (found.severity, found.layers) == (Severity.INFO, ("dense",))


def test_the_type_of_an_embeddings_indices_stops_nothing(findings: Judge) -> None:
    """Files of Keras 1 state it where later ones state that of the values."""
    build = GraphBuilder()
    tokens = build.input((12,), "int32")
    table = build.weight("embeddings", (50, 8), "random_uniform")
    x = build.add(
        Op.EMBEDDING, tokens, kind="Embedding", shape=(None, 12, 8), weights=(table,), dtype="int32"
    )
    x = build.add(Op.AVERAGE_POOL, x, shape=(None, 6, 8), dtype="int32")
    x = build.dense(build.lstm(x, 8), 2, "softmax")
    assert findings("GEB103", build.graph(x, loss=SPARSE)) == ()
