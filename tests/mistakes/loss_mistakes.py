"""Mistakes in losses, in the heads they judge, and in metrics."""

from __future__ import annotations

import keras
from keras import layers, losses, metrics

from mistakes import Mistake
from mistakes.small_models import INTEGERS, by, classifier, headed, regressor


def ctc(*, sequences: bool) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((40, 8)),
            layers.Bidirectional(layers.LSTM(16, return_sequences=sequences)),
            layers.Dense(12),
        ]
    )
    model.compile("adam", losses.CTC())
    return model


def masks(activation: str | None) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(1, 1, activation=activation),
        ]
    )
    model.compile("adam", losses.Dice())
    return model


def siamese_cosine(units: int) -> keras.Model:
    return headed(units, None, "cosine_similarity")


LOSSES = (
    by(
        "GEB604",
        "squared_error_over_softmax",
        lambda: classifier(loss="mean_squared_error"),
        lambda: classifier(loss="categorical_crossentropy"),
    ),
    by(
        "GEB604",
        "squared_error_over_sigmoid_classes",
        lambda: headed(1, "sigmoid", "mse", metrics=["accuracy"]),
        lambda: headed(1, "sigmoid", "binary_crossentropy", metrics=["accuracy"]),
    ),
    by(
        "GEB604",
        "accuracy_for_a_loss",
        lambda: classifier(loss="accuracy"),
        lambda: classifier(metrics=["accuracy"]),
    ),
    by(
        "GEB604",
        "cosine_of_one_number",
        lambda: siamese_cosine(1),
        lambda: siamese_cosine(32),
    ),
    by(
        "GEB604",
        "logarithmic_error_below_zero",
        lambda: headed(1, None, "mean_squared_logarithmic_error"),
        lambda: headed(1, "softplus", "mean_squared_logarithmic_error"),
    ),
    by("GEB604", "dice_over_logits", lambda: masks(None), lambda: masks("sigmoid")),
    by("GEB604", "ctc_without_time", lambda: ctc(sequences=False), lambda: ctc(sequences=True)),
    by(
        "GEB203",
        "one_unit_with_softmax",
        lambda: headed(1, "softmax", "binary_crossentropy"),
        lambda: headed(1, "sigmoid", "binary_crossentropy"),
    ),
    by(
        "GEB203",
        "sigmoid_for_one_class_of_many",
        lambda: headed(10, "sigmoid", "categorical_crossentropy"),
        lambda: headed(10, "softmax", "categorical_crossentropy"),
    ),
    by(
        "GEB203",
        "softmax_for_many_labels",
        lambda: headed(10, "softmax", "binary_crossentropy"),
        lambda: headed(10, "sigmoid", "binary_crossentropy"),
    ),
    by(
        "GEB203",
        "relu_under_categorical_crossentropy",
        lambda: headed(10, "relu", "categorical_crossentropy"),
        lambda: headed(10, "softmax", "categorical_crossentropy"),
    ),
    by(
        "GEB203",
        "tanh_under_binary_crossentropy",
        lambda: headed(1, "tanh", "binary_crossentropy"),
        lambda: headed(1, "sigmoid", "binary_crossentropy"),
    ),
    by(
        "GEB203",
        "softmax_before_logits",
        lambda: headed(10, "softmax", losses.SparseCategoricalCrossentropy(from_logits=True)),
        lambda: headed(10, None, losses.SparseCategoricalCrossentropy(from_logits=True)),
    ),
    by(
        "GEB203",
        "negative_rate_of_poisson",
        lambda: headed(1, None, "poisson"),
        lambda: headed(1, "exponential", "poisson"),
    ),
    by(
        "GEB203",
        "hinge_over_sigmoid",
        lambda: headed(1, "sigmoid", "hinge"),
        lambda: headed(1, "tanh", "hinge"),
    ),
    by(
        "GEB204",
        "logits_taken_for_probabilities",
        lambda: headed(10, None, INTEGERS),
        lambda: headed(10, None, losses.SparseCategoricalCrossentropy(from_logits=True)),
    ),
    by(
        "GEB204",
        "binary_logit_taken_for_probability",
        lambda: headed(1, None, "binary_crossentropy"),
        lambda: headed(1, "sigmoid", "binary_crossentropy"),
    ),
)
METRICS = (
    by(
        "GEB609",
        "accuracy_of_a_regression",
        lambda: regressor(metrics=["accuracy"]),
        lambda: regressor(metrics=["mean_absolute_error"]),
    ),
    by(
        "GEB609",
        "integer_labels_one_hot_accuracy",
        lambda: classifier(metrics=["categorical_accuracy"]),
        lambda: classifier(metrics=["sparse_categorical_accuracy"]),
    ),
    by(
        "GEB609",
        "one_hot_labels_integer_accuracy",
        lambda: headed(
            10, "softmax", "categorical_crossentropy", metrics=["sparse_categorical_accuracy"]
        ),
        lambda: headed(10, "softmax", "categorical_crossentropy", metrics=["accuracy"]),
    ),
    by(
        "GEB609",
        "binary_accuracy_of_ten_classes",
        lambda: headed(10, "softmax", "categorical_crossentropy", metrics=["binary_accuracy"]),
        lambda: headed(10, "softmax", "categorical_crossentropy", metrics=["accuracy"]),
    ),
    by(
        "GEB609",
        "accuracy_of_many_labels",
        lambda: headed(8, "sigmoid", "binary_crossentropy", metrics=["accuracy"]),
        lambda: headed(8, "sigmoid", "binary_crossentropy", metrics=["binary_accuracy"]),
    ),
    by(
        "GEB609",
        "accuracy_of_logits",
        lambda: headed(1, None, losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"]),
        lambda: headed(
            1,
            None,
            losses.BinaryCrossentropy(from_logits=True),
            metrics=[metrics.BinaryAccuracy(threshold=0.0)],
        ),
    ),
    by(
        "GEB609",
        "precision_of_integer_labels",
        lambda: classifier(metrics=[metrics.Precision()]),
        lambda: headed(10, "softmax", "categorical_crossentropy", metrics=[metrics.Precision()]),
    ),
    by(
        "GEB609",
        "accuracy_as_a_class",
        lambda: classifier(metrics=[metrics.Accuracy()]),
        lambda: classifier(metrics=["accuracy"]),
    ),
    by(
        "GEB609",
        "largest_of_one_unit",
        lambda: headed(1, "sigmoid", "binary_crossentropy", metrics=["categorical_accuracy"]),
        lambda: headed(1, "sigmoid", "binary_crossentropy", metrics=["binary_accuracy"]),
    ),
    by(
        "GEB609",
        "area_under_the_curve_of_logits",
        lambda: headed(
            1, None, losses.BinaryCrossentropy(from_logits=True), metrics=[metrics.AUC()]
        ),
        lambda: headed(
            1,
            None,
            losses.BinaryCrossentropy(from_logits=True),
            metrics=[metrics.AUC(from_logits=True)],
        ),
    ),
)

MISTAKES: tuple[Mistake, ...] = (*LOSSES, *METRICS)
