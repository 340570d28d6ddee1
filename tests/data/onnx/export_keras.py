"""Writes the keras_*.onnx files beside it: small models by Keras' own export to ONNX.

Run `python tests/data/onnx/export_keras.py` once with KERAS_BACKEND=tensorflow (keras 3.15.1,
tensorflow 2.21.0, tf2onnx 1.17.0) and once with KERAS_BACKEND=torch (torch 2.13.0). Tests read the
files and need neither.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
from keras import layers

HERE = Path(__file__).parent


def cnn() -> keras.Model:
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="silu")(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.LeakyReLU(0.1)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(8, activation="hard_silu")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def transformer() -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(12, 8)(inputs)
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
    y = layers.LayerNormalization()(x)
    y = layers.Dense(12, activation="gelu")(y)
    x = layers.Add()([x, layers.Dense(8)(y)])
    x = layers.RMSNormalization()(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def lstm() -> keras.Model:
    inputs = keras.Input((7, 3))
    x = layers.LSTM(4, return_sequences=True)(inputs)
    x = layers.LSTM(4)(x)
    return keras.Model(inputs, layers.Dense(1)(x))


#: By backend, as far as its export goes: torch's has no node for the gather of an attention's
#: shapes, and writes a recurrent layer out step by step.
MODELS = {
    "tensorflow": {"cnn": cnn, "transformer": transformer, "lstm": lstm},
    "torch": {"cnn": cnn},
}


def main() -> None:
    backend = keras.backend.backend()
    for name, make in MODELS[backend].items():
        model = make()
        given = model.inputs[0]
        model(np.zeros((1, *given.shape[1:]), given.dtype))
        path = HERE / f"keras_{name}_{backend}.onnx"
        model.export(str(path), format="onnx", verbose=False)
        written = onnx.load(path)
        for node in written.graph.node:
            node.ClearField("doc_string")
        onnx.save(written, path)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
