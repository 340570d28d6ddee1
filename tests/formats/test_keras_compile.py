"""How models are compiled, as Keras saves it in both formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers, losses, metrics, optimizers
from keras.optimizers import schedules

from auditor.formats.keras_compile import compile_settings
from auditor.formats.read import read_model
from auditor.graph.compile_settings import CompileSettings, LossSettings
from auditor.graph.heads import loss_of, trained_by_loss
from auditor.graph.layer_graph import LayerGraph

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@keras.saving.register_keras_serializable("tests")
class Huber(losses.Loss):
    """A loss of one's own, under a name that Keras has too."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_true - y_pred


@keras.saving.register_keras_serializable("tests")
def difference(y_true: Any, y_pred: Any) -> Any:
    return y_true - y_pred


def two_outputs() -> keras.Model:
    entry = keras.Input((4,))
    x = layers.Dense(3)(entry)
    tail = keras.Sequential([keras.Input((3,)), layers.Dense(1, activation="sigmoid")], name="b")
    return keras.Model(entry, [layers.Dense(2, name="a")(x), tail(x)])


def one_output() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])


def saved(model: keras.Model, suffix: str, folder: Path) -> LayerGraph:
    path = folder / f"model{suffix}"
    model.save(path)
    return read_model(path).graph


def compiled(suffix: str, folder: Path, **settings: Any) -> CompileSettings:
    keras.utils.clear_session()
    model = one_output()
    model.compile(**settings)
    read = saved(model, suffix, folder).compile
    assert read is not None
    return read


BOTH = pytest.mark.parametrize("suffix", [".keras", ".h5"])


@BOTH
@pytest.mark.parametrize(
    "schedule",
    [
        schedules.CosineDecay(0.1, 100),
        schedules.CosineDecay(0.1, 100, warmup_target=0.5, warmup_steps=10),
        schedules.CosineDecayRestarts(0.1, 100),
        schedules.ExponentialDecay(0.1, 100, 0.9),
        schedules.InverseTimeDecay(0.1, 100, 0.5),
        schedules.PiecewiseConstantDecay([10, 20], [0.1, 0.2, 0.3]),
        schedules.PolynomialDecay(0.1, 100),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_schedules(schedule: Any, suffix: str, tmp_path: Path) -> None:
    own = optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    optimizer = compiled(suffix, tmp_path, optimizer=own, loss="mse").optimizer
    assert optimizer is not None
    assert (optimizer.name, optimizer.schedule) == ("sgd", type(schedule).__name__)
    assert optimizer.learning_rate == pytest.approx(float(schedule(0)))
    assert {**schedule.get_config(), **optimizer.schedule_config} == schedule.get_config()
    assert (optimizer.number("momentum"), optimizer.config["nesterov"]) == (0.9, True)


@BOTH
def test_every_optimizer_with_its_clipping(suffix: str, tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [
        {"clipnorm": 1.0}, {"clipvalue": 0.5}, {"global_clipnorm": 2.0}
    ]  # fmt: skip
    names = sorted(name for name in vars(optimizers) if name[0].isupper())
    # What stands around other optimizers.
    skipped = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}
    for index, name in enumerate(name for name in names if name not in skipped):
        setting = settings[index % 3]
        own = getattr(optimizers, name)(learning_rate=0.02, **setting)
        optimizer = compiled(suffix, tmp_path, optimizer=own, loss="mse").optimizer
        assert optimizer is not None
        assert (optimizer.name, optimizer.learning_rate) == (name.lower(), 0.02)
        assert {key: optimizer.number(key) for key in setting} == setting


@BOTH
def test_averaging_accumulation_and_decay(suffix: str, tmp_path: Path) -> None:
    own = optimizers.AdamW(
        1e-3, weight_decay=0.01, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=4
    )
    read = compiled(suffix, tmp_path, optimizer=own, loss="mse", jit_compile=False,
                    steps_per_execution=3)  # fmt: skip
    assert read.optimizer is not None
    config = read.optimizer.config
    assert (config["weight_decay"], config["use_ema"], config["ema_momentum"]) == (0.01, True, 0.9)
    assert config["gradient_accumulation_steps"] == 4
    assert (read.raw["jit_compile"], read.raw["steps_per_execution"]) == (False, 3)


@BOTH
def test_loss_scaling_is_looked_through(suffix: str, tmp_path: Path) -> None:
    own = optimizers.LossScaleOptimizer(optimizers.Adam(0.01, clipnorm=1.0))
    optimizer = compiled(suffix, tmp_path, optimizer=own, loss="mse").optimizer
    assert optimizer is not None
    assert (optimizer.name, optimizer.learning_rate) == ("adam", 0.01)
    assert optimizer.number("clipnorm") == 1.0


@BOTH
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", LossSettings(name="mean_squared_error")),
        (losses.Huber(delta=2.0), LossSettings(name="huber")),
        (losses.CategoricalCrossentropy(from_logits=True),
         LossSettings(name="categorical_crossentropy", from_logits=True)),
        (losses.sparse_categorical_crossentropy,
         LossSettings(name="sparse_categorical_crossentropy")),
        (Huber(), LossSettings(name="tests>Huber", custom=True)),
        (difference, LossSettings(name="tests>difference", custom=True)),
    ],
)  # fmt: skip
def test_losses(loss: Any, expected: LossSettings, suffix: str, tmp_path: Path) -> None:
    (read,) = compiled(suffix, tmp_path, optimizer="adam", loss=loss).losses
    assert (read.name, read.output, read.from_logits, read.custom) == (
        expected.name, None, expected.from_logits, expected.custom
    )  # fmt: skip


