"""Training configurations as papers and textbooks have them: nothing is said of them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from builders import GraphBuilder
from compiled import measured, optimized

from auditor.graph import LayerGraph, LossSettings, Op

CATEGORICAL, BINARY = "categorical_crossentropy", "binary_crossentropy"
SQUARED = "mean_squared_error"
Model = Callable[[GraphBuilder], LayerGraph]
MODELS: dict[str, Model] = {}


def healthy(model: Model) -> Model:
    MODELS[model.__name__] = model
    return model


def block(b: GraphBuilder, x: str, filters: int = 16) -> str:
    return b.activation(b.batch_norm(b.conv(x, filters, kernel="he_normal")), "relu")


@healthy
def resnet_recipe(b: GraphBuilder) -> LayerGraph:
    """He et al. 2016: SGD with momentum, L2 as decay, the rate in stairs."""
    x = b.dense(b.global_average(block(b, block(b, b.input((16, 16, 3))))), 10, "softmax")
    graph = optimized(
        b.graph(x, loss=CATEGORICAL), "sgd", 0.1, momentum=0.9, nesterov=True, weight_decay=1e-4,
        schedule="PiecewiseConstantDecay",
        schedule_config={"boundaries": [32000, 48000], "values": [0.1, 0.01, 0.001]},
    )  # fmt: skip
    return measured(graph, "accuracy", "top_k_categorical_accuracy")


@healthy
def vgg_recipe(b: GraphBuilder) -> LayerGraph:
    """Simonyan, Zisserman 2015: dropout between the dense layers, L2 of 5e-4."""
    x = b.flatten(b.max_pool(b.conv(b.input((16, 16, 3)), 16, 3, "relu")))
    x = b.dropout(b.dense(x, 64, "relu"), 0.5)
    penalty = {"class_name": "L2", "config": {"l2": 5e-4}}
    b.calls = [
        replace(call, config={**call.config, "kernel_regularizer": penalty}) for call in b.calls
    ]
    graph = b.graph(b.dense(x, 10, "softmax"), loss=CATEGORICAL)
    return measured(optimized(graph, "sgd", 0.01, momentum=0.9), "accuracy")


@healthy
def batchnorm_blocks_with_dropout(b: GraphBuilder) -> LayerGraph:
    """Dense, batch normalization, activation, dropout, and again."""
    x = b.input((32,))
    for _ in range(3):
        x = b.activation(b.batch_norm(b.dense(x, 64, bias=None)), "relu")
        x = b.dropout(x, 0.5)
    return b.graph(b.dense(x, 5, "softmax"), loss=CATEGORICAL)


@healthy
def gpt_recipe(b: GraphBuilder) -> LayerGraph:
    """Brown et al. 2020: AdamW with a decay of 0.1, a clipped global norm, warm-up and cosine."""
    x = b.embedding(b.input((24,), "int32"), 100, 16)
    for _ in range(3):
        y = b.normalization(Op.LAYER_NORM, x)
        x = b.add(Op.ADD, x, b.add(Op.ATTENTION, y, y, kind="MultiHeadAttention"))
        y = b.dense(b.dense(b.normalization(Op.LAYER_NORM, x), 64, "gelu"), 16)
        x = b.add(Op.ADD, x, y)
    x = b.dense(b.normalization(Op.LAYER_NORM, x), 100)
    graph = b.graph(x, loss="sparse_categorical_crossentropy", from_logits=True)
    return optimized(
        graph, "adamw", 0.0, beta_1=0.9, beta_2=0.95, epsilon=1e-8, weight_decay=0.1,
        global_clipnorm=1.0, schedule="CosineDecay",
        schedule_config={"initial_learning_rate": 0.0, "decay_steps": 100_000,
                         "warmup_target": 6e-4, "warmup_steps": 2000, "alpha": 0.1},
    )  # fmt: skip


@healthy
def q_network(b: GraphBuilder) -> LayerGraph:
    """Mnih et al. 2015: one linear unit an action, a Huber loss, RMSprop."""
    x = b.dense(b.dense(b.input((8,)), 64, "relu"), 4)
    return optimized(b.graph(x, loss="huber"), "rmsprop", 2.5e-4, rho=0.95, epsilon=0.01)


@healthy
def least_squares_discriminator(b: GraphBuilder) -> LayerGraph:
    x = b.conv(b.input((16, 16, 3)), 16, 3, "leaky_relu", strides=2)
    x = b.dense(b.flatten(b.dropout(x, 0.3)), 1, "sigmoid")
    return optimized(b.graph(x, loss=SQUARED), "adam", 2e-4, beta_1=0.5, beta_2=0.999)


@healthy
def gradient_penalty_critic(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.flatten(b.conv(b.input((16, 16, 3)), 16, 3, "leaky_relu")), 1)
    return optimized(b.graph(x, loss=SQUARED), "adam", 1e-4, beta_1=0.0, beta_2=0.9)


@healthy
def sparse_autoencoder(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.input((64,)), 32, "relu")
    penalty = {"class_name": "L1", "config": {"l1": 1e-4}}
    b.calls[-1] = replace(b.calls[-1], config={"activity_regularizer": penalty})
    return b.graph(b.dense(x, 64, "sigmoid"), loss=BINARY)


@healthy
def fine_tuning(b: GraphBuilder) -> LayerGraph:
    """A frozen base with normalization, a new head at a low rate."""
    x = b.conv(b.input((16, 16, 3)), 16)
    x = b.activation(b.batch_norm(x), "relu")
    b.calls = [replace(call, trainable=False) for call in b.calls]
    x = b.dense(b.dropout(b.global_average(x), 0.2), 5, "softmax")
    graph = b.graph(x, loss=CATEGORICAL)
    return measured(optimized(graph, "adam", 1e-5, use_ema=True, ema_momentum=0.99), "accuracy")


@healthy
def projector(b: GraphBuilder) -> LayerGraph:
    """Self-supervised: the projection ends in batch normalization, and is compared by angle."""
    x = b.activation(b.batch_norm(b.dense(b.input((64,)), 64, bias=None)), "relu")
    return b.graph(b.batch_norm(b.dense(x, 32, bias=None)), loss="cosine_similarity")


@healthy
def detector(b: GraphBuilder) -> LayerGraph:
    """Boxes by Huber, objectness by a cross-entropy with logits."""
    x = block(b, block(b, b.input((16, 16, 3))))
    boxes, objects = b.conv(x, 4, 1), b.conv(x, 1, 1)
    losses = (
        LossSettings(name="huber", output=boxes),
        LossSettings(name="binary_focal_crossentropy", output=objects, from_logits=True),
    )
    return optimized(b.graph(boxes, objects, loss=losses), "sgd", 0.01, momentum=0.9)


@healthy
def speech(b: GraphBuilder) -> LayerGraph:
    x = b.lstm(b.lstm(b.input((200, 26)), 32, sequences=True), 32, sequences=True)
    return optimized(b.graph(b.dense(x, 28), loss="ctc"), "adam", 1e-4)


@healthy
def clipped_language_model(b: GraphBuilder) -> LayerGraph:
    """Zaremba et al. 2014: plain descent at 1.0, the global norm clipped at 5."""
    x = b.lstm(b.embedding(b.input((200,), "int32"), 100, 32), 32, sequences=True)
    x = b.dense(x, 100, "softmax")
    graph = b.graph(x, loss="sparse_categorical_crossentropy")
    return optimized(graph, "sgd", 1.0, global_clipnorm=5.0)


@healthy
def many_labels(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.dense(b.input((64,)), 64, "relu"), 14, "sigmoid")
    return measured(b.graph(x, loss=BINARY), "binary_accuracy", "auc", "precision", "f1_score")


@healthy
def segmentation(b: GraphBuilder) -> LayerGraph:
    x = b.conv(block(b, b.input((32, 32, 3))), 1, 1, "sigmoid")
    return measured(b.graph(x, loss="dice"), "accuracy", "binary_io_u")


@healthy
def unnormalized_unet(b: GraphBuilder) -> LayerGraph:
    """Ronneberger et al. 2015: 23 convolutions, none normalized."""
    x, skips = b.input((64, 64, 1)), []
    for filters in (8, 16, 32, 64):
        for _ in range(2):
            x = b.conv(x, filters, 3, "relu", kernel="he_normal")
        skips.append(x)
        x = b.max_pool(x)
    for _ in range(2):
        x = b.conv(x, 128, 3, "relu", kernel="he_normal")
    for filters in (64, 32, 16, 8):
        skip = skips.pop()
        shape = b.shape(skip)
        x = b.conv(b.add(Op.UPSAMPLE, x, shape=(*(shape or ())[:3], 2 * filters)), filters, 2)
        x = b.add(Op.CONCATENATE, skip, x, shape=(*(shape or ())[:3], 2 * filters))
        for _ in range(2):
            x = b.conv(x, filters, 3, "relu", kernel="he_normal")
    graph = b.graph(b.conv(x, 2, 1, "softmax"), loss="sparse_categorical_crossentropy")
    return optimized(graph, "sgd", 0.01, momentum=0.99)


@healthy
def mixed_precision(b: GraphBuilder) -> LayerGraph:
    x = b.dense(b.dense(b.input((64,)), 64, "relu"), 10, "softmax")
    graph = optimized(b.graph(x, loss=CATEGORICAL), "adam", 1e-3, epsilon=1e-7, loss_scaling=True)
    return replace(
        graph,
        calls=tuple(
            replace(call, dtype="float16") if call.id == "dense" else call for call in graph.calls
        ),
    )


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_said(name: str, complaints: Callable[[LayerGraph], list[str]]) -> None:
    assert complaints(MODELS[name](GraphBuilder())) == []


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_said_of_training_uncompiled(name: str, findings: Callable[..., tuple]) -> None:
    graph = replace(MODELS[name](GraphBuilder()), compile=None)
    for code in ("GEB404", "GEB405", "GEB407", "GEB603", "GEB604", "GEB606", "GEB609", "GEB610"):
        assert findings(code, graph) == ()
