"""The model geb-audit was founded on: "two convolutional layers" that have no weights.

Writes founding_case.keras beside this script.
"""

from pathlib import Path

import keras
from keras import layers


def build() -> keras.Model:
    """A Sequential of Dropout and ReLU on (32, 32, 3) images, compiled as its author did."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Dropout(0.25),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.ReLU(),
            layers.Dropout(0.25),
            layers.ReLU(),
        ],
        name="founding_case",
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    build().save(Path(__file__).with_suffix(".keras"))