@BOTH
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"loss": "mse"}, {"a": "mean_squared_error", "b": "mean_squared_error"}),
        ({"loss": ["mse", "mae"]}, {"a": "mean_squared_error", "b": "mean_absolute_error"}),
        ({"loss": {"b": "bce", "a": losses.Huber()}}, {"a": "huber", "b": "binary_crossentropy"}),
        ({"loss": {"b": "bce"}}, {"a": None, "b": "binary_crossentropy"}),
        ({"loss": ["mse", None]}, {"a": "mean_squared_error", "b": None}),
        ({}, {"a": None, "b": None}),
    ],
)
def test_losses_of_several_outputs(
    given: dict[str, Any], expected: dict[str, str | None], suffix: str, tmp_path: Path
) -> None:
    keras.utils.clear_session()
    model = two_outputs()
    model.compile("adam", **given)
    graph = saved(model, suffix, tmp_path)
    read = {}
    for index, name in enumerate(model.output_names):
        loss = loss_of(graph, index)
        read[name] = None if loss is None else loss.name
    assert read == expected


@BOTH
def test_metrics_and_weights_of_losses(suffix: str, tmp_path: Path) -> None:
    keras.utils.clear_session()
    model = two_outputs()
    model.compile(
        "adam",
        {"a": "mse", "b": "bce"},
        loss_weights={"a": 0.3, "b": 2.0},
        metrics={"a": ["acc"], "b": [metrics.AUC(), metrics.MeanSquaredError(name="own")]},
        weighted_metrics={"b": "mae"},
    )
    read = saved(model, suffix, tmp_path).compile
    assert read is not None
    assert read.raw["loss_weights"] == {"a": 0.3, "b": 2.0}
    assert set(read.metrics) == {"accuracy", "auc", "mean_squared_error", "mean_absolute_error"}
    assert {loss.output: loss.weight for loss in read.losses} == {"a": 0.3, "b": 2.0}


@pytest.mark.parametrize(
    ("loss", "weights", "expected"),
    [
        ("mse", None, [1.0]),
        ("mse", 0.0, [0.0]),
        ("mse", [0.0, 0.0], [0.0]),
        ("mse", [0.0, 1.0], [1.0]),  # one loss, and one of its outputs counts
        (["mse", "mae"], [0.0, 2.0], [0.0, 2.0]),
        ({"a": "mse", "b": "mae"}, {"b": 0}, [1.0, 0.0]),
        ({"a": "mse", "b": "mae"}, {"b": "much"}, [1.0, 1.0]),
    ],
)
def test_weights_of_losses(loss: Any, weights: Any, expected: list[float]) -> None:
    settings = compile_settings({"optimizer": "adam", "loss": loss, "loss_weights": weights})
    assert settings is not None
    assert [one.weight for one in settings.losses] == expected


