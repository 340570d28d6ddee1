"""Patterns of healthy models, on which nothing at warning or above may be said."""

from collections.abc import Callable

import pytest
from builders import GraphBuilder, normal

from auditor.graph import LayerGraph, LossSettings, Op

CATEGORICAL, BINARY = "categorical_crossentropy", "binary_crossentropy"
SQUARED = "mean_squared_error"

Model = Callable[[GraphBuilder], LayerGraph]
MODELS: dict[str, Model] = {}


def healthy(model: Model) -> Model:
    MODELS[model.__name__] = model
    return model


@healthy
def squeezenet_head(b: GraphBuilder) -> LayerGraph:
    x = b.dropout(b.conv(b.input((32, 32, 3)), 64, 3, "relu"), 0.5)
    x = b.global_average(b.conv(x, 10, 1, "relu"))
    return b.graph(b.activation(x, "softmax"), loss=CATEGORICAL)


@healthy
def feature_extractor(b: GraphBuilder) -> LayerGraph:
    x = b.batch_norm(b.conv(b.input((32, 32, 3)), 64))
    return b.graph(b.max_pool(b.activation(x, "relu")))


@healthy
def flattened_encoder(b: GraphBuilder) -> LayerGraph:
    return b.graph(b.flatten(b.conv(b.input((8, 8, 3)), 4, 3, "relu")))


@healthy
def unit_embedding(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.dense(b.input((64,)), 128, "relu"), 32)
    return b.graph(b.add(Op.UNIT_NORM, x, kind="UnitNormalization"), loss=SQUARED)


@healthy
def siamese_similarity(b: GraphBuilder) -> LayerGraph:
    one = b.dense(b.input((64,)), 32, "relu")
    two = b.dense(b.input((64,)), 32, "relu")
    return b.graph(b.add(Op.DOT, one, two, shape=(None, 1)), loss=SQUARED)


@healthy
def siamese_distance(b: GraphBuilder) -> LayerGraph:
    one, two = b.dense(b.input((64,)), 32), b.dense(b.input((64,)), 32)
    apart = b.add(Op.ELEMENTWISE, b.add(Op.SUBTRACT, one, two), kind="Absolute")
    return b.graph(b.dense(apart, 1, "sigmoid"), loss=BINARY)


@healthy
def custom_head(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.input((64,)), 32, "relu")
    return b.graph(b.add(Op.OPAQUE, x, kind="Lambda"), loss=CATEGORICAL)


@healthy
def augmentation(b: GraphBuilder) -> LayerGraph:
    x = b.add(Op.AUGMENTATION, b.input((32, 32, 3)), kind="RandomFlip")
    return b.graph(b.add(Op.AUGMENTATION, x, kind="RandomRotation"))


@healthy
def adapted_normalization(b: GraphBuilder) -> LayerGraph:
    mean = b.weight("moving_mean", (4,), "zeros")
    return b.graph(b.add(Op.SCALE, b.input((4,)), kind="Normalization", weights=(mean,)))


@healthy
def logistic_regression(b: GraphBuilder) -> LayerGraph:
    return b.graph(b.dense(b.input((30,)), 1, "sigmoid"), loss=BINARY)


@healthy
def linear_regression(b: GraphBuilder) -> LayerGraph:
    return b.graph(b.dense(b.input((30,)), 1), loss=SQUARED)


@healthy
def segmentation(b: GraphBuilder) -> LayerGraph:
    x = b.conv(b.conv(b.input((32, 32, 3)), 16, 3, "relu"), 1, 1, "sigmoid")
    return b.graph(x, loss=BINARY)


@healthy
def segmentation_of_classes(b: GraphBuilder) -> LayerGraph:
    x = b.conv(b.conv(b.input((32, 32, 3)), 16, 3, "relu"), 5, 1, "softmax")
    return b.graph(x, loss="sparse_categorical_crossentropy")


@healthy
def autoencoder(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.dense(b.input((784,)), 128, "relu"), 32)
    return b.graph(b.dense(b.dense(x, 128, "relu"), 784, "sigmoid"), loss=BINARY)


@healthy
def linear_autoencoder(b: GraphBuilder) -> LayerGraph:
    return b.graph(b.dense(b.dense(b.input((784,)), 32), 784), loss=SQUARED)


@healthy
def inverted_residuals(b: GraphBuilder) -> LayerGraph:
    x = b.batch_norm(b.conv(b.input((32, 32, 3)), 16))
    for _ in range(4):
        y = b.activation(b.batch_norm(b.conv(x, 96, 1)), "relu6")
        y = b.activation(b.batch_norm(b.conv(y, 96, 3, depthwise=True)), "relu6")
        x = b.add(Op.ADD, x, b.batch_norm(b.conv(y, 16, 1)))
    return b.graph(b.dense(b.global_average(x), 10, "softmax"), loss=CATEGORICAL)


