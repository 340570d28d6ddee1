"""Mistakes in optimizers, their rates, and in precision."""

from __future__ import annotations

import keras
from keras import layers, optimizers
from keras.optimizers import schedules

from mistakes import Mistake
from mistakes.small_models import (
    INTEGERS,
    by,
    classifier,
    deeper,
    measured,
    mlp,
    optimized,
    rated,
    regressor,
)


def clipped_both_ways(*, both: bool) -> keras.Model:
    optimizer = optimizers.Adam(1e-3, clipnorm=1.0)
    if both:  # the constructor refuses what an assignment does not
        optimizer.global_clipnorm = 1.0
    return classifier(optimizer=optimizer)


def recurrent(**clip: float) -> keras.Model:
    model = keras.Sequential([keras.Input((400, 4)), layers.SimpleRNN(16), layers.Dense(1)])
    model.compile(optimizers.SGD(0.05, **clip), "mse")
    return model


def half(policy: str) -> keras.Model:
    hidden = [layers.Dense(64, activation="relu", dtype=policy) for _ in range(2)]
    head = layers.Dense(10, activation="softmax", dtype="float32")
    return mlp(*hidden, head, loss=INTEGERS)


def half_everywhere(policy: str) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        entry = keras.Input((20,))
        x = layers.Dense(64, activation="relu")(entry)
        model = keras.Model(entry, layers.Dense(10, activation="softmax", dtype="float32")(x))
        model.compile(optimizers.Adam(1e-3), INTEGERS)
        return model
    finally:
        keras.config.set_dtype_policy(before)


def half_optimizer(policy: str) -> keras.Model:
    model = half_everywhere(policy)
    model.compile(optimizers.Adam(1e-3, epsilon=1e-8), INTEGERS)
    return model


