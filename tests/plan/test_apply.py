"""Plans on live Keras models: by method and by the snippet, which must do the same."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from builders import GraphBuilder, normal
from keras import layers
from plan.plan_samples import compiled, finding, mlp, probe

from auditor.errors import UsageError
from auditor.graph import LayerGraph
from auditor.plan.make import make_plan
from auditor.plan.settings import Plan, Setting

# Keras reads the optimizer's rate by a numpy protocol that TensorFlow's variables have in part.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
DEPTH = 30


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Ten classes of 64 numbers each, well apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 512)
    x = rng.standard_normal((10, 64))[y] + 0.3 * rng.standard_normal((512, 64))
    return x.astype("float32"), y


def exploding_stack() -> keras.Model:
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=0.4, seed=1)
    hidden = [
        layers.Dense(64, "relu", kernel_initializer=wide, name=f"dense_{i}" if i else "dense")
        for i in range(DEPTH - 1)
    ]
    head = layers.Dense(10, "softmax", name=f"dense_{DEPTH - 1}")
    model = keras.Sequential([keras.Input((64,)), *hidden, head])
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def exploding_plan() -> Plan:
    """The plan for `exploding_stack`, as findings of the rules would make it."""
    graph = compiled(mlp(DEPTH, normal(0.4)), "sgd", 0.01, momentum=0.9)
    names = tuple(call.id for call in graph.calls if call.id.startswith("dense"))[:-1]
    accusations = (finding("GEB302", *names), finding("GEB501", names[0]))
    return make_plan(graph, accusations, None, probe(loss_at_start=1e9, step_slope=-1e25))


def last_loss(model: keras.Model, callbacks: list[Any], epochs: int = 15) -> float:
    x, y = blobs()
    history = model.fit(x, y, epochs=epochs, batch_size=32, verbose=0, callbacks=callbacks)
    return float(history.history["loss"][-1])


def by_method(plan: Plan, model: keras.Model) -> list[Any]:
    plan.adjust_layers(model)
    plan.compile(model)
    return plan.callbacks()


def by_snippet(plan: Plan, model: keras.Model) -> list[Any]:
    scope: dict[str, Any] = {"model": model}
    exec(compile(plan.snippet, "plan", "exec"), scope)  # noqa: S102
    return list(scope["callbacks"])


@pytest.mark.parametrize("applied", [by_method, by_snippet])
def test_exploding_stack_trains_after_the_plan(
    applied: Callable[[Plan, keras.Model], list[Any]],
) -> None:
    stopped = last_loss(exploding_stack(), [keras.callbacks.TerminateOnNaN()], epochs=2)
    assert not math.isfinite(stopped) or stopped > 2.0
    model = exploding_stack()
    callbacks = applied(exploding_plan(), model)
    assert last_loss(model, callbacks) < 0.5
    assert "accuracy" in model.get_metrics_result()


def test_snippet_and_methods_draw_the_same_weights() -> None:
    plan = exploding_plan()
    first, second = exploding_stack(), exploding_stack()
    by_method(plan, first)
    by_snippet(plan, second)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    configs = [{**model.optimizer.get_config(), "name": ""} for model in (first, second)]
    assert configs[0] == configs[1]


def test_redrawn_layers_have_weights_of_their_own() -> None:
    model = exploding_stack()
    exploding_plan().adjust_layers(model)
    first, second = model.layers[0].kernel.numpy(), model.layers[1].kernel.numpy()
    assert not np.array_equal(first, second)
    # Var w = 2/64, from 4096 draws: five standard errors of a variance
    assert first.var() == pytest.approx(2 / 64, rel=5 * math.sqrt(2 / first.size))


def healthy_cnn() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu", kernel_initializer="he_normal"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def cnn_graph() -> LayerGraph:
    build = GraphBuilder()
    call = build.conv(build.input((8, 8, 1)), 16, activation="relu", kernel="he_normal")
    return compiled(build.graph(build.dense(build.flatten(call), 10, "softmax")), "adam", 1e-3)


def test_healthy_model_trains_no_worse_with_its_plan() -> None:
    model = healthy_cnn()
    plan = make_plan(cnn_graph(), (), None, probe())
    declared = last_loss(healthy_cnn(), [], epochs=10)
    planned = last_loss(model, by_snippet(plan, model), epochs=10)
    # light decay is all the plan adds: a tenth of the loss is far more than it moves
    assert planned <= declared * 1.1 + 1e-3


def test_compile_keeps_loss_and_metrics_and_leaves_weights() -> None:
    model = healthy_cnn()
    before = model.get_weights()
    Plan(
        learning_rate=Setting(name="learning_rate", value=0.02),
        optimizer=Setting(name="optimizer", value="SGD", config={"momentum": 0.5}),
        clip=Setting(name="global_clipnorm", value=3.0),
    ).compile(model)
    optimizer = model.optimizer
    assert type(optimizer).__name__ == "SGD"
    assert float(optimizer.learning_rate) == pytest.approx(0.02)
    assert (optimizer.momentum, optimizer.global_clipnorm) == (0.5, 3.0)
    assert model.loss == "sparse_categorical_crossentropy"
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert last_loss(model, [], epochs=1) > 0
    assert "accuracy" in model.get_metrics_result()


def test_uncompiled_model_without_a_known_loss_is_told() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    plan = make_plan(mlp(), (), None, None)
    plan = Plan(learning_rate=plan.learning_rate, optimizer=plan.optimizer)
    with pytest.raises(UsageError, match="loss"):
        plan.compile(model)
    plan.compile(model, loss="mse")
    assert model.loss == "mse"


def test_schedule_goes_into_the_optimizer_and_not_into_callbacks() -> None:
    model = healthy_cnn()
    plan = make_plan(cnn_graph(), (), None, probe(step_curvature=1e9))
    plan.compile(model)
    assert [type(c).__name__ for c in plan.callbacks()] == ["TerminateOnNaN"]
    last_loss(model, plan.callbacks(), epochs=1)
    first = 1e-5
    assert float(model.optimizer.learning_rate) == pytest.approx(
        first + (1e-3 - first) * 16 / 1000, rel=0.01
    )


def test_layers_of_nested_models_and_wrappers_are_found() -> None:
    inner = keras.Sequential([keras.Input((8, 4)), layers.LSTM(6, name="lstm")], name="encoder")
    entry = keras.Input((8, 4))
    both = layers.Bidirectional(layers.GRU(5, name="gru"), name="both")(entry)
    model = keras.Model(entry, layers.Concatenate()([inner(entry), both]))
    recurrent = inner.get_layer("lstm").cell.recurrent_kernel
    recurrent.assign(np.zeros(recurrent.shape))
    Plan(
        initialization=(
            Setting(
                name="recurrent_initializer",
                value="orthogonal",
                layers=("encoder/lstm", "both/forward_gru"),
            ),
        )
    ).adjust_layers(model)
    drawn = recurrent.numpy()
    np.testing.assert_allclose(drawn @ drawn.T, np.eye(6), atol=1e-5)


def test_depthwise_kernel_is_found_by_its_keras_name() -> None:
    model = keras.Sequential([keras.Input((8, 8, 4)), layers.DepthwiseConv2D(3, name="d")])
    before = model.get_weights()[0]
    Plan(
        initialization=(
            Setting(
                name="depthwise_initializer",
                value="truncated_normal",
                config={"mean": 0.0, "stddev": 9.0},
                layers=("d",),
            ),
        )
    ).adjust_layers(model)
    assert model.get_weights()[0].std() > 10 * before.std()


def test_dropout_rate_is_set() -> None:
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), layers.Dropout(0.9, name="drop"), layers.Dense(2)]
    )
    Plan(regularization=(Setting(name="dropout_rate", value=0.5, layers=("drop",)),)).adjust_layers(
        model
    )
    assert model.get_layer("drop").rate == 0.5


def test_plan_for_another_model_is_told_before_anything_changes() -> None:
    model = healthy_cnn()
    before = model.get_weights()
    with pytest.raises(UsageError, match="no layer 'dense'"):
        exploding_plan().adjust_layers(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
