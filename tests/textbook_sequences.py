"""Models of text and time as keras.io, papers and courses have them, at a small size.

Each is compiled as its source does it.
"""

from collections.abc import Callable

import keras
from keras import layers, ops


def imdb_lstm() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((80,), dtype="int32"),
            layers.Embedding(2000, 64, mask_zero=True),
            layers.LSTM(64, dropout=0.2, recurrent_dropout=0.2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def imdb_bidirectional_lstm() -> keras.Model:
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(2000, 64)(inputs)
    x = layers.Bidirectional(layers.LSTM(32, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(32))(x)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def imdb_convnet() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((200,), dtype="int32"),
            layers.Embedding(2000, 50),
            layers.Dropout(0.2),
            layers.Conv1D(128, 3, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(128),
            layers.Dropout(0.2),
            layers.Activation("relu"),
            layers.Dense(1),
            layers.Activation("sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def word_tagger() -> keras.Model:
    """A class for each word: Bi-LSTM over masked words."""
    model = keras.Sequential(
        [
            keras.Input((50,), dtype="int32"),
            layers.Embedding(3000, 50, mask_zero=True),
            layers.SpatialDropout1D(0.1),
            layers.Bidirectional(layers.LSTM(50, return_sequences=True, recurrent_dropout=0.1)),
            layers.TimeDistributed(layers.Dense(17, activation="softmax")),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def stacked_gru() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((60, 14)),
            layers.GRU(32, recurrent_dropout=0.5, return_sequences=True),
            layers.GRU(32, recurrent_dropout=0.5),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )
    model.compile("rmsprop", "mse", metrics=["mae"])
    return model


def character_lstm() -> keras.Model:
    """keras.io: the next character of forty, one-hot; its rate of 0.01 is the example's."""
    model = keras.Sequential(
        [
            keras.Input((40, 56)),
            layers.LSTM(128),
            layers.Dense(56, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.RMSprop(0.01), "categorical_crossentropy")
    return model


def sequence_to_sequence_lstm() -> keras.Model:
    """keras.io: the decoder begins with the states that the encoder ends with."""
    source, target = keras.Input((None, 71)), keras.Input((None, 93))
    _, *states = layers.LSTM(64, return_state=True)(source)
    decoded, *_ = layers.LSTM(64, return_sequences=True, return_state=True)(
        target, initial_state=states
    )
    model = keras.Model([source, target], layers.Dense(93, activation="softmax")(decoded))
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    return model


def translator_with_attention() -> keras.Model:
    """A GRU encoder and decoder, and Luong's attention between."""
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    encoded = layers.Embedding(500, 64, mask_zero=True)(source)
    encoded = layers.Bidirectional(layers.GRU(32, return_sequences=True))(encoded)
    decoded = layers.Embedding(500, 64, mask_zero=True)(target)
    decoded = layers.GRU(64, return_sequences=True)(decoded)
    context = layers.Attention()([decoded, encoded])
    x = layers.Dropout(0.5)(layers.Concatenate()([decoded, context]))
    model = keras.Model([source, target], layers.Dense(500, activation="softmax")(x))
    model.compile("rmsprop", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    return model


def addition_rnn() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((7, 12)),
            layers.LSTM(128),
            layers.RepeatVector(4),
            layers.LSTM(128, return_sequences=True),
            layers.Dense(12, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def lstm_autoencoder() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((30, 1)),
            layers.LSTM(64),
            layers.Dropout(0.2),
            layers.RepeatVector(30),
            layers.LSTM(64, return_sequences=True),
            layers.Dropout(0.2),
            layers.TimeDistributed(layers.Dense(1)),
        ]
    )
    model.compile("adam", "mae")
    return model


def positioned(tokens: keras.KerasTensor, words: int, width: int) -> keras.KerasTensor:
    """Words and learned positions, added: `(batch, length, width)`."""
    length = tokens.shape[1]
    return layers.Embedding(words, width)(tokens) + layers.Embedding(length, width)(
        ops.arange(length)
    )


def feed_forward(x: keras.KerasTensor, hidden: int) -> keras.KerasTensor:
    return layers.Dense(x.shape[-1])(layers.Dense(hidden, activation="relu")(x))


def character_transformer() -> keras.Model:
    """A small GPT: causal attention, normalized before each branch, clipped by the global norm."""
    tokens = keras.Input((64,), dtype="int32")
    x = layers.Dropout(0.1)(positioned(tokens, 65, 64))
    for _ in range(4):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(4, 16, dropout=0.1)(y, y, use_causal_mask=True)
        x = layers.Add()([x, y])
        y = feed_forward(layers.LayerNormalization()(x), 256)
        x = layers.Add()([x, layers.Dropout(0.1)(y)])
    model = keras.Model(tokens, layers.Dense(65)(layers.LayerNormalization()(x)))
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, 5000, warmup_target=1e-3, warmup_steps=100, alpha=0.1
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.1, beta_2=0.99, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def review_transformer() -> keras.Model:
    """keras.io: one block that is normalized after each sum."""
    tokens = keras.Input((100,), dtype="int32")
    x = positioned(tokens, 2000, 32)
    y = layers.Dropout(0.1)(layers.MultiHeadAttention(2, 32)(x, x))
    x = layers.LayerNormalization(epsilon=1e-6)(x + y)
    y = layers.Dropout(0.1)(feed_forward(x, 32))
    x = layers.LayerNormalization(epsilon=1e-6)(x + y)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    x = layers.Dropout(0.1)(layers.Dense(20, activation="relu")(x))
    model = keras.Model(tokens, layers.Dense(2, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def translation_transformer() -> keras.Model:
    """Vaswani et al. 2017, as keras.io has it: an encoder, a causal decoder that looks at it."""
    source = keras.Input((20,), dtype="int32", name="source")
    target = keras.Input((20,), dtype="int32", name="target")
    x = positioned(source, 500, 64)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 64)(x, x))
    encoded = layers.LayerNormalization()(x + feed_forward(x, 128))
    x = positioned(target, 500, 64)
    y = layers.MultiHeadAttention(4, 64)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization()(x + y)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 64)(x, encoded))
    x = layers.LayerNormalization()(x + feed_forward(x, 128))
    outputs = layers.Dense(500, activation="softmax")(layers.Dropout(0.5)(x))
    model = keras.Model([source, target], outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=0)
    model.compile("rmsprop", loss, metrics=["accuracy"])
    return model


def series_transformer() -> keras.Model:
    """keras.io: attention over a measured series, feed-forward by convolutions of width one."""
    inputs = x = keras.Input((120, 1))
    for _ in range(4):
        y = layers.MultiHeadAttention(4, 64, dropout=0.25)(x, x)
        y = layers.LayerNormalization(epsilon=1e-6)(layers.Dropout(0.25)(y))
        y = kept = y + x
        y = layers.Dropout(0.25)(layers.Conv1D(4, 1, activation="relu")(y))
        y = layers.LayerNormalization(epsilon=1e-6)(layers.Conv1D(1, 1)(y))
        x = y + kept
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    x = layers.Dropout(0.4)(layers.Dense(128, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    model.compile(
        keras.optimizers.Adam(1e-4),
        "sparse_categorical_crossentropy",
        metrics=["sparse_categorical_accuracy"],
    )
    return model


def wavenet() -> keras.Model:
    """van den Oord et al. 2016: gated causal convolutions, dilated, with residuals and skips."""
    inputs = keras.Input((128, 1))
    x = layers.Conv1D(32, 2, padding="causal")(inputs)
    skips = []
    for dilation in (1, 2, 4, 8) * 2:

        def conv(activation: str, rate: int = dilation) -> keras.Layer:
            return layers.Conv1D(32, 2, padding="causal", dilation_rate=rate, activation=activation)

        y = layers.Multiply()([conv("tanh")(x), conv("sigmoid")(x)])
        y = layers.Conv1D(32, 1)(y)
        skips.append(y)
        x = layers.Add()([x, y])
    x = layers.Activation("relu")(layers.Add()(skips))
    x = layers.Conv1D(32, 1, activation="relu")(x)
    model = keras.Model(inputs, layers.Conv1D(64, 1, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    return model


def series_convnet() -> keras.Model:
    """Wang et al. 2017: a fully convolutional classifier of series."""
    inputs = x = keras.Input((100, 1))
    for _ in range(3):
        x = layers.Conv1D(64, 3, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def next_frame() -> keras.Model:
    """keras.io: convolutional LSTMs that foretell moving digits."""
    inputs = x = keras.Input((None, 16, 16, 1))
    for size in (5, 3, 1):
        x = layers.ConvLSTM2D(16, size, padding="same", return_sequences=True, activation="relu")(x)
        if size > 1:
            x = layers.BatchNormalization()(x)
    outputs = layers.Conv3D(1, 3, activation="sigmoid", padding="same")(x)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "binary_crossentropy")
    return model


def speech_recognizer() -> keras.Model:
    """After Deep Speech 2: convolutions over a spectrogram, bidirectional GRUs, CTC."""
    inputs = keras.Input((64, 33))
    x = layers.Reshape((64, 33, 1))(inputs)
    for strides in ((2, 2), (1, 2)):
        x = layers.Conv2D(16, (11, 11), strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Reshape((-1, x.shape[-2] * x.shape[-1]))(x)
    for index in range(2):
        x = layers.Bidirectional(layers.GRU(32, return_sequences=True))(x)
        x = layers.Dropout(0.5)(x) if index == 0 else x
    x = layers.Dropout(0.5)(layers.Dense(64, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(32)(x))
    model.compile(keras.optimizers.Adam(1e-4), keras.losses.CTC())
    return model


SEQUENCES: dict[str, Callable[[], keras.Model]] = {
    make.__name__: make
    for make in (
        imdb_lstm,
        imdb_bidirectional_lstm,
        imdb_convnet,
        word_tagger,
        stacked_gru,
        character_lstm,
        sequence_to_sequence_lstm,
        translator_with_attention,
        addition_rnn,
        lstm_autoencoder,
        character_transformer,
        review_transformer,
        translation_transformer,
        series_transformer,
        wavenet,
        series_convnet,
        next_frame,
        speech_recognizer,
    )
}