OPTIMIZERS = (
    optimized(
        "GEB606",
        "betas_swapped",
        lambda: optimizers.Adam(1e-3, beta_1=0.999, beta_2=0.9),
        lambda: optimizers.Adam(1e-3, beta_1=0.9, beta_2=0.999),
    ),
    optimized(
        "GEB606",
        "beta_of_one",
        lambda: optimizers.Adam(1e-3, beta_2=1.0),
        lambda: optimizers.Adam(1e-3, beta_2=0.95),
    ),
    optimized(
        "GEB606",
        "epsilon_of_zero",
        lambda: optimizers.Adam(1e-3, epsilon=0.0),
        lambda: optimizers.Adam(1e-3, epsilon=1e-8),
    ),
    optimized(
        "GEB606",
        "epsilon_of_a_hundred",
        lambda: optimizers.RMSprop(1e-3, epsilon=100.0),
        lambda: optimizers.RMSprop(1e-3, epsilon=1.0),
    ),
    optimized(
        "GEB606",
        "momentum_that_forgets_nothing",
        lambda: optimizers.SGD(0.01, momentum=1.0),
        lambda: optimizers.SGD(0.01, momentum=0.9),
    ),
    optimized(
        "GEB606",
        "momentum_without_friction",
        lambda: optimizers.SGD(0.01, momentum=0.9999),
        lambda: optimizers.SGD(0.01, momentum=0.99),
    ),
    optimized(
        "GEB606",
        "nesterov_without_momentum",
        lambda: optimizers.SGD(0.01, nesterov=True),
        lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    ),
    optimized("GEB606", "rate_of_zero", lambda: optimizers.SGD(0.0), lambda: optimizers.SGD(0.01)),
    optimized(
        "GEB606", "negative_rate", lambda: optimizers.Adam(-1e-3), lambda: optimizers.Adam(1e-3)
    ),
    optimized(
        "GEB606",
        "schedule_counted_in_epochs",
        lambda: optimizers.SGD(schedules.CosineDecay(0.1, 50)),
        lambda: optimizers.SGD(schedules.CosineDecay(0.1, 50 * 400)),
    ),
    optimized(
        "GEB606",
        "decay_at_every_batch",
        lambda: optimizers.Adam(schedules.ExponentialDecay(1e-3, 1, 0.9)),
        lambda: optimizers.Adam(schedules.ExponentialDecay(1e-3, 400, 0.9)),
    ),
    optimized(
        "GEB606",
        "decay_that_grows",
        lambda: optimizers.Adam(schedules.ExponentialDecay(1e-3, 400, 1.1)),
        lambda: optimizers.Adam(schedules.ExponentialDecay(1e-3, 400, 0.9)),
    ),
    optimized(
        "GEB606",
        "negative_decay",
        lambda: optimizers.AdamW(1e-3, weight_decay=-0.01),
        lambda: optimizers.AdamW(1e-3, weight_decay=0.01),
    ),
    optimized(
        "GEB407",
        "clip_of_zero",
        lambda: optimizers.Adam(1e-3, clipnorm=0.0),
        lambda: optimizers.Adam(1e-3, clipnorm=1.0),
    ),
    by(
        "GEB407",
        "two_clips",
        lambda: clipped_both_ways(both=True),
        lambda: clipped_both_ways(both=False),
    ),
    by(
        "GEB603",
        "long_recurrence_unclipped",
        lambda: recurrent(),
        lambda: recurrent(global_clipnorm=1.0),
    ),
    by(
        "GEB606",
        "epsilon_lost_in_half_precision",
        lambda: half_optimizer("float16"),
        lambda: half_optimizer("mixed_float16"),
    ),
    by(
        "GEB610",
        "half_precision_by_layer",
        lambda: half("mixed_float16"),
        lambda: half("mixed_bfloat16"),
    ),
    by(
        "GEB610",
        "half_precision_throughout",
        lambda: half_everywhere("float16"),
        lambda: half_everywhere("mixed_float16"),
    ),
)
RATES = (
    rated("GEB601", "sgd_1000_times", lambda: optimizers.SGD(100.0), lambda: optimizers.SGD(0.1)),
    rated("GEB601", "adam_1000_times", lambda: optimizers.Adam(1.0), lambda: optimizers.Adam(1e-3)),
    rated(
        "GEB601",
        "rmsprop_1000_times",
        lambda: optimizers.RMSprop(1.0),
        lambda: optimizers.RMSprop(1e-3),
    ),
    measured(
        "GEB601",
        "regression_at_a_classifiers_rate",
        lambda: regressor(optimizer=optimizers.SGD(10.0)),
        lambda: regressor(optimizer=optimizers.SGD(0.01)),
    ),
    rated("GEB602", "sgd_a_thousandth", lambda: optimizers.SGD(1e-4), lambda: optimizers.SGD(0.1)),
    rated(
        "GEB602", "adam_a_thousandth", lambda: optimizers.Adam(1e-6), lambda: optimizers.Adam(1e-3)
    ),
    measured(
        "GEB605",
        "adam_100_times_from_the_first_step",
        lambda: deeper(optimizers.Adam(0.1)),
        lambda: deeper(optimizers.Adam(schedules.PolynomialDecay(1e-3, 500, 0.1))),
    ),
    rated(
        "GEB602",
        "adadelta_at_the_default",
        lambda: optimizers.Adadelta(),
        lambda: optimizers.Adadelta(1.0),
    ),
    rated(
        "GEB407",
        "norm_clipped_to_a_thousandth",
        lambda: optimizers.SGD(0.1, global_clipnorm=1e-3),
        lambda: optimizers.SGD(0.1, global_clipnorm=1.0),
    ),
    rated(
        "GEB407",
        "values_clipped_to_nothing",
        lambda: optimizers.SGD(0.1, clipvalue=1e-6),
        lambda: optimizers.SGD(0.1, clipvalue=0.5),
    ),
)

MISTAKES: tuple[Mistake, ...] = (*OPTIMIZERS, *RATES)
