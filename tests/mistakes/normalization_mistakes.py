"""Mistakes in normalization, dropout and penalties."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, optimizers, regularizers

from mistakes import Mistake
from mistakes.small_models import INTEGERS, by, classifier, measured, mlp, optimized


def cnn(*middle: keras.Layer, **compiled: Any) -> keras.Model:
    """Two convolutions, the layers given between them."""
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            *middle,
            layers.ReLU(),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(**{"optimizer": "adam", "loss": INTEGERS, **compiled})
    return model


def image_dropout(first: float, last: float) -> keras.Model:
    stack = [layers.Dropout(first)] if first else []
    stack += [layers.Conv2D(16, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    stack += [layers.Dense(10, activation="softmax")]
    stack += [layers.Dropout(last)] if last else []
    model = keras.Sequential([keras.Input((16, 16, 3)), *stack])
    model.compile("adam", INTEGERS)
    return model


def batch_of(size: int | None) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((20,), batch_size=size),
            layers.Dense(32, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model


def normalized_dense(*, trainable: bool) -> keras.Model:
    norm = layers.BatchNormalization(trainable=trainable)
    return classifier(layers.Dense(64, use_bias=False), norm, layers.ReLU())


def normalized_series(axis: int | tuple[int, int]) -> keras.Model:
    norm = layers.LayerNormalization(axis=axis)
    stack = [norm, layers.LSTM(16), layers.Dense(1)]
    model = keras.Sequential([keras.Input((32, 1)), *stack])
    model.compile("adam", "mse")
    return model


def grouped(groups: int) -> keras.Model:
    dense = layers.Dense(32, use_bias=False)
    return classifier(dense, layers.GroupNormalization(groups), layers.ReLU())


def dropout_around_norm(*, before: bool) -> keras.Model:
    dropout, norm = layers.Dropout(0.5), layers.BatchNormalization()
    stack = (dropout, norm) if before else (norm, dropout)
    return classifier(layers.Dense(64, activation="relu"), *stack)


def transformer(*, normalized: bool) -> keras.Model:
    tokens = keras.Input((24,), dtype="int32")
    x = layers.Embedding(500, 32)(tokens)
    for _ in range(3):
        y = layers.LayerNormalization()(x) if normalized else x
        x = layers.Add()([x, layers.MultiHeadAttention(4, 8)(y, y)])
        y = layers.LayerNormalization()(x) if normalized else x
        y = layers.Dense(32)(layers.Dense(64, activation="gelu")(y))
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(tokens, layers.Dense(5, activation="softmax")(x))
    model.compile("adam", INTEGERS)
    return model


def penalized(penalty: Any, **compiled: Any) -> keras.Model:
    hidden = [
        layers.Dense(64, activation="relu", kernel_regularizer=penalty(), name=f"hidden_{index}")
        for index in range(2)
    ]
    return classifier(*hidden, **compiled)


def activity(strength: float) -> keras.Model:
    penalty = regularizers.L1(strength) if strength else None
    return classifier(layers.Dense(64, activation="relu", activity_regularizer=penalty))


NORMALIZATION = (
    by(
        "GEB401",
        "dropout_before_batchnorm",
        lambda: dropout_around_norm(before=True),
        lambda: dropout_around_norm(before=False),
    ),
    by(
        "GEB401",
        "spatial_dropout_before_batchnorm",
        lambda: cnn(layers.SpatialDropout2D(0.3), layers.BatchNormalization()),
        lambda: cnn(layers.BatchNormalization(), layers.SpatialDropout2D(0.3)),
    ),
    by(
        "GEB404",
        "momentum_as_in_pytorch",
        lambda: cnn(layers.BatchNormalization(momentum=0.1)),
        lambda: cnn(layers.BatchNormalization(momentum=0.9)),
    ),
    by(
        "GEB404",
        "momentum_of_one",
        lambda: cnn(layers.BatchNormalization(momentum=1.0)),
        lambda: cnn(layers.BatchNormalization()),
    ),
    by(
        "GEB404",
        "axis_of_channels_first",
        lambda: cnn(layers.BatchNormalization(axis=1)),
        lambda: cnn(layers.BatchNormalization()),
    ),
    by(
        "GEB404",
        "epsilon_of_one",
        lambda: cnn(layers.BatchNormalization(epsilon=1.0)),
        lambda: cnn(layers.BatchNormalization(epsilon=1e-5)),
    ),
    by("GEB404", "batch_of_one", lambda: batch_of(1), lambda: batch_of(None)),
    by(
        "GEB404",
        "frozen_before_it_saw_data",
        lambda: normalized_dense(trainable=False),
        lambda: normalized_dense(trainable=True),
    ),
    by(
        "GEB404",
        "batchnorm_over_probabilities",
        lambda: mlp(
            layers.Dense(10, activation="softmax"), layers.BatchNormalization(), loss=INTEGERS
        ),
        lambda: mlp(
            layers.BatchNormalization(), layers.Dense(10, activation="softmax"), loss=INTEGERS
        ),
    ),
    by(
        "GEB406",
        "transformer_without_normalization",
        lambda: transformer(normalized=False),
        lambda: transformer(normalized=True),
    ),
)
REGULARIZATION = (
    by(
        "GEB405",
        "l2_of_one",
        lambda: penalized(lambda: regularizers.L2(1.0)),
        lambda: penalized(lambda: regularizers.L2(1e-4)),
    ),
    by(
        "GEB405",
        "l1_of_a_tenth",
        lambda: penalized(lambda: regularizers.L1(0.1)),
        lambda: penalized(lambda: regularizers.L1(1e-5)),
    ),
    by(
        "GEB405",
        "l2_beside_decay",
        lambda: penalized(lambda: regularizers.L2(1e-3), optimizer=optimizers.AdamW(1e-3)),
        lambda: penalized(lambda: None, optimizer=optimizers.AdamW(1e-3)),
    ),
    optimized(
        "GEB405",
        "decay_of_ten",
        lambda: optimizers.AdamW(1e-3, weight_decay=10.0),
        lambda: optimizers.AdamW(1e-3, weight_decay=0.01),
    ),
    by(
        "GEB408",
        "series_of_one_feature",
        lambda: normalized_series(-1),
        lambda: normalized_series((1, 2)),
    ),
    by("GEB408", "group_for_every_unit", lambda: grouped(32), lambda: grouped(8)),
    by("GEB405", "activity_penalty_of_a_half", lambda: activity(0.5), lambda: activity(1e-5)),
    by(
        "GEB402",
        "dropout_of_nine_tenths",
        lambda: classifier(layers.Dense(64, activation="relu"), layers.Dropout(0.9)),
        lambda: classifier(layers.Dense(64, activation="relu"), layers.Dropout(0.3)),
    ),
    by(
        "GEB402",
        "dropout_on_the_image",
        lambda: image_dropout(0.5, 0.0),
        lambda: image_dropout(0.0, 0.0),
    ),
    by(
        "GEB402",
        "dropout_on_the_prediction",
        lambda: image_dropout(0.0, 0.3),
        lambda: image_dropout(0.0, 0.0),
    ),
)
MEASURED = (
    measured(
        "GEB405",
        "penalty_above_the_loss",
        lambda: penalized(lambda: regularizers.L2(0.5)),
        lambda: penalized(lambda: regularizers.L2(1e-3)),
    ),
)

MISTAKES: tuple[Mistake, ...] = (*NORMALIZATION, *REGULARIZATION, *MEASURED)