@BOTH
def test_outputs_in_a_dictionary(suffix: str, tmp_path: Path) -> None:
    keras.utils.clear_session()
    entry = keras.Input((4,))
    # Flattened by key: "alpha" comes first, though it was given last.
    ends = {
        "zeta": layers.Dense(3, activation="softmax", name="first")(entry),
        "alpha": layers.Dense(1, name="second")(entry),
    }
    model = keras.Model(entry, ends)
    model.compile(
        "adam",
        {"zeta": "sparse_categorical_crossentropy", "alpha": "mse"},
        loss_weights={"zeta": 0.0, "alpha": 2.0},
        metrics={"zeta": ["accuracy"], "alpha": ["mae"]},
    )
    graph = saved(model, suffix, tmp_path)
    assert [call for call, _ in graph.outputs] == ["second", "first"] == model.output_names
    read = [loss_of(graph, index) for index in range(2)]
    assert [(loss.name, loss.weight) for loss in read if loss is not None] == [
        ("mean_squared_error", 2.0),
        ("sparse_categorical_crossentropy", 0.0),
    ]
    assert [trained_by_loss(graph, index) for index in range(2)] == [True, False]
    assert graph.compile is not None
    assert {metric.output: metric.name for metric in graph.compile.metric_settings} == {
        "first": "accuracy",
        "second": "mean_absolute_error",
    }


@BOTH
def test_metrics_keep_their_settings_and_outputs(suffix: str, tmp_path: Path) -> None:
    keras.utils.clear_session()
    model = two_outputs()
    own = metrics.Precision(thresholds=[0.2])
    model.compile("adam", ["mse", "bce"], metrics=[["mae"], ["acc", own]])
    read = saved(model, suffix, tmp_path).compile
    assert read is not None
    assert [(metric.name, metric.output) for metric in read.metric_settings] == [
        ("mean_absolute_error", "a"), ("accuracy", "b"), ("precision", "b")
    ]  # fmt: skip
    assert read.metric_settings[2].config["thresholds"] == [0.2]
    assert read.metrics == ("mean_absolute_error", "accuracy", "precision")


@BOTH
def test_metrics_of_one_output_name_none(suffix: str, tmp_path: Path) -> None:
    read = compiled(suffix, tmp_path, optimizer="adam", loss="mse",
                    metrics=["acc", metrics.AUC(from_logits=True)])  # fmt: skip
    assert [(metric.name, metric.output) for metric in read.metric_settings] == [
        ("accuracy", None), ("auc", None)
    ]  # fmt: skip
    assert read.metric_settings[1].config["from_logits"] is True


@BOTH
def test_loss_scaling(suffix: str, tmp_path: Path) -> None:
    def scaling(optimizer: Any) -> bool | None:
        model = one_output()
        model.compile(optimizer, "mse")
        read = saved(model, suffix, tmp_path).compile
        assert read is not None
        assert read.optimizer is not None
        return read.optimizer.loss_scaling

    assert scaling(optimizers.Adam()) is False
    assert scaling(optimizers.Adam(loss_scale_factor=64.0)) is True
    assert scaling(optimizers.LossScaleOptimizer(optimizers.Adam())) is True
    before = keras.config.dtype_policy()
    try:
        # Keras wraps the optimizer, and writes the one it was given into the configuration.
        keras.config.set_dtype_policy("mixed_float16")
        assert scaling(optimizers.Adam()) is True
        keras.config.set_dtype_policy("mixed_bfloat16")
        assert scaling(optimizers.Adam()) is False
    finally:
        keras.config.set_dtype_policy(before)


@BOTH
def test_a_model_that_was_not_compiled(suffix: str, tmp_path: Path) -> None:
    assert saved(one_output(), suffix, tmp_path).compile is None
