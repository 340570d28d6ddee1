"""Twenty sigmoid layers: the gradient shrinks at least four-fold a layer on its way back.

Writes vanishing_sigmoid.keras beside this script.
"""

from pathlib import Path

import keras
from keras import layers

DEPTH = 20


def build() -> keras.Model:
    """A classifier of 64 features into 10 classes."""
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(64, activation="sigmoid") for _ in range(DEPTH)]
    model = keras.Sequential(
        [keras.Input((64,)), *stack, layers.Dense(10, activation="softmax")],
        name="vanishing_sigmoid",
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    build().save(Path(__file__).with_suffix(".keras"))
