"""Mistakes in the data, or in how they go with the model: all seen without a probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from mistakes import Mistake

Array = np.ndarray[Any, Any]
SAMPLES = 240
CLASSES = 5


def drawn(*shape: int, samples: int = SAMPLES) -> Array:
    """Standard normal samples."""
    return np.random.default_rng(7).standard_normal((samples, *shape)).astype(np.float32)


def pixels(*shape: int) -> Array:
    """Samples of bytes."""
    return np.random.default_rng(8).integers(0, 256, (SAMPLES, *shape)).astype(np.uint8)


def numbers(classes: int = CLASSES, samples: int = SAMPLES) -> Array:
    """Class numbers, each class as often as any other."""
    return (np.arange(samples) * 7 % classes).astype(np.int64)


def rows(classes: int = CLASSES) -> Array:
    """The same classes, one-hot."""
    return np.eye(classes, dtype=np.float32)[numbers(classes)]


def prices() -> Array:
    """Tens to hundreds of thousands."""
    return np.exp(12 + 0.5 * drawn(1)).astype(np.float32)


def standard(values: Array) -> Array:
    """Zero mean and unit variance in every column."""
    return ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)


def net(
    units: int,
    activation: str | None,
    *,
    shape: tuple[int, ...] = (12,),
    loss: Any,
    first: Callable[[], keras.Layer] | None = None,
) -> Callable[[], keras.Model]:
    """A small net with this head, and something before its first layer or not."""

    def make() -> keras.Model:
        body = [first()] if first is not None else []
        flat = [layers.Flatten()] if len(shape) > 1 else []
        model = keras.Sequential(
            [
                keras.Input(shape),
                *body,
                *flat,
                layers.Dense(16, activation="relu", kernel_initializer="he_normal"),
                layers.Dense(units, activation=activation),
            ]
        )
        model.compile("adam", loss)
        return model

    return make


def of(*make: Callable[[], keras.Layer], shape: tuple[int, ...], loss: str) -> Any:
    """A model of these layers, made anew each time."""

    def build() -> keras.Model:
        model = keras.Sequential([keras.Input(shape), *(layer() for layer in make)])
        model.compile("adam", loss)
        return model

    return build


def both(make: Callable[[], keras.Model]) -> dict[str, Any]:
    """The same model on both sides: the mistake is in the data."""
    return {"broken": make, "mended": make}


def given(x: Callable[[], Array], y: Callable[[], Array]) -> Callable[[], tuple[Array, Array]]:
    """Arrays made when they are needed."""
    return lambda: (x(), y())


def table(*scales: float) -> Array:
    """A table whose columns have these standard deviations."""
    return drawn(len(scales)) * np.array(scales, np.float32)


SPARSE, ROWS = "sparse_categorical_crossentropy", "categorical_crossentropy"
BINARY, SQUARED = "binary_crossentropy", "mean_squared_error"

sparse = net(CLASSES, "softmax", loss=SPARSE)
by_rows = net(CLASSES, "softmax", loss=ROWS)
binary = net(1, "sigmoid", loss=BINARY)
linear = net(1, None, loss=SQUARED)


def features() -> Array:
    """What most of these models take."""
    return drawn(12)


LABELS = (
    Mistake(
        name="one_hot_rows_for_sparse_cross_entropy",
        **both(sparse),
        code="GEB703",
        data=given(features, rows),
        mended_data=given(features, numbers),
    ),
    Mistake(
        name="class_numbers_for_categorical_cross_entropy",
        **both(by_rows),
        code="GEB703",
        data=given(features, numbers),
        mended_data=given(features, rows),
    ),
    Mistake(
        name="class_numbers_in_a_column_for_categorical_cross_entropy",
        broken=by_rows,
        mended=sparse,
        code="GEB703",
        data=given(features, lambda: numbers()[:, None]),
    ),
    Mistake(
        name="labels_start_at_one",
        **both(sparse),
        code="GEB703",
        data=given(features, lambda: numbers() + 1),
        mended_data=given(features, numbers),
    ),
    Mistake(
        name="minus_one_for_unknown",
        **both(sparse),
        code="GEB703",
        data=given(features, lambda: np.where(np.arange(SAMPLES) % 9 == 0, -1, numbers())),
        mended_data=given(features, numbers),
    ),
    Mistake(
        name="minus_one_without_ignore_class",
        broken=sparse,
        mended=net(
            CLASSES,
            "softmax",
            loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=-1),
        ),
        code="GEB703",
        data=given(features, lambda: np.where(np.arange(SAMPLES) % 9 == 0, -1, numbers())),
    ),
    Mistake(
        name="fractions_for_class_numbers",
        **both(sparse),
        code="GEB703",
        data=given(features, lambda: numbers() / CLASSES),
        mended_data=given(features, numbers),
    ),
    Mistake(
        name="plus_and_minus_one_for_binary_cross_entropy",
        **both(binary),
        code="GEB703",
        data=given(features, lambda: 2.0 * numbers(2) - 1.0),
        mended_data=given(features, lambda: numbers(2)),
    ),
    Mistake(
        name="plus_and_minus_one_without_the_hinge_loss",
        broken=binary,
        mended=net(1, None, loss="hinge"),
        code="GEB703",
        data=given(features, lambda: 2.0 * numbers(2) - 1.0),
    ),
    Mistake(
        name="one_and_two_for_binary_cross_entropy",
        **both(binary),
        code="GEB703",
        data=given(features, lambda: numbers(2) + 1),
        mended_data=given(features, lambda: numbers(2)),
    ),
    Mistake(
        name="text_labels",
        **both(sparse),
        code="GEB703",
        data=given(features, lambda: np.array(["cat", "dog", "eel", "fox", "gnu"])[numbers()]),
        mended_data=given(features, numbers),
    ),
    Mistake(
        name="several_labels_a_sample_for_categorical_cross_entropy",
        broken=by_rows,
        mended=net(CLASSES, "sigmoid", loss=BINARY),
        code="GEB703",
        data=given(features, lambda: np.clip(rows() + np.roll(rows(), 1, axis=1), 0, 1)),
    ),
    Mistake(
        name="numbers_for_two_softmax_units_under_binary_cross_entropy",
        broken=net(2, "sigmoid", loss=BINARY),
        mended=binary,
        code="GEB703",
        data=given(features, lambda: numbers(2)),
    ),
    Mistake(
        name="hinge_with_class_numbers",
        broken=net(1, "tanh", loss="hinge"),
        mended=net(3, "softmax", loss=SPARSE),
        code="GEB703",
        data=given(features, lambda: numbers(3)),
    ),
    Mistake(
        name="one_label_for_a_whole_sequence",
        broken=of(
            lambda: layers.LSTM(8, return_sequences=True),
            lambda: layers.Dense(1),
            shape=(10, 4),
            loss=SQUARED,
        ),
        mended=of(lambda: layers.LSTM(8), lambda: layers.Dense(1), shape=(10, 4), loss=SQUARED),
        code="GEB703",
        data=given(lambda: drawn(10, 4), lambda: drawn(1)),
    ),
    Mistake(
        name="one_class_for_every_pixel",
        broken=of(
            lambda: layers.Conv2D(8, 3, activation="relu"),
            lambda: layers.Dense(CLASSES, activation="softmax"),
            shape=(8, 8, 1),
            loss=SPARSE,
        ),
        mended=of(
            lambda: layers.Conv2D(8, 3, activation="relu"),
            lambda: layers.GlobalAveragePooling2D(),
            lambda: layers.Dense(CLASSES, activation="softmax"),
            shape=(8, 8, 1),
            loss=SPARSE,
        ),
        code="GEB703",
        data=given(lambda: drawn(8, 8, 1), numbers),
    ),
)

UNITS = (
    Mistake(
        name="one_unit_too_few",
        broken=net(CLASSES - 1, "softmax", loss=SPARSE),
        mended=sparse,
        code="GEB108",
        data=given(features, numbers),
    ),
    Mistake(
        name="ten_units_for_a_hundred_classes",
        broken=net(10, "softmax", loss=SPARSE),
        mended=net(100, "softmax", loss=SPARSE),
        code="GEB108",
        data=given(features, lambda: numbers(100)),
    ),
    Mistake(
        name="rows_wider_than_the_output",
        broken=net(CLASSES - 2, "softmax", loss=ROWS),
        mended=by_rows,
        code="GEB108",
        data=given(features, rows),
    ),
    Mistake(
        name="three_classes_for_one_sigmoid",
        broken=binary,
        mended=net(3, "softmax", loss=SPARSE),
        code="GEB108",
        data=given(features, lambda: numbers(3)),
    ),
    Mistake(
        name="one_hot_rows_for_one_sigmoid",
        broken=binary,
        mended=net(2, "softmax", loss=ROWS),
        code="GEB108",
        data=given(features, lambda: rows(2)),
    ),
    Mistake(
        name="three_numbers_for_one_unit",
        broken=linear,
        mended=net(3, None, loss=SQUARED),
        code="GEB108",
        data=given(features, lambda: drawn(3)),
    ),
    Mistake(
        name="one_number_for_three_units",
        broken=net(3, None, loss=SQUARED),
        mended=linear,
        code="GEB108",
        data=given(features, lambda: drawn(1)),
    ),
    Mistake(
        name="autoencoder_smaller_than_its_images",
        broken=of(
            lambda: layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            lambda: layers.Conv2D(1, 3, padding="same"),
            shape=(16, 16, 1),
            loss=SQUARED,
        ),
        mended=of(
            lambda: layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            lambda: layers.Conv2DTranspose(1, 3, strides=2, padding="same"),
            shape=(16, 16, 1),
            loss=SQUARED,
        ),
        code="GEB108",
        data=given(lambda: drawn(16, 16, 1), lambda: drawn(16, 16, 1)),
    ),
)

RANGES = (
    Mistake(
        name="prices_for_a_sigmoid",
        broken=net(1, "sigmoid", loss=SQUARED),
        mended=linear,
        code="GEB702",
        data=given(features, lambda: np.log(prices())),
    ),
    Mistake(
        name="standardized_targets_for_a_sigmoid",
        broken=net(1, "sigmoid", loss=SQUARED),
        mended=linear,
        code="GEB702",
        data=given(features, lambda: standard(prices())),
    ),
    Mistake(
        name="standardized_targets_for_relu",
        broken=net(1, "relu", loss="mean_absolute_error"),
        mended=net(1, None, loss="mean_absolute_error"),
        code="GEB702",
        data=given(features, lambda: drawn(1)),
    ),
    Mistake(
        name="standardized_targets_for_softplus",
        broken=net(1, "softplus", loss=SQUARED),
        mended=linear,
        code="GEB702",
        data=given(features, lambda: drawn(1)),
    ),
    Mistake(
        name="targets_beyond_tanh",
        **both(net(1, "tanh", loss=SQUARED)),
        code="GEB702",
        data=given(features, lambda: 5 * drawn(1)),
        mended_data=given(features, lambda: np.tanh(drawn(1))),
    ),
    Mistake(
        name="regression_through_softmax",
        broken=net(3, "softmax", loss=SQUARED),
        mended=net(3, None, loss=SQUARED),
        code="GEB702",
        data=given(features, lambda: drawn(3)),
    ),
    Mistake(
        name="bytes_for_a_sigmoid_decoder",
        **both(net(12, "sigmoid", loss=SQUARED)),
        code="GEB702",
        data=given(features, lambda: pixels(12)),
        mended_data=given(features, lambda: pixels(12) / 255.0),
    ),
    Mistake(
        name="bytes_under_binary_cross_entropy",
        **both(net(12, "sigmoid", loss=BINARY)),
        code="GEB702",
        data=given(features, lambda: pixels(12)),
        mended_data=given(features, lambda: pixels(12) / 255.0),
    ),
    Mistake(
        name="masks_of_0_and_255",
        broken=of(
            lambda: layers.Conv2D(4, 3, padding="same", activation="relu"),
            lambda: layers.Conv2D(1, 1, activation="sigmoid"),
            shape=(8, 8, 1),
            loss=BINARY,
        ),
        mended=of(
            lambda: layers.Conv2D(4, 3, padding="same", activation="relu"),
            lambda: layers.Conv2D(1, 1, activation="sigmoid"),
            shape=(8, 8, 1),
            loss=BINARY,
        ),
        code="GEB702",
        data=given(lambda: drawn(8, 8, 1), lambda: (pixels(8, 8, 1) > 99).astype("uint8") * 255),
        mended_data=given(lambda: drawn(8, 8, 1), lambda: pixels(8, 8, 1) > 99),
    ),
    Mistake(
        name="percentages_under_binary_cross_entropy",
        **both(binary),
        code="GEB702",
        data=given(features, lambda: np.random.default_rng(1).uniform(0, 100, SAMPLES)),
        mended_data=given(features, lambda: np.random.default_rng(1).uniform(0, 1, SAMPLES)),
    ),
    Mistake(
        name="negative_counts_under_poisson",
        **both(net(1, "exponential", loss="poisson")),
        code="GEB702",
        data=given(features, lambda: standard(numbers(9)[:, None].astype(float))),
        mended_data=given(features, lambda: numbers(9)[:, None]),
    ),
    Mistake(
        name="negative_targets_under_a_logarithmic_error",
        broken=net(1, None, loss="mean_squared_logarithmic_error"),
        mended=linear,
        code="GEB702",
        data=given(features, lambda: drawn(1)),
    ),
    Mistake(
        name="zeros_under_a_relative_error",
        broken=net(1, None, loss="mean_absolute_percentage_error"),
        mended=net(1, None, loss="mean_absolute_error"),
        code="GEB702",
        data=given(features, lambda: numbers(9)[:, None]),
    ),
)

SCALES = (
    Mistake(
        name="bytes_into_a_dense_net",
        **both(net(CLASSES, "softmax", shape=(8, 8), loss=SPARSE)),
        code="GEB701",
        data=given(lambda: pixels(8, 8), numbers),
        mended_data=given(lambda: pixels(8, 8) / 255.0, numbers),
    ),
    Mistake(
        name="bytes_without_a_rescaling_layer",
        broken=net(CLASSES, "softmax", shape=(8, 8, 3), loss=SPARSE),
        mended=net(
            CLASSES,
            "softmax",
            shape=(8, 8, 3),
            loss=SPARSE,
            first=lambda: layers.Rescaling(1 / 255),
        ),
        code="GEB701",
        data=given(lambda: pixels(8, 8, 3), numbers),
    ),
    Mistake(
        name="bytes_into_a_convolution",
        broken=of(
            lambda: layers.Conv2D(8, 3, activation="relu"),
            lambda: layers.GlobalAveragePooling2D(),
            lambda: layers.Dense(CLASSES, activation="softmax"),
            shape=(8, 8, 3),
            loss=SPARSE,
        ),
        mended=of(
            lambda: layers.Conv2D(8, 3, use_bias=False),
            lambda: layers.BatchNormalization(),
            lambda: layers.ReLU(),
            lambda: layers.GlobalAveragePooling2D(),
            lambda: layers.Dense(CLASSES, activation="softmax"),
            shape=(8, 8, 3),
            loss=SPARSE,
        ),
        code="GEB701",
        data=given(lambda: pixels(8, 8, 3), numbers),
    ),
    Mistake(
        name="scaled_twice",
        **both(
            net(
                CLASSES,
                "softmax",
                shape=(8, 8, 3),
                loss=SPARSE,
                first=lambda: layers.Rescaling(1 / 255),
            )
        ),
        code="GEB701",
        data=given(lambda: pixels(8, 8, 3) / 255.0, numbers),
        mended_data=given(lambda: pixels(8, 8, 3), numbers),
    ),
    Mistake(
        name="divided_by_255_twice_in_the_data",
        **both(net(CLASSES, "softmax", shape=(8, 8), loss=SPARSE)),
        code="GEB701",
        data=given(lambda: pixels(8, 8) / 255.0 / 255.0, numbers),
        mended_data=given(lambda: pixels(8, 8) / 255.0, numbers),
    ),
    Mistake(
        name="raw_prices_into_lstm",
        **both(of(lambda: layers.LSTM(8), lambda: layers.Dense(1), shape=(10, 1), loss=SQUARED)),
        code="GEB701",
        data=given(lambda: 100 + 20 * drawn(10, 1), lambda: drawn(1)),
        mended_data=given(lambda: drawn(10, 1), lambda: drawn(1)),
    ),
    Mistake(
        name="time_stamps_as_a_feature",
        **both(net(1, None, shape=(3,), loss=SQUARED)),
        code="GEB701",
        data=given(lambda: table(1, 1, 1) + np.array([1.6e9, 0, 0]), lambda: drawn(1)),
        mended_data=given(lambda: table(1, 1, 1), lambda: drawn(1)),
    ),
    Mistake(
        name="income_beside_a_ratio",
        **both(net(1, None, shape=(3,), loss=SQUARED)),
        code="GEB701",
        data=given(lambda: table(0.05, 1, 4e4), lambda: drawn(1)),
        mended_data=given(lambda: standard(table(0.05, 1, 4e4)), lambda: drawn(1)),
    ),
    Mistake(
        name="one_column_in_hundreds_among_many_of_hundredths",
        **both(net(1, None, shape=(400,), loss=SQUARED)),
        code="GEB701",
        data=given(lambda: table(*[0.05] * 399, 120.0), lambda: drawn(1)),
        mended_data=given(lambda: standard(table(*[0.05] * 399, 120.0)), lambda: drawn(1)),
    ),
    Mistake(
        name="normalization_that_never_adapted",
        broken=net(1, None, shape=(3,), loss=SQUARED, first=layers.Normalization),
        mended=net(
            1,
            None,
            shape=(3,),
            loss=SQUARED,
            first=lambda: layers.Normalization(mean=500.0, variance=1e4),
        ),
        code="GEB701",
        data=given(lambda: 500 + 100 * drawn(3), lambda: drawn(1)),
    ),
    Mistake(
        name="numbers_of_words_without_an_embedding",
        broken=of(
            lambda: layers.Dense(8, activation="relu"),
            lambda: layers.Dense(1, "sigmoid"),
            shape=(20,),
            loss=BINARY,
        ),
        mended=of(
            lambda: layers.Embedding(5000, 8),
            lambda: layers.GlobalAveragePooling1D(),
            lambda: layers.Dense(1, "sigmoid"),
            shape=(20,),
            loss=BINARY,
        ),
        code="GEB701",
        data=given(
            lambda: np.random.default_rng(3).integers(0, 5000, (SAMPLES, 20)), lambda: numbers(2)
        ),
    ),
)


def few(positive: int, samples: int) -> Array:
    """Labels of which so many are 1."""
    return (np.arange(samples) < positive).astype(np.int64)


def with_gaps(where: str) -> Array:
    """Features with a value that is none."""
    values = features()
    values[3, 5] = {"nan": np.nan, "inf": np.inf}[where]
    return values


def mostly_constant() -> Array:
    """Twelve columns of which nine never change."""
    values = features()
    values[:, 3:] = 1.0
    return values


DEGENERATE = (
    Mistake(
        name="one_class_only",
        **both(binary),
        code="GEB705",
        data=given(features, lambda: np.ones(SAMPLES)),
        mended_data=given(features, lambda: numbers(2)),
    ),
    Mistake(
        name="one_hot_rows_of_one_class",
        **both(by_rows),
        code="GEB705",
        data=given(features, lambda: np.eye(CLASSES)[np.full(SAMPLES, 2)]),
        mended_data=given(features, rows),
    ),
    Mistake(
        name="three_failures_in_a_thousand",
        **both(binary),
        code="GEB705",
        data=given(lambda: drawn(12, samples=1000), lambda: few(3, 1000)),
        mended_data=given(lambda: drawn(12, samples=1000), lambda: few(300, 1000)),
    ),
    Mistake(
        name="nearly_all_of_one_of_five_classes",
        **both(sparse),
        code="GEB705",
        data=given(
            lambda: drawn(12, samples=1000),
            lambda: np.where(np.arange(1000) < 990, 4, numbers(CLASSES, 1000)),
        ),
        mended_data=given(lambda: drawn(12, samples=1000), lambda: numbers(CLASSES, 1000)),
    ),
    Mistake(
        name="target_that_never_changes",
        **both(linear),
        code="GEB705",
        data=given(features, lambda: np.full((SAMPLES, 1), 0.25)),
        mended_data=given(features, lambda: drawn(1)),
    ),
    Mistake(
        name="columns_that_never_change",
        **both(linear),
        code="GEB705",
        data=given(mostly_constant, lambda: drawn(1)),
        mended_data=given(features, lambda: drawn(1)),
    ),
    Mistake(
        name="the_same_sample_every_time",
        **both(linear),
        code="GEB705",
        data=given(lambda: np.repeat(features()[:1], SAMPLES, axis=0), lambda: drawn(1)),
        mended_data=given(features, lambda: drawn(1)),
    ),
    Mistake(
        name="black_images",
        **both(net(CLASSES, "softmax", shape=(8, 8), loss=SPARSE)),
        code="GEB705",
        data=given(lambda: np.zeros((SAMPLES, 8, 8)), numbers),
        mended_data=given(lambda: pixels(8, 8) / 255.0, numbers),
    ),
    Mistake(
        name="missing_values",
        **both(linear),
        code="GEB704",
        data=given(lambda: with_gaps("nan"), lambda: drawn(1)),
        mended_data=given(features, lambda: drawn(1)),
    ),
    Mistake(
        name="infinite_values",
        **both(linear),
        code="GEB704",
        data=given(lambda: with_gaps("inf"), lambda: drawn(1)),
        mended_data=given(features, lambda: drawn(1)),
    ),
    Mistake(
        name="targets_of_a_logarithm_of_zero",
        **both(linear),
        code="GEB704",
        data=given(features, lambda: np.where(drawn(1) > 2, -np.inf, drawn(1))),
        mended_data=given(features, lambda: drawn(1)),
    ),
)


def fixed_batch() -> keras.Model:
    """An LSTM that keeps its state over batches of 32."""
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(32, 6, 2)),
            layers.LSTM(8, stateful=True),
            layers.Dense(1),
        ]
    )
    model.compile("adam", SQUARED)
    return model


BATCHES = (
    Mistake(
        name="samples_that_do_not_fill_the_last_batch",
        **both(fixed_batch),
        code="GEB608",
        data=given(lambda: drawn(6, 2, samples=100), lambda: drawn(1, samples=100)),
        mended_data=given(lambda: drawn(6, 2, samples=96), lambda: drawn(1, samples=96)),
    ),
    Mistake(
        name="fewer_samples_than_the_fixed_batch",
        **both(fixed_batch),
        code="GEB608",
        data=given(lambda: drawn(6, 2, samples=20), lambda: drawn(1, samples=20)),
        mended_data=given(lambda: drawn(6, 2, samples=64), lambda: drawn(1, samples=64)),
    ),
)

MISTAKES = (*LABELS, *UNITS, *RANGES, *SCALES, *DEGENERATE, *BATCHES)
