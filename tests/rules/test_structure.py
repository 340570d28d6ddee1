"""GEB101, GEB102, GEB104, GEB106: each with a smallest bad model and its mended twin."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder

from auditor.finding import Confidence, Severity
from auditor.graph import LayerGraph, LossSettings, Op

Judge = Callable[..., tuple]
CROSSENTROPY = "categorical_crossentropy"


def founding_case(loss: str | None = CROSSENTROPY) -> LayerGraph:
    """Dropout and ReLU, three times, on images."""
    build = GraphBuilder()
    x = build.input((32, 32, 3))
    for rate in (0.25, 0.5, 0.25):
        x = build.activation(build.dropout(x, rate), "relu")
    return build.graph(x, loss=loss)


def mended_case() -> LayerGraph:
    build = GraphBuilder()
    x = build.conv(build.input((32, 32, 3)), 16, 3, "relu", kernel="he_normal")
    x = build.dropout(build.global_average(x), 0.25)
    return build.graph(build.dense(x, 10, "softmax"), loss=CROSSENTROPY)


@pytest.mark.parametrize("loss", [CROSSENTROPY, None])
def test_founding_case_has_nothing_to_train(findings: Judge, loss: str | None) -> None:
    for code in ("GEB101", "GEB102"):
        (found,) = findings(code, founding_case(loss))
        assert found.severity is Severity.ERROR
        assert found.confidence is Confidence.HIGH
    (idle,) = findings("GEB106", founding_case(loss))
    assert idle.severity is Severity.INFO
    assert idle.layers == ("activation_1", "activation_2")
    (dropout,) = findings("GEB402", founding_case(loss))
    assert dropout.severity is Severity.WARNING
    assert "Nor does any layer with weights come after" in dropout.message


def test_mended_case_is_clean(complaints: Callable[..., list[str]]) -> None:
    assert complaints(mended_case()) == []


def test_output_without_a_kernel_says_what_stands_between(findings: Judge) -> None:
    (found,) = findings("GEB101", founding_case())
    assert "(32, 32, 3)" in found.message
    assert "Activation, Dropout" in found.message
    assert "keras.layers.Dense" in found.remedy


def test_one_formed_output_does_not_excuse_the_other(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((8,))
    good, bad = build.dense(x, 3, "softmax"), build.activation(x, "softmax")
    losses = tuple(LossSettings(name=CROSSENTROPY, output=name) for name in (good, bad))
    (found,) = findings("GEB101", build.graph(good, bad, loss=losses))
    assert found.layers == (bad,)
    # Without a loss the second output is a passenger, such as a mask or an attention map.
    assert findings("GEB101", build.graph(good, bad, loss=losses[:1])) == ()


def test_features_under_a_classification_loss(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.conv(build.input((8, 8, 3)), 4, 3, "relu")
    flat = build.flatten(x)
    (found,) = findings("GEB101", build.graph(flat, loss=CROSSENTROPY))
    assert found.severity is Severity.WARNING
    assert "(256,)" in found.message
    assert findings("GEB101", build.graph(flat, loss="mean_squared_error")) == ()
    assert findings("GEB101", build.graph(flat)) == ()
    mended = build.graph(build.dense(flat, 10, "softmax"), loss=CROSSENTROPY)
    assert findings("GEB101", mended) == ()


def test_preprocessing_has_nothing_to_train_and_need_not(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.add(Op.SCALE, build.input((32, 32, 3)), config={"scale": 1 / 255})
    x = build.add(Op.AUGMENTATION, x, kind="RandomFlip")
    graph = build.graph(x)
    assert findings("GEB101", graph) == findings("GEB102", graph) == ()
    compiled = build.graph(x, loss="mean_squared_error")
    assert findings("GEB102", compiled)[0].severity is Severity.ERROR


@pytest.mark.parametrize(
    ("weights", "fires"), [((0.0, 0.0), True), ((0.0, 1.0), False), ((1.0, 1.0), False)]
)
def test_weights_of_all_losses(findings: Judge, weights: tuple[float, float], fires: bool) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((8,)), 8, "relu")
    ends = build.dense(x, 1), build.dense(x, 2)
    losses = tuple(
        LossSettings(name="mean_squared_error", output=end, weight=weight)
        for end, weight in zip(ends, weights, strict=True)
    )
    found = findings("GEB102", build.graph(*ends, loss=losses))
    assert [finding.severity for finding in found] == ([Severity.ERROR] if fires else [])


def test_opaque_layers_may_hold_what_is_learned(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.add(Op.OPAQUE, build.input((8,)), kind="MyLayer")
    graph = build.graph(x, loss="mean_squared_error")
    assert findings("GEB101", graph) == ()
    (found,) = findings("GEB102", graph)
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.LOW)


def test_all_frozen(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dense(build.input((8,)), 4, "softmax", trainable=False)
    (found,) = findings("GEB102", build.graph(x, loss=CROSSENTROPY))
    assert found.severity is Severity.WARNING
    assert "36" in found.message
    assert findings("GEB102", build.graph(x)) == ()
    thawed = build.dense(x, 4, "softmax")
    assert findings("GEB102", build.graph(thawed, loss=CROSSENTROPY)) == ()


def linear_stack(activation: str | None) -> LayerGraph:
    build = GraphBuilder()
    x = build.input((784,))
    x = build.dense(build.dense(x, 256, activation), 128, activation)
    return build.graph(build.dense(x, 10, "softmax"), loss=CROSSENTROPY)


def test_linear_stack_and_its_twin(findings: Judge) -> None:
    (found,) = findings("GEB104", linear_stack(None))
    assert found.severity is Severity.WARNING
    assert found.confidence is Confidence.HIGH
    assert found.layers == ("dense", "dense_1", "dense_2")
    assert findings("GEB104", linear_stack("relu")) == ()


def test_dropout_does_not_make_a_stack_nonlinear(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.dropout(build.dense(build.input((64,)), 64), 0.5)
    (found,) = findings("GEB104", build.graph(build.dense(x, 10, "softmax")))
    assert found.confidence is Confidence.MEDIUM


def test_convolutions_without_activation(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.conv(build.conv(build.input((16, 16, 3)), 16), 32, 3, "relu")
    assert findings("GEB104", build.graph(x))[0].layers == ("conv2d", "conv2d_1")
    build = GraphBuilder()
    x = build.conv(build.conv(build.input((16, 16, 3)), 16, 3, "relu"), 32, 3, "relu")
    assert findings("GEB104", build.graph(x)) == ()


def test_runs_make_one_finding(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.input((32,))
    for _ in range(3):
        x = build.dense(build.dense(x, 32), 32, "relu")
    (found,) = findings("GEB104", build.graph(x))
    assert len(found.layers) == 6
    assert "3 such runs" in found.message


def bottleneck(build: GraphBuilder) -> str:
    return build.dense(build.dense(build.input((128,)), 32), 128, "relu")


def separable(build: GraphBuilder) -> str:
    x = build.conv(build.input((16, 16, 8)), 8, 3, depthwise=True)
    return build.conv(x, 16, 1, "relu")


def inverted_residual(build: GraphBuilder) -> str:
    x = build.batch_norm(build.conv(build.input((16, 16, 32)), 16, 1))
    return build.activation(build.batch_norm(build.conv(x, 96, 1)), "relu6")


def patch_embedding(build: GraphBuilder) -> str:
    x = build.conv(build.input((32, 32, 3)), 64, 8, strides=8)
    x = build.add(Op.RESHAPE, x, shape=(None, 16, 64))
    return build.dense(x, 128, "gelu")


def two_readers(build: GraphBuilder) -> str:
    x = build.dense(build.input((32,)), 32)
    return build.add(Op.ADD, build.dense(x, 32), x)


def frozen_projection(build: GraphBuilder) -> str:
    return build.dense(build.dense(build.input((32,)), 64, trainable=False), 10, "softmax")


def per_token_mixing(build: GraphBuilder) -> str:
    x = build.dense(build.input((16, 32)), 32)
    x = build.add(Op.PERMUTE, x, shape=(None, 32, 16))
    return build.dense(x, 16, "relu")


@pytest.mark.parametrize(
    "model",
    [
        bottleneck,
        separable,
        inverted_residual,
        patch_embedding,
        two_readers,
        frozen_projection,
        per_token_mixing,
    ],
)
def test_linear_on_purpose(findings: Judge, model: Callable[[GraphBuilder], str]) -> None:
    build = GraphBuilder()
    assert findings("GEB104", build.graph(model(build))) == ()


def test_relu_of_what_is_never_negative(findings: Judge) -> None:
    def graph(*between: str) -> LayerGraph:
        build = GraphBuilder()
        x = build.dense(build.input((8,)), 8, "relu")
        for name in between:
            x = build.dropout(x, 0.5) if name == "dropout" else build.batch_norm(x)
        return build.graph(build.activation(x, "relu"))

    assert findings("GEB106", graph())[0].severity is Severity.INFO
    assert findings("GEB106", graph("dropout"))[0].layers == ("activation",)
    assert findings("GEB106", graph("batch_norm")) == ()


def test_an_activation_that_clips_is_not_idle(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.activation(build.dense(build.input((8,)), 8, "relu"), "relu", max_value=1.0)
    assert findings("GEB106", build.graph(x)) == ()
    leaky = build.activation(build.dense(x, 8), "relu", negative_slope=0.1)
    assert findings("GEB106", build.graph(build.activation(leaky, "relu"))) == ()


def test_softmax_twice(findings: Judge) -> None:
    build = GraphBuilder()
    once = build.dense(build.input((8,)), 10, "softmax")
    (found,) = findings("GEB106", build.graph(build.activation(once, "softmax"), loss=CROSSENTROPY))
    assert found.severity is Severity.ERROR
    # e / (e + 9)
    assert "0.23" in found.message
    assert findings("GEB106", build.graph(once, loss=CROSSENTROPY)) == ()


def test_softmax_along_two_axes_is_a_matching(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.activation(build.dense(build.input((4, 8)), 4), "softmax", axis=1)
    assert findings("GEB106", build.graph(build.activation(x, "softmax", axis=2))) == ()


def test_sigmoid_twice(findings: Judge) -> None:
    build = GraphBuilder()
    x = build.activation(build.dense(build.input((8,)), 1, "sigmoid"), "sigmoid")
    (found,) = findings("GEB106", build.graph(x))
    assert found.severity is Severity.WARNING
