"""A small convolutional classifier as textbooks have it: nothing to complain about.

Writes healthy_cnn.keras beside this script.
"""

from pathlib import Path

import keras
from keras import layers


def build() -> keras.Model:
    """A classifier of (32, 32, 3) images with values 0 to 255 into 10 classes."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ],
        name="healthy_cnn",
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    build().save(Path(__file__).with_suffix(".keras"))
