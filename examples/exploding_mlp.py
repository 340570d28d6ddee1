"""Thirty Dense+ReLU layers whose weights are too large: the gradient grows 2.26-fold a layer.

Writes exploding_mlp.keras beside this script.
"""

from pathlib import Path

import keras
from keras import layers

DEPTH = 30
WIDTH = 256
#: σ; ReLU wants √(2 / fan-in) = 0.088 at this width.
STDDEV = 0.2


def build() -> keras.Model:
    """A classifier of 64 features into 10 classes."""
    keras.utils.set_random_seed(0)
    stack = [
        layers.Dense(
            WIDTH,
            activation="relu",
            kernel_initializer=keras.initializers.RandomNormal(stddev=STDDEV),
        )
        for _ in range(DEPTH)
    ]
    model = keras.Sequential(
        [keras.Input((64,)), *stack, layers.Dense(10, activation="softmax")], name="exploding_mlp"
    )
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    build().save(Path(__file__).with_suffix(".keras"))
