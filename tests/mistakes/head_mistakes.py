"""Mistakes in the output layer, against the loss, as people report them."""

from __future__ import annotations

from functools import partial

import keras

from mistakes import Mistake
from mistakes.structure_models import (
    BINARY,
    CATEGORICAL,
    LOGITS,
    SPARSE,
    head,
    segmentation,
    softmax_along,
    table,
)

MISTAKES: tuple[Mistake, ...] = table(
    (
        "one_unit_with_softmax",
        "GEB203",
        partial(head, 1, "softmax", BINARY),
        partial(head, 1, "sigmoid", BINARY),
    ),
    (
        "one_unit_with_softmax_for_regression",
        "GEB203",
        partial(head, 1, "softmax", "mse"),
        partial(head, 1, None, "mse"),
    ),
    (
        "one_unit_with_categorical_crossentropy",
        "GEB203",
        partial(head, 1, "sigmoid", CATEGORICAL),
        partial(head, 2, "softmax", CATEGORICAL),
    ),
    (
        "one_unit_with_sparse_crossentropy",
        "GEB203",
        partial(head, 1, "sigmoid", SPARSE),
        partial(head, 1, "sigmoid", BINARY),
    ),
    (
        "one_logit_with_sparse_crossentropy",
        "GEB203",
        lambda: head(1, None, LOGITS(from_logits=True)),
        lambda: head(2, None, LOGITS(from_logits=True)),
    ),
    (
        "sigmoid_with_categorical_crossentropy",
        "GEB203",
        partial(head, 10, "sigmoid", CATEGORICAL),
        partial(head, 10, "softmax", CATEGORICAL),
    ),
    (
        "sigmoid_with_sparse_crossentropy",
        "GEB203",
        partial(head, 2, "sigmoid", SPARSE),
        partial(head, 2, "softmax", SPARSE),
    ),
    (
        "softmax_with_binary_crossentropy",
        "GEB203",
        partial(head, 10, "softmax", BINARY),
        partial(head, 10, "softmax", CATEGORICAL),
    ),
    (
        "relu_with_categorical_crossentropy",
        "GEB203",
        partial(head, 10, "relu", CATEGORICAL),
        partial(head, 10, "softmax", CATEGORICAL),
    ),
    (
        "relu_with_binary_crossentropy",
        "GEB203",
        partial(head, 1, "relu", BINARY),
        partial(head, 1, "sigmoid", BINARY),
    ),
    (
        "tanh_with_binary_crossentropy",
        "GEB203",
        partial(head, 1, "tanh", BINARY),
        partial(head, 1, "sigmoid", BINARY),
    ),
    (
        "softmax_and_from_logits",
        "GEB203",
        lambda: head(10, "softmax", LOGITS(from_logits=True)),
        lambda: head(10, None, LOGITS(from_logits=True)),
    ),
    (
        "sigmoid_and_from_logits",
        "GEB203",
        lambda: head(1, "sigmoid", keras.losses.BinaryCrossentropy(from_logits=True)),
        lambda: head(1, None, keras.losses.BinaryCrossentropy(from_logits=True)),
    ),
    (
        "relu_and_from_logits",
        "GEB203",
        lambda: head(10, "relu", LOGITS(from_logits=True)),
        lambda: head(10, None, LOGITS(from_logits=True)),
    ),
    (
        "tanh_and_from_logits",
        "GEB203",
        lambda: head(10, "tanh", LOGITS(from_logits=True)),
        lambda: head(10, None, LOGITS(from_logits=True)),
    ),
    (
        "relu_head_for_regression",
        "GEB203",
        partial(head, 1, "relu", "mse"),
        partial(head, 1, None, "mse"),
    ),
    (
        "elu_head_for_regression",
        "GEB203",
        partial(head, 1, "elu", "mae"),
        partial(head, 1, None, "mae"),
    ),
    (
        "sigmoid_with_hinge",
        "GEB203",
        partial(head, 1, "sigmoid", "hinge"),
        partial(head, 1, "tanh", "hinge"),
    ),
    (
        "linear_head_with_poisson",
        "GEB203",
        partial(head, 1, None, "poisson"),
        partial(head, 1, "softplus", "poisson"),
    ),
    (
        "softmax_over_the_batch",
        "GEB203",
        partial(softmax_along, 0),
        partial(softmax_along, -1),
    ),
    (
        "softmax_segmentation_of_one_class",
        "GEB203",
        partial(segmentation, "softmax", BINARY),
        partial(segmentation, "sigmoid", BINARY),
    ),
    (
        "logits_with_categorical_crossentropy",
        "GEB204",
        partial(head, 10, None, CATEGORICAL),
        partial(head, 10, "softmax", CATEGORICAL),
    ),
    (
        "logits_with_sparse_crossentropy",
        "GEB204",
        partial(head, 10, None, SPARSE),
        lambda: head(10, None, LOGITS(from_logits=True)),
    ),
    (
        "logit_with_binary_crossentropy",
        "GEB204",
        partial(head, 1, None, BINARY),
        partial(head, 1, "sigmoid", BINARY),
    ),
)