@healthy
def zero_gamma_residuals(b: GraphBuilder) -> LayerGraph:
    x = b.activation(b.batch_norm(b.conv(b.input((32, 32, 3)), 16)), "relu")
    for _ in range(8):
        y = b.activation(b.batch_norm(b.conv(x, 16, kernel="he_normal")), "relu")
        y = b.batch_norm(b.conv(y, 16, kernel="he_normal"), gamma="zeros")
        x = b.activation(b.add(Op.ADD, x, y), "relu")
    return b.graph(b.dense(b.global_average(x), 10, "softmax"), loss=CATEGORICAL)


@healthy
def squeeze_and_excite(b: GraphBuilder) -> LayerGraph:
    x = b.conv(b.input((16, 16, 3)), 32, 3, "relu")
    for _ in range(6):
        gate = b.dense(b.dense(b.global_average(x), 8, "relu"), 32, "sigmoid")
        x = b.add(Op.MULTIPLY, b.batch_norm(b.conv(x, 32, 3, "relu")), gate)
    return b.graph(b.dense(b.global_average(x), 10, "softmax"), loss=CATEGORICAL)


@healthy
def deep_vgg(b: GraphBuilder) -> LayerGraph:
    x = b.input((64, 64, 3))
    for filters, count in ((32, 2), (64, 2), (128, 3), (256, 3), (256, 3)):
        for _ in range(count):
            x = b.conv(x, filters, 3, "relu")
        x = b.max_pool(x)
    x = b.dense(b.dense(b.flatten(x), 512, "relu"), 512, "relu")
    return b.graph(b.dense(x, 10, "softmax"), loss=CATEGORICAL)


@healthy
def patches_and_mlp(b: GraphBuilder) -> LayerGraph:
    x = b.conv(b.input((32, 32, 3)), 64, 4, strides=4)
    x = b.add(Op.RESHAPE, x, shape=(None, 64, 64))
    for _ in range(6):
        y = b.dense(b.normalization(Op.LAYER_NORM, x), 128, "gelu")
        x = b.add(Op.ADD, x, b.dense(y, 64))
    x = b.add(Op.GLOBAL_AVERAGE_POOL, b.normalization(Op.LAYER_NORM, x), shape=(None, 64))
    return b.graph(b.dense(x, 10, "softmax"), loss=CATEGORICAL)


@healthy
def text_classifier(b: GraphBuilder) -> LayerGraph:
    x = b.embedding(b.input((None,), "int32"), 1000, 32)
    x = b.lstm(b.dropout(b.lstm(x, 32, sequences=True), 0.5), 16)
    return b.graph(b.dense(x, 1, "sigmoid"), loss=BINARY)


@healthy
def linear_critic(b: GraphBuilder) -> LayerGraph:
    x = b.input((32, 32, 3))
    for filters in (32, 64, 128):
        x = b.activation(
            b.conv(x, filters, 5, kernel=normal(0.02), strides=2), "leaky_relu", alpha=0.2
        )
    return b.graph(b.dense(b.dropout(b.flatten(x), 0.3), 1), loss=SQUARED)


@healthy
def tanh_network(b: GraphBuilder) -> LayerGraph:
    x = b.input((64,))
    for _ in range(8):
        x = b.dense(x, 64, "tanh")
    return b.graph(b.dense(x, 1), loss=SQUARED)


@healthy
def classifier_and_regressor(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.input((32,)), 64, "relu")
    label, size = b.dense(x, 5, "softmax"), b.dense(x, 1)
    losses = (
        LossSettings(name=CATEGORICAL, output=label),
        LossSettings(name=SQUARED, output=size),
    )
    return b.graph(label, size, loss=losses)


@healthy
def logits(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.dense(b.input((32,)), 64, "relu"), 5)
    return b.graph(x, loss=CATEGORICAL, from_logits=True)


@healthy
def policy_with_a_small_head(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.dense(b.input((16,)), 64, "tanh"), 64, "tanh")
    return b.graph(b.dense(x, 4, "tanh", kernel=normal(1e-4)))


@healthy
def counts(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.input((16,)), 64, "relu")
    return b.graph(b.dense(x, 1, "exponential"), loss="poisson")


@healthy
def ensemble(b: GraphBuilder) -> LayerGraph:
    x = b.input((16,))
    members = [b.dense(b.dense(x, 32, "relu"), 3, "softmax") for _ in range(3)]
    return b.graph(b.add(Op.AVERAGE, *members), loss=CATEGORICAL)


@pytest.mark.parametrize("values", [True, False], ids=["weights", "architecture"])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_said(
    name: str, values: bool, complaints: Callable[[LayerGraph], list[str]]
) -> None:
    assert complaints(MODELS[name](GraphBuilder(values=values))) == []
