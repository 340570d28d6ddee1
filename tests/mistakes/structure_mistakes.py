"""Mistakes in structure, hidden activations and initial weights, as people report them.

Most are of the forms asked about on Stack Overflow, in Keras' issues and in the taxonomy of
Humbatova et al. 2020 (Taxonomy of real faults in deep learning systems): missing or superfluous
layers, wrong pooling, wrong initialization, frozen layers.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from keras import layers

from mistakes import Mistake
from mistakes.structure_models import (
    BINARY,
    CATEGORICAL,
    CONVOLUTION,
    NORMAL,
    SPARSE,
    application,
    changed,
    convolutional,
    deep,
    dense_images,
    embedded,
    frozen,
    hidden,
    image,
    pooled,
    recurrent,
    relu,
    residual,
    residual_convolutions,
    rounded,
    selu,
    signal,
    squares,
    stacked,
    table,
    two_outputs,
    with_codes,
)

MISTAKES: tuple[Mistake, ...] = table(
    # layers missing, superfluous, misplaced
    (
        "no_output_layer",
        "GEB101",
        lambda: stacked((32, 32, 3), lambda: [CONVOLUTION(), layers.Flatten()], CATEGORICAL),
        lambda: image(CONVOLUTION, layers.Flatten),
    ),
    (
        "nothing_trainable",
        "GEB102",
        lambda: stacked((16,), lambda: [layers.Dropout(0.5), layers.ReLU()], "mse"),
        lambda: stacked((16,), lambda: [layers.Dropout(0.1), relu(), layers.Dense(1)], "mse"),
    ),
    ("all_layers_frozen", "GEB102", partial(frozen, every=True), frozen),
    ("output_layer_frozen", "GEB103", partial(frozen, last=True), frozen),
    (
        "argmax_within_the_model",
        "GEB103",
        partial(with_codes, hard=True),
        partial(with_codes, hard=False),
    ),
    (
        "rounding_within_the_model",
        "GEB103",
        partial(rounded, smooth=False),
        partial(rounded, smooth=True),
    ),
    (
        "second_output_without_a_loss",
        "GEB103",
        partial(two_outputs, {"label": SPARSE}),
        partial(two_outputs, {"label": SPARSE, "box": "huber"}),
    ),
    (
        "no_activations",
        "GEB104",
        lambda: hidden(lambda: [layers.Dense(128), layers.Dense(128)]),
        lambda: hidden(lambda: [relu(128), relu(128)]),
    ),
    (
        "convolution_without_flatten",
        "GEB105",
        partial(convolutional, flatten=None),
        lambda: convolutional(flatten=layers.Flatten()),
    ),
    (
        "binary_cnn_without_flatten",
        "GEB105",
        partial(convolutional, flatten=None, loss=BINARY, units=1, activation="sigmoid"),
        lambda: convolutional(
            flatten=layers.GlobalMaxPooling2D(), loss=BINARY, units=1, activation="sigmoid"
        ),
    ),
    (
        "regressing_cnn_without_flatten",
        "GEB105",
        partial(convolutional, flatten=None, loss="mse", units=1, activation=None),
        lambda: convolutional(flatten=layers.Flatten(), loss="mse", units=1, activation=None),
    ),
    (
        "dense_digits_without_flatten",
        "GEB105",
        partial(dense_images, flatten=False),
        partial(dense_images, flatten=True),
    ),
    (
        "dense_colours_without_flatten",
        "GEB105",
        partial(dense_images, flatten=False, shape=(32, 32, 3)),
        partial(dense_images, flatten=True, shape=(32, 32, 3)),
    ),
    (
        "embedding_without_pooling",
        "GEB105",
        partial(embedded, pooled=False),
        partial(embedded, pooled=True),
    ),
    (
        "signal_without_flatten",
        "GEB105",
        partial(signal, flatten=False),
        partial(signal, flatten=True),
    ),
    (
        "softmax_twice",
        "GEB106",
        lambda: stacked(
            (64,),
            lambda: [relu(), layers.Dense(10, activation="softmax"), layers.Softmax()],
            SPARSE,
        ),
        lambda: hidden(lambda: [relu()]),
    ),
    (
        "small_images_for_a_large_network",
        "GEB107",
        partial(application, 32),
        partial(application, 128),
    ),
    ("pooled_to_a_point", "GEB107", partial(pooled, 5), partial(pooled, 2)),
    (
        "global_pooling_first",
        "GEB107",
        lambda: image(layers.GlobalAveragePooling2D, relu),
        lambda: image(CONVOLUTION, layers.GlobalAveragePooling2D, relu),
    ),
    (
        "stride_beyond_the_kernel",
        "GEB107",
        lambda: image(partial(CONVOLUTION, strides=5), layers.Flatten),
        lambda: image(partial(CONVOLUTION, strides=2), layers.Flatten),
    ),
    (
        "fifty_plain_layers",
        "GEB109",
        partial(deep, 50, "relu", kernel_initializer="he_normal"),
        partial(deep, 50, "relu", kernel_initializer="he_normal", normalized=True),
    ),
    (
        "forty_plain_convolutions",
        "GEB109",
        lambda: hidden(
            lambda: [
                *(layers.Conv2D(8, 3, padding="same", activation="relu") for _ in range(40)),
                layers.GlobalAveragePooling2D(),
            ],
            shape=(16, 16, 3),
        ),
        lambda: hidden(
            lambda: [
                *(layers.Conv2D(8, 3, padding="same", activation="relu") for _ in range(6)),
                layers.GlobalAveragePooling2D(),
            ],
            shape=(16, 16, 3),
        ),
    ),
    # activations
    (
        "softmax_in_a_hidden_layer",
        "GEB202",
        lambda: hidden(lambda: [layers.Dense(128, activation="softmax")]),
        lambda: hidden(lambda: [relu(128)]),
    ),
    (
        "softmax_in_every_layer",
        "GEB202",
        lambda: hidden(lambda: [layers.Dense(64, activation="softmax") for _ in range(3)]),
        lambda: hidden(lambda: [relu() for _ in range(3)]),
    ),
    (
        "softmax_after_a_convolution",
        "GEB202",
        lambda: image(
            partial(layers.Conv2D, 32, 3, activation="softmax"),
            layers.MaxPooling2D,
            layers.Flatten,
        ),
        lambda: image(
            partial(layers.Conv2D, 32, 3, activation="relu"), layers.MaxPooling2D, layers.Flatten
        ),
    ),
    (
        "softmax_in_an_lstm",
        "GEB202",
        partial(recurrent, activation="softmax"),
        recurrent,
    ),
    (
        "exponential_hidden_layers",
        "GEB207",
        lambda: hidden(lambda: [layers.Dense(64, activation="exponential") for _ in range(3)]),
        lambda: hidden(lambda: [layers.Dense(64, activation="softplus") for _ in range(3)]),
    ),
    (
        "squares_for_activations",
        "GEB207",
        partial(squares, 4),
        lambda: hidden(lambda: [relu() for _ in range(4)]),
    ),
    (
        "twelve_sigmoid_layers",
        "GEB201",
        partial(deep, 12, "sigmoid"),
        partial(deep, 12, "relu", kernel_initializer="he_normal"),
    ),
    # initial and set weights
    (
        "zero_kernels",
        "GEB301",
        lambda: hidden(lambda: [relu(kernel_initializer="zeros")]),
        lambda: hidden(lambda: [relu(kernel_initializer="he_normal")]),
    ),
    (
        "constant_kernels",
        "GEB301",
        lambda: hidden(lambda: [relu(kernel_initializer="ones"), relu(kernel_initializer="ones")]),
        lambda: hidden(lambda: [relu(), relu()]),
    ),
    (
        "wide_normal_in_depth",
        "GEB302",
        lambda: deep(12, "relu", width=128, kernel_initializer=NORMAL(stddev=1.0, seed=1)),
        partial(deep, 12, "relu", width=128, kernel_initializer="he_normal"),
    ),
    (
        "default_random_normal_in_depth",
        "GEB302",
        partial(deep, 20, "relu", kernel_initializer="random_normal"),
        partial(deep, 20, "relu", kernel_initializer="he_normal"),
    ),
    ("selu_with_he_normal", "GEB303", partial(selu, law="he_normal"), selu),
    ("selu_with_the_default", "GEB303", partial(selu, law="random_normal"), selu),
    ("selu_with_plain_dropout", "GEB303", partial(selu, dropout="Dropout"), selu),
    ("selu_with_batch_normalization", "GEB303", partial(selu, norm=True), selu),
    (
        "units_set_to_zero",
        "GEB306",
        partial(changed, lambda kernel: kernel * (np.arange(64) < 24)),
        partial(changed, None),
    ),
    (
        "kernel_blown_up",
        "GEB306",
        partial(changed, lambda kernel: kernel * 500.0),
        partial(changed, None),
    ),
    (
        "kernel_of_rank_one",
        "GEB306",
        partial(changed, lambda kernel: kernel[:, :1] @ kernel[:1]),
        partial(changed, None),
    ),
    (
        "residual_sums_that_double",
        "GEB307",
        partial(residual, 24, "he_normal"),
        partial(residual, 24, "zeros"),
    ),
    (
        "residual_sums_without_a_scale",
        "GEB307",
        partial(residual, 30, "glorot_uniform"),
        partial(residual, 30, "glorot_uniform", scale=0.18),
    ),
    (
        "residual_sums_without_normalization",
        "GEB307",
        partial(residual, 20, "he_normal"),
        partial(residual, 20, "he_normal", normalized=True),
    ),
    (
        "residual_convolutions_without_a_scale",
        "GEB307",
        partial(residual_convolutions, "he_normal"),
        partial(residual_convolutions, "zeros"),
    ),
    # dropout
    (
        "dropout_on_the_prediction",
        "GEB402",
        lambda: stacked(
            (20,),
            lambda: [relu(), layers.Dense(10, activation="softmax"), layers.Dropout(0.5)],
            SPARSE,
        ),
        lambda: hidden(lambda: [relu(), layers.Dropout(0.5)], shape=(20,)),
    ),
    (
        "nearly_all_dropped",
        "GEB402",
        lambda: hidden(lambda: [relu(), layers.Dropout(0.9)]),
        lambda: hidden(lambda: [relu(), layers.Dropout(0.3)]),
    ),
)
